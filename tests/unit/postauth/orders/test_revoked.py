"""postauth.revoked: a session's processes end with its key, and those that left the session stay; real processes."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from pyssh_gateway.postauth.orders import revoked as module
from pyssh_gateway.postauth.orders.revoked import Revoked
from tests.support import processes
from tests.support.waiting import until

Begin = Callable[[str], tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a shell command in its own session, which prints another process's pid; returns both processes."""
    started: list[subprocess.Popen[bytes]] = []
    others: list[int] = []

    def run(command: str) -> tuple[subprocess.Popen[bytes], int]:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        others.append(int(process.stdout.readline()))
        return process, others[-1]

    yield run
    for pid in others:
        if (found := processes.find(pid)) is not None and found.name == "sleep":
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    """A function that says whether the process has been reaped."""
    return lambda: process.poll() is not None


def hang_up(*sessions: subprocess.Popen[bytes], close: bool = False) -> None:
    """End these sessions, and wait until the grace period is over, or close."""

    async def whole() -> None:
        revoked = Revoked(asyncio.get_running_loop())
        for process in sessions:
            revoked.end(process.pid, ended(process))
            revoked.end(process.pid, ended(process))
        assert len(revoked) == len(sessions)
        if close:
            revoked.close()
        else:
            await asyncio.to_thread(until, lambda: not len(revoked))
        assert len(revoked) == 0

    asyncio.run(whole())


def test_a_command_is_hung_up(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine from `ssh host 'sleep 333'` of a revoked key: the command and its children end."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    process, child = begin("sleep 333 & echo $!; exec sleep 334")  # a shell that waits could end after its child
    hang_up(process)
    assert process.wait() == -signal.SIGHUP
    until(lambda: not processes.is_running(child), what="the child's end")


@pytest.mark.parametrize("close", [False, True], ids=["time", "stop"])
def test_what_ignores_it_is_killed(begin: Begin, monkeypatch: pytest.MonkeyPatch, close: bool) -> None:
    """Protects the machine from a command that ignores SIGHUP, as with nohup, even if the server stops meanwhile."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 3600.0 if close else 0.01)
    process, child = begin("trap '' HUP; sleep 333 & echo $!; exec sleep 334")
    hang_up(process, close=close)
    assert process.wait() == -signal.SIGKILL
    until(lambda: not processes.is_running(child), what="the child's end")


def test_what_has_left_the_session_stays(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a tmux server and daemons, which other users of the account may need."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    process, daemon = begin("setsid sh -c 'echo $$; exec sleep 333' & wait")
    hang_up(process)
    assert process.wait() == -signal.SIGHUP
    assert processes.is_running(daemon)


def test_a_number_that_is_another_s_by_now(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a new session whose leader has the pid of a process that has ended."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    process, child = begin("sleep 333 & echo $!; wait")

    async def whole() -> None:
        revoked = Revoked(asyncio.get_running_loop())
        revoked.end(process.pid, lambda: True)
        await asyncio.to_thread(until, lambda: not len(revoked))

    asyncio.run(whole())
    assert process.poll() is None
    assert processes.is_running(child)
