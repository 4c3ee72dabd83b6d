"""A client that is logged in and silent: strace(1) shows that the server does almost nothing."""

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

KEEPALIVE_SECONDS = 0.3
"""Instead of 30 s. System calls are counted for each keepalive, so a short interval measures the same sooner."""

ROUNDS = 5

CALLS_FOR_A_KEEPALIVE = {
    # The loop sleeps until the next keepalive is due, and until its answer comes; then it wakes a task, which wakes
    # another, and before each turn the loop polls for new events. With a keepalive of 30 s these are 20 system calls a
    # minute in all.
    "epoll_wait": 2 + 2 * 2,
    "getrandom": 1,  # the packet's padding (RFC 4253 section 6)
    "sendto": 1,
    "recvfrom": 1,
    "getpid": 1,  # asyncio checks whether it has been forked, in Python 3.11
}


class Call(NamedTuple):
    """A system call that a process began."""

    pid: int
    name: str


class Trace:
    """strace on the spawner, the monitor and all other processes of the server, with all their threads."""

    def __init__(self, server: Server, path: Path) -> None:
        self._path = path
        pids = [server.pid, *(process.pid for process in processes.descendants(server.pid))]
        command = ["strace", "-f", "-o", str(path), *(f"--attach={pid}" for pid in pids)]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._strace.stderr is not None
        refused = [said for _ in pids if "attached" not in (said := self._strace.stderr.readline())]
        # A process that has ended in this moment can't be traced anywhere.
        lasting = [said for said in refused if any(f", {pid})" in said and processes.is_running(pid) for pid in pids)]
        if any("not permitted" in said for said in lasting):
            self.end()
            pytest.skip(f"processes can't be traced here: {lasting[0].strip()}")
        assert not lasting

    def calls(self) -> list[Call]:
        """The calls so far; the resumption of an interrupted call does not count."""
        lines = re.findall(r"^(\d+) +(\w+)\(", self._path.read_text(), re.MULTILINE)
        return [Call(int(pid), name) for pid, name in lines]

    def end(self) -> None:
        """Detach from the processes."""
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("settings", [{}, {"background": "cpu", "timeout": "1s"}], ids=["default", "background"])
def test_a_silent_client_costs_its_keepalives(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Protects the battery and the bill: nothing polls, and only the process that serves the client does anything.

    This also holds with the watch for background work: while a client is on, that watch does nothing.
    """
    server = make_server(
        {
            "session": {"keepalive": KEEPALIVE_SECONDS, "keepalive_misses": 100},
            "idle": {"timeout": "1h", **settings},
            "metrics": {"listen": str(tmp_path / "metrics.sock")},
        }
    )
    with Client(server, user_key.private).popen(None, "-N") as ssh:
        try:
            server.wait_for("connection.authenticated")
            # By then the files of the log have been looked at, too, which happens once, after a start.
            until(lambda: server.checkpoints, what="the log's signature")
            (postauth,) = [each.pid for each in processes.descendants(server.pid) if each.name == "pyssh-postauth"]
            trace = Trace(server, tmp_path / "calls")
            asked = Call(postauth, "sendto")
            # One more at each end, since only calls between two keepalives are counted.
            until(lambda: trace.calls().count(asked) > ROUNDS + 1, what=f"{ROUNDS} keepalives")
            trace.end()
        finally:
            ssh.kill()

    calls = trace.calls()
    first = calls.index(asked, calls.index(asked) + 1)
    after = calls[first + 1 :]
    last = len(after) - 1 - after[::-1].index(asked)
    between = after[: last + 1]
    rounds = between.count(asked)
    assert rounds >= ROUNDS - 1
    made = Counter(call.name for call in between if call.pid == postauth)
    elsewhere = [call for call in between if call.pid != postauth]
    assert {call.pid for call in elsewhere} <= {server.gateway_pid}
    # The monitor checks once, a second after the login's last line, whether the log's file is still in its place.
    assert Counter(call.name for call in elsewhere) <= Counter(["readlink", "newfstatat", "epoll_wait"])
    assert made.pop("brk", 0) <= 1  # the allocator's heap may have been full at that moment
    assert made.keys() <= CALLS_FOR_A_KEEPALIVE.keys()
    assert all(count <= rounds * CALLS_FOR_A_KEEPALIVE[name] for name, count in made.items()), (made, rounds)
