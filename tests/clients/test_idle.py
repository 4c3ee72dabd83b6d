"""When nobody needs the machine, the server exits on time, also during a port scan, and never with a client inside."""

import concurrent.futures
import random
import subprocess
import time

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, terminate
from tests.support.idle_stop import EARLY_SECONDS, LATE_SECONDS, moment, stops_after
from tests.support.scanner import Scanner
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

TOLERANCE_SECONDS = 0.5
"""The promised accuracy: the exit comes at the timeout, give or take this."""

ATTEMPTS = 3
"""How often the promise is tested at most: a busy machine is late sometimes, a slow server every time."""

STOPS = 20
CLIENTS = 10
"""Clients that come at the moment of each of the STOPS: 200 in all."""

TRY_SECONDS = 20.0
"""Each client has to be served or refused within this time. Twenty at once keep two cores busy for seconds."""


def test_timer_starts_at_boot(make_server: MakeServer) -> None:
    """Protects the bill: a machine that was woken without a login stops again."""
    server = make_server({"idle": {"timeout": "1s"}})
    assert stops_after(server, None, seconds=1)
    assert server.find("idle.reached", outcome="stop")[0]["message"] == "Stopping machine. Goodbye!"
    assert server.find("server.stopped", reason="idle", exit_code=0)


@pytest.mark.alone
def test_exit_comes_on_time_under_a_port_scan(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill from scanners: after the last client has left, exit code 0 at the timeout, within 0.5 s."""

    def lateness() -> float:
        server = make_server({"idle": {"timeout": "3s", "boot_grace": "1m"}})
        with Scanner(server.port) as scanner:
            assert Client(server, user_key.private).run("exit 3").status == 3
            left = time.monotonic()
            assert server.wait() == 0
            assert scanner.connections >= 10
        return server.stopped_at - left - 3

    assert any(abs(lateness()) < TOLERANCE_SECONDS for _ in range(ATTEMPTS))


def test_connection_without_a_session_counts_as_use(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects forwards and multiplexing masters: a logged-in client counts as use, with or without a shell."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m"}})
    ssh = Client(server, user_key.private).popen(None, "-N")
    server.wait_for("connection.authenticated")
    with pytest.raises(subprocess.TimeoutExpired):
        server.wait(2.5)
    terminate(ssh)
    ssh.communicate(timeout=PATIENCE)
    assert server.wait() == 0
    assert not server.find("idle.reached")[:-1]


def test_a_login_starts_the_timer_anew(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the person who comes back: the time counts from the end of the last connection."""
    server = make_server({"idle": {"timeout": "2s", "boot_grace": "1m"}})
    client = Client(server, user_key.private)
    for _ in range(3):
        assert client.run("sleep 0.8").status == 0
    assert stops_after(server, seconds=2)


def test_off_means_never(make_server: MakeServer) -> None:
    """Protects machines that are to stay up: with "off" (and with 0) there is no timer."""
    server = make_server({"idle": {"timeout": 0}})
    assert server.find("server.started")[0]["idle_timeout"] is None
    assert server.stop() == 0
    assert not server.find("idle.tick")


@pytest.mark.soak
def test_idle_time_is_told(make_server: MakeServer) -> None:
    """Protects the line that people look for in a platform's log: "Idle for 5s", every five seconds."""
    server = make_server({"idle": {"timeout": "11s"}})
    first = server.wait_for("idle.tick")
    assert 5 - EARLY_SECONDS <= moment(first) - server.launched_at < 5 + LATE_SECONDS
    assert (first["idle"], first["remaining"], first["message"]) == (5, 6, "Idle for 5s")
    assert server.wait() == 0
    assert [event["message"] for event in server.find("idle.tick")] == ["Idle for 5s", "Idle for 10s"]


@pytest.mark.soak
def test_clients_at_the_moment_of_the_stop(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects against half-open shells: a client that comes at that moment is served fully, or refused; none hangs.

    A client is served if its command ran to its end. A server that served somebody has to exit later than that.
    """

    def attempt(server: Server, moment: float) -> tuple[str, float]:
        client = Client(server, user_key.private)
        until(lambda: time.monotonic() >= moment, what="moment")
        began = time.monotonic()
        result = client.run("echo served; exit 7", seconds=TRY_SECONDS + 5)
        taken = time.monotonic() - began
        if result.status == 7 and result.stdout == b"served\n":
            return "served", taken
        assert (result.status, result.stdout) == (255, b""), result
        return "refused", taken

    def stop(number: int) -> list[tuple[str, float]]:
        server = make_server({"idle": {"timeout": "1s"}})
        # A login takes some 50 ms, ten at once on a busy machine half a second; the last look takes up to 250 ms. So
        # clients come from well before the end to just after it. A client that is served makes the server stay, so
        # each stop has its own moment.
        around = time.monotonic() + 0.2 + number / STOPS
        moments = [around + jitter.uniform(0, 0.05) for _ in range(CLIENTS)]
        with concurrent.futures.ThreadPoolExecutor(max_workers=CLIENTS) as clients:
            outcomes = list(clients.map(lambda moment: attempt(server, moment), moments))
        assert server.wait() == 0
        return outcomes

    jitter = random.Random(2)
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = [outcome for outcomes in pool.map(stop, range(STOPS)) for outcome in outcomes]
    assert len(outcomes) == STOPS * CLIENTS
    assert max(taken for _, taken in outcomes) < TRY_SECONDS
    # Both must have happened, otherwise the clients missed the moment.
    assert {outcome for outcome, _ in outcomes} == {"served", "refused"}
