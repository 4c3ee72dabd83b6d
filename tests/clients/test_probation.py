"""A machine that sleeps, and clients that come back by themselves: loops and editors that were left open, and people.

The server is the real one, as a platform starts it: at a connection to its socket, after it has exited.
"""

import json
import os
import pwd
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import fly_api
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.fly_api import FakeFlyApi
from tests.support.forwards import free_port, socks5
from tests.support.server import Settings
from tests.support.sleeping_machine import RUN_WITH_SHORT_TIMES, TIMES, SleepingMachine, logins
from tests.support.suspending import freeze, suspending
from tests.support.vscode import ALIVE, Connection, install_script
from tests.support.waiting import PATIENCE

FIRST = ("-o", "StrictHostKeyChecking=accept-new")
"""For a client that comes before the host key exists."""

IDLE = {"timeout": "1s", "boot_grace": "1m", "client_idle": "2s", "lost_client_grace": "0s"}

PATIENT: Settings = {"idle": {"client_idle": f"{PATIENCE:.0f}s"}}
"""Settings with which the machine waits for a client for as long as the test does, instead of for two seconds."""

REFUSED, LEASH, SHORTEST = 0.3, 2.0, 0.5
"""How long the machine waits for a client that is refused, for the first that is let in, and for later ones."""

MARKER = "5f1c2e6a-0000-4000-8000-3c9d5a7b1e42"

SAID = b"pyssh-gateway: this machine sleeps, because nobody was using it; connect again to wake it\n"

Sleeps = Callable[[float], SleepingMachine]


def short_times(leash: float) -> dict[str, str]:
    """The environment of a server that waits so many seconds for the first client on probation that is let in."""
    times = {
        "REFUSED_SECONDS": REFUSED,
        "LEASH_SECONDS": leash,
        "SHORTEST_LEASH_SECONDS": SHORTEST,
        "PROMPT_SECONDS": PATIENCE,  # on a busy machine a loop's pauses differ, as if there were a person
    }
    return {TIMES: json.dumps(times)}


@pytest.fixture
def sleeps(tmp_path: Path, account: pwd.struct_passwd, user_key: KeyPair) -> Sleeps:
    """Makes a machine that waits so many seconds for the first client that comes back by itself and is let in."""

    def make(leash: float) -> SleepingMachine:
        return SleepingMachine(tmp_path, account, user_key.public, {"idle": IDLE}, short_times(leash))

    return make


