"""How the server exits: by signal, and not at all when its network side crashes."""

import os
import signal
import time

import pytest

from pyssh_gateway.spawner.supervisor import SAME_SIGNAL_SECONDS
from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.idle_stop import moment
from tests.support.waiting import AT_ONCE, PATIENCE, until

ATTEMPTS = 2

BACK_SECONDS = 1.0
"""The promise: within this time after a crash the next gateway serves."""

CRASHES = 4
"""Fewer crashes than make the spawner give up."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_an_unused_server_at_once(make_server: MakeServer, number: int) -> None:
    """Protects a platform's stop: exit code 0, at once, and with the last event in the log."""
    server = make_server({"stop": {"drain": "1m"}})
    began = time.monotonic()
    server.signal(number)
    assert server.wait() == 0
    assert time.monotonic() - began < AT_ONCE
    assert server.find("server.stopping", reason="signal", detail=signal.Signals(number).name)
    assert server.events[-1]["event"] == "server.stopped"


def test_terminals_are_told_and_hung_up(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person at a terminal: they read the reason, and their programs get SIGHUP and time to save."""
    server = make_server({"stop": {"drain": "1m"}})
    client = Client(server, user_key.private)
    with client.terminal("trap 'echo saved; exit 3' HUP; echo p=$$; while :; do sleep 0.05; done") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        terminal.expect("the server is stopping")
        terminal.expect("saved")
        assert terminal.wait() == 3
        assert server.wait() == 0
        assert time.monotonic() - began < AT_ONCE
    assert not processes.is_running(pid)


def test_shell_at_its_prompt_ends(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the everyday stop: an idle interactive shell is hung up, and not waited for; exit code 0."""

    def stop() -> float:
        server = make_server({"stop": {"drain": "20s"}})
        with Client(server, user_key.private).terminal() as terminal:
            pid = int(terminal.ask("echo p=$$", r"p=(\d+)")[1])
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            terminal.expect("the server is stopping")
            assert server.wait() == 0
            taken = time.monotonic() - began
        until(lambda: not processes.is_running(pid), what="end of the shell")
        return taken

    # Once in hundreds of times bash misses a signal that comes between its check for one and its sleep.
    assert any(stop() < AT_ONCE for _ in range(ATTEMPTS))


def test_stubborn_process_does_not_hold_the_stop(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the platform's kill timeout: a program that ignores SIGHUP is waited for only until the drain time."""
    server = make_server({"stop": {"drain": "1s"}})
    client = Client(server, user_key.private)
    with client.terminal("trap '' HUP TERM; echo p=$$; while :; do sleep 0.1; done") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        began = time.monotonic()
        assert server.stop() == 0
        taken = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    assert 0.9 < taken < 1 + AT_ONCE


def test_command_may_finish_within_the_drain_time(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a command without a terminal: it is not signalled, and may end with its own status in time."""
    server = make_server()
    ssh = Client(server, user_key.private).popen("echo go; sleep 1; echo end; exit 5")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"go\n"
    server.signal(signal.SIGTERM)
    out, _ = ssh.communicate(timeout=PATIENCE)
    assert (ssh.returncode, out) == (5, b"end\n")
    assert server.wait() == 0


def test_newcomers_are_refused_while_it_stops(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects against logins into a server that is stopping: they are refused at once, and do not hang."""
    server = make_server({"stop": {"drain": "1m"}})
    client = Client(server, user_key.private)
    ssh = client.popen("echo go; cat")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"go\n"
    server.signal(signal.SIGTERM)
    server.wait_for("server.stopping")
    began = time.monotonic()
    refused = client.run("true")
    assert (refused.status, time.monotonic() - began < AT_ONCE) == (255, True)
    ssh.communicate(timeout=PATIENCE)
    assert server.wait() == 0


def test_second_signal_stops_at_once(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person who presses Ctrl-C twice: after the second the server does not wait for anybody."""
    server = make_server({"stop": {"drain": "1m"}})
    client = Client(server, user_key.private)
    with client.terminal("trap '' HUP; echo p=$$; while :; do sleep 0.1; done") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        server.signal(signal.SIGTERM)
        server.wait_for("server.stopping")
        first = time.monotonic()
        # A second signal within this time counts as the same request; its end has no event to wait for.
        until(lambda: time.monotonic() > first + SAME_SIGNAL_SECONDS, what="end of the first signal's time")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began < AT_ONCE
    os.kill(pid, signal.SIGKILL)


def test_signal_to_the_whole_group_is_one_wish(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects Ctrl-C under make, where several processes pass the signal on: two signals at once count as one."""
    server = make_server()
    ssh = Client(server, user_key.private).popen("echo go; sleep 1; exit 5")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"go\n"
    processes.signal_together(server.pid, signal.SIGINT, signal.SIGTERM)
    ssh.communicate(timeout=PATIENCE)
    assert (ssh.returncode, server.wait()) == (5, 0)


@pytest.mark.alone
def test_killed_gateway_is_replaced(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the machine from a crash of the monitor: a new one serves within a second, and sessions go on."""
    server = make_server()
    client = Client(server, user_key.private)
    with client.terminal("echo p=$$; read line; echo got-$line; exit 3") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        session = server.wait_for("session.opened", pid=pid)["session"]
        first = server.gateway_pid
        os.kill(first, signal.SIGKILL)
        assert client.run("exit 4").status == 4
        crash = server.wait_for("gateway.crashed")
        assert (crash["pid"], crash["sessions"]) == (first, 0)
        assert "SIGKILL" in crash["cause"]
        assert server.wait_for("server.started", generation=2)["pid"] != first
        assert processes.is_running(pid)
        terminal.ask("still", "got-still")
        assert terminal.wait() == 3
    assert server.wait_for("session.closed", session=session)["exit_status"] == 3
    # Each crash is a new attempt: a busy machine may be late once, a slow server is late every time.
    taken = []
    for number in range(1, 1 + CRASHES):
        started = server.wait_for("server.started", generation=number + 1)
        taken.append(moment(started) - moment(server.wait_for("gateway.crashed", count=number)))
        if number < CRASHES:
            os.kill(started["pid"], signal.SIGKILL)
    assert min(taken) < BACK_SECONDS, taken
    assert server.stop() == 0


def test_gateway_that_keeps_crashing_is_given_up(make_server: MakeServer) -> None:
    """Protects the platform's restart policy: after six crashes in a minute the spawner gives up, exit code 1."""
    server = make_server()
    for generation in range(1, 7):
        os.kill(server.wait_for("server.started", generation=generation)["pid"], signal.SIGKILL)
    assert server.wait() == 1


def test_lost_spawner_takes_the_gateway_along(make_server: MakeServer) -> None:
    """Protects against half a server: without the spawner, which starts shells, the gateway exits as well."""
    server = make_server()
    server.signal(signal.SIGKILL)
    until(lambda: not processes.is_running(server.gateway_pid), what="end of the gateway")
    assert server.wait() == -signal.SIGKILL


def test_host_key_stays_the_same(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects clients' known hosts: a restarted server has the key that it had."""
    server = make_server()
    client = Client(server, user_key.private)
    assert client.run("true").status == 0
    pinned = server.known_hosts.read_text().split(" ", 1)[1]
    server.stop()
    server.start()
    assert server.known_hosts.read_text().split(" ", 1)[1] == pinned
    assert client.run("true").status == 0
