"""What a session leaves behind: a build keeps the machine up until it is done; no other process does."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.idle_stop import LATE_SECONDS, moment, stops_after
from tests.support.server import Server

TIMEOUT_SECONDS = 1.8
INTERVAL_SECONDS = TIMEOUT_SECONDS / 3
"""Time between two looks at the processes; it follows from the timeout."""

COMPILER = "timeout 0.4 sh -c 'while :; do :; done'"
"""Processes that live for less than an interval, like those of a compiler."""


@pytest.fixture
def left_behind(scratch: Path) -> Iterator[Path]:
    """A file for the pid of the process that a session leaves behind; it is killed at the end with its descendants."""
    path = scratch / "pid"
    yield path
    if path.exists():
        pid = int(path.read_text())
        for process in (*processes.descendants(pid), processes.find(pid)):
            if process is not None and processes.is_running(process.pid):
                os.kill(process.pid, signal.SIGKILL)


def leave(server: Server, key: KeyPair, command: str, pid_file: Path) -> None:
    """Log in, start `command` under nohup, and log out."""
    started = f"nohup sh -c '{command.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}' >/dev/null 2>&1 </dev/null"
    assert Client(server, key.private).run(f"{started} & echo $! > {pid_file}").status == 0


def serve(make_server: MakeServer, **idle: object) -> Server:
    """A server that stops soon when idle, and that looks for background work."""
    return make_server({"idle": {"timeout": TIMEOUT_SECONDS, "boot_grace": "1m", "background": "cpu", **idle}})


def test_a_build_keeps_the_machine_up_until_it_is_done(
    make_server: MakeServer, user_key: KeyPair, left_behind: Path
) -> None:
    """Protects a build that runs on after the laptop was closed: the machine stops after the build, and not before."""
    server = serve(make_server)
    done = left_behind.with_name("done")
    leave(server, user_key, f"for unit in 1 2 3 4 5 6 7 8; do {COMPILER}; done; touch {done}", left_behind)
    assert server.wait() == 0
    ended = done.stat().st_mtime
    assert ended - moment(server.find("connection.closed")[-1]) > TIMEOUT_SECONDS
    # One interval in which the build still worked, two in which it did not, and the timeout.
    waited = moment(server.find("idle.reached")[-1]) - ended
    assert TIMEOUT_SECONDS < waited < TIMEOUT_SECONDS + 3 * INTERVAL_SECONDS + LATE_SECONDS
    first, *_, last = server.find("background.work")
    assert first["seconds"] >= INTERVAL_SECONDS
    assert first["what"].endswith(f" of {server.login}")
    assert last["seconds"] == 0
    assert server.find("server.stopping", reason="idle")


def test_what_only_waits_does_not_keep_the_machine_up(
    make_server: MakeServer, user_key: KeyPair, left_behind: Path
) -> None:
    """Protects the bill from an editor's server that was left behind: it exists, but does nothing."""
    server = serve(make_server)
    leave(server, user_key, "sleep 1000", left_behind)
    assert stops_after(server, seconds=TIMEOUT_SECONDS)
    assert not server.find("background.work")


def test_work_without_end_ends_with_the_limit(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill from a program that spins: it keeps the machine up to the limit only, and the log says so."""
    server = serve(make_server, background_max="1s")
    leave(server, user_key, "while :; do :; done", left_behind)
    assert stops_after(server, seconds=1 + TIMEOUT_SECONDS)
    assert server.find("background.work")[-1]["what"].startswith("what idle.background_max allows to ")


def test_it_can_be_ignored(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the default: unless configured otherwise, the machine stops when nobody is on, whatever still runs."""
    server = serve(make_server, background="ignore")
    leave(server, user_key, "while :; do :; done", left_behind)
    assert stops_after(server, seconds=TIMEOUT_SECONDS)
    assert not server.find("background.work")