@contextmanager
def loop(client: Client) -> Iterator[None]:
    """`while :; do ssh -N -D PORT; sleep 0.2; done` in a shell."""
    argv = client.argv(None, "-N", "-D", str(free_port()), *FIRST)
    shell = subprocess.Popen(
        ["sh", "-c", f"while :; do {shlex.join(argv)}; sleep 0.2; done"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=client_environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_a_loop_is_waited_for_less_and_less(sleeps: Sleeps, user_key: KeyPair) -> None:
    """Protects the bill from `ssh -N` in a loop: each second return is refused, then all, and none counts as use."""
    with sleeps(LEASH) as machine, loop(Client(machine, user_key.private)):
        machine.until_runs(9)
        waits = [wait for run in machine.runs for wait in logins(run)]
    assert waits[:9] == [None, REFUSED, LEASH, REFUSED, LEASH / 2, REFUSED, SHORTEST, REFUSED, REFUSED]
    stops = [event["detail"] for run in machine.runs for event in run if event["event"] == "server.stopping"]
    assert stops[0].startswith("idle for ")
    assert all(stop.endswith("from 127.0.0.1 came back by itself, and was not used") for stop in stops[1:9]), stops
    assert not [event for run in machine.runs for event in run if event["event"] == "client.used"]


@pytest.mark.parametrize("runs", [1, 7])
def test_a_person_is_let_in_at_once(sleeps: Sleeps, user_key: KeyPair, runs: int) -> None:
    """Protects people whose own loop is refused, also for good: their terminal opens at once, and keeps the machine."""
    with sleeps(SHORTEST) as machine:
        client = Client(machine, user_key.private)
        with loop(client):
            machine.until_runs(runs)
            with client.terminal("echo here; read x", *FIRST) as terminal:
                terminal.expect("here")
                used = machine.until_event("client.used")
                # The counters may show the terminal before the event of its session has arrived.
                assert machine.until_event("session.opened", conn=used["conn"])["tty"]
                assert not machine.find("request.denied", conn=used["conn"])
                idle = json.loads(as_root(client, "why", "--json").stdout)["idle"]
                assert idle["in_use"]
                terminal.send("\n")
                assert terminal.wait() == 0


@contextmanager
def window(client: Client, place: Path, proxy: int, script: str) -> Iterator[Connection]:
    """VS Code's attempt to open or to reopen its window."""
    with Connection(client, place, "sh", "-T", "-D", str(proxy), *FIRST) as ssh:
        ssh.send(script + ALIVE)
        ssh.end_input()
        yield ssh


@contextmanager
def at_work(proxy: int, port: int) -> Iterator[None]:
    """A person works in the window: its connection carries some kilobytes again and again."""
    done = threading.Event()
    sock = socks5(proxy, b"127.0.0.1", port)

    def work() -> None:
        with sock, suppress(OSError):
            while not done.wait(0.05):
                sock.sendall(b"x" * 4096)
                sock.recv(65536)

    working = threading.Thread(target=work)
    working.start()
    try:
        yield
    finally:
        done.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        working.join()


def test_an_editor_that_comes_back_is_refused_once(
    sleeps: Sleeps, user_key: KeyPair, started: Path, tmp_path: Path
) -> None:
    """Protects the bill and people: VS Code is refused after a stop; reloaded, its window opens, and is used."""
    script = install_script(MARKER, started)
    with sleeps(PATIENCE) as machine:
        client = Client(machine, user_key.private)
        with window(client, tmp_path, free_port(), script) as ssh:
            assert ssh.process.wait(PATIENCE) == 255  # nobody uses the window, and the machine stops
        machine.until_runs(1)
        machine.write_config(PATIENT)
        with window(client, tmp_path, free_port(), script) as ssh:  # by itself, after 0 s
            assert ssh.process.wait(PATIENCE) == 254
            assert ssh.errors.read_bytes() == SAID
            assert not ssh.received
        machine.until_runs(2)
        (denied,) = [event for event in machine.runs[1] if event["event"] == "request.denied"]
        assert denied["request"] == "exec"
        proxy = free_port()
        with window(client, tmp_path, proxy, script) as ssh:  # "Reload window"
            port = int(ssh.expect(r"listeningOn==127\.0\.0\.1:(\d+)=="))
            ssh.expect(f"{MARKER}: end\n")
            assert not machine.find("client.used")
            with at_work(proxy, port):
                used = machine.until_event("client.used")
            assert used["conn"] == machine.find("connection.authenticated")[0]["conn"]
        assert [logins(run) for run in (*machine.runs, machine.events)] == [[None], [REFUSED], [PATIENCE]]


def test_a_suspended_machine_is_resumed_for_less_and_less(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects the bill from suspends that a loop undoes within seconds, and its person, who is let in as always."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api) | {"idle": IDLE}
        server = make_server(settings, environ=api.environ | short_times(LEASH), start=False)
        server.wrapper = RUN_WITH_SHORT_TIMES
        server.start()
        client = Client(server, user_key.private)
        with loop(client):
            for stops, waits in enumerate([REFUSED, LEASH, REFUSED, LEASH / 2], start=1):
                server.wait_for("stop.step", step="suspend", outcome="ok", count=stops)
                since = server.mark()
                freeze(server)
                assert server.wait_for("connection.authenticated", since=since)["probation"] == waits
            with client.terminal("echo here; read x") as terminal:
                terminal.expect("here")
                server.wait_for("client.used", since=since)
                assert json.loads(as_root(client, "why", "--json").stdout)["idle"]["in_use"]
                terminal.send("\n")
        assert server.stop() == 0


def test_a_command_works_at_the_second_attempt(sleeps: Sleeps, user_key: KeyPair) -> None:
    """Protects scripts from being kept out: a command that was refused after a stop is run when it is tried again."""
    with sleeps(PATIENCE) as machine:
        client = Client(machine, user_key.private)
        assert client.run(None, "-N", *FIRST).status == 255
        machine.until_runs(1)
        machine.write_config(PATIENT)
        assert client.run("echo on").status == 254
        assert client.run("echo on") == (0, b"on\n", b"")


def test_a_scanner_that_has_left_already_costs_seconds(
    tmp_path: Path, account: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects the bill: a scanner that left while the machine was starting has woken it for nobody, too."""
    settings: Settings = {"idle": {"timeout": "10m", "wake_grace": "1s"}}
    with SleepingMachine(tmp_path, account, user_key.public, settings, {}) as machine:
        socket.create_connection(("127.0.0.1", machine.port), PATIENCE).close()
        machine.until_runs(1)
    (stop,) = [event for event in machine.runs[0] if event["event"] == "server.stopping"]
    assert stop["detail"] == "woken by 127.0.0.1, no login"
    assert not logins(machine.runs[0])
