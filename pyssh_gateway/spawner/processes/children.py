"""The processes that were started for one peer (starting, running, ended), and the reports about them.

Nothing here waits: a forked process is reported when it is ready, which its account can delay. This module does not
know whether the peer is the monitor or a postauth process, nor what it may request.
"""

import os
import signal
import time
from collections.abc import Callable

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import Child, SpawnError, Starting
from pyssh_gateway.system.descriptors import close_all

LAST_MOMENT_SECONDS = 0.25
"""A session that ended this shortly before its postauth process crashed counts as ended by the crash: the kernel closes
a dying process's terminals before its sockets, so the report of such an end may go to a socket that nobody reads."""

Report = Callable[[protocol.Report, list[int]], None]
"""Sends an answer with its descriptors, and closes them."""


class _Start:
    """A process that was forked for the request `number` and is not ready yet."""

    def __init__(self, number: int, starting: Starting, due: float, peer: str) -> None:
        self.number = number
        self.child = starting.child
        self.ready = starting.ready
        self.due = due
        self.peer = peer


class Children:
    """The children of one peer, which is told of them by `report`. Times are `time.monotonic()`'s."""

    def __init__(self, report: Report, records: LoginRecorder) -> None:
        self._report = report
        self._records = records
        self._starting: dict[int, _Start] = {}
        self._running: dict[int, tuple[int, Child]] = {}
        self._ended: list[float] = []

    def start(self, number: int, begin: Callable[[], Starting], peer: str = "") -> None:
        """Start a process for request `number`. It is reported when it is ready, or refused if `begin` raises."""
        try:
            starting = begin()
        except SpawnError as error:
            self._report(protocol.Refused(number, str(error)), [])
            return
        due = time.monotonic() + process.READY_SECONDS
        self._starting[starting.ready] = _Start(number, starting, due, peer)

    def kill(self, number: int) -> None:
        """Kill the process that was started for request `number`, and all of its process group."""
        for start in self._starting.values():
            if start.number == number:  # it may lead no group yet, and has no children
                os.kill(start.child.pid, signal.SIGKILL)
        for started_by, child in self._running.values():
            if started_by == number:
                process.signal_group(child.pid, signal.SIGKILL)

    # -- for the loop -----------------------------------------------------------------------------------------------

    @property
    def pending(self) -> list[int]:
        """The descriptors to poll: one becomes readable when its process is ready, or dead."""
        return list(self._starting)

    @property
    def pids(self) -> set[int]:
        """All children that have not ended."""
        return {start.child.pid for start in self._starting.values()} | set(self._running)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return min((start.due for start in self._starting.values()), default=None)

    def tick(self, now: float) -> None:
        """Children that are not ready in time count as started."""
        for start in [start for start in self._starting.values() if now >= start.due]:
            self.ready(start.ready)

    def ready(self, descriptor: int, _happened: int = 0) -> None:
        """Report a process by its descriptor of `pending`: it is ready, or has died, or was not ready in time."""
        start = self._starting.pop(descriptor, None)
        if start is None:
            return
        os.close(start.ready)
        child = start.child
        self._running[child.pid] = (start.number, child)
        self._report(protocol.Spawned(start.number, child.pid, child.tty), child.descriptors)
        if child.tty:
            self._records.login(child, start.peer)

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status` (of waitpid(2)); returns whether it is one of these."""
        for start in self._starting.values():
            if start.child.pid == pid:
                self.ready(start.ready)
                break
        if pid not in self._running:
            return False
        number, child = self._running.pop(pid)
        self._report(exited(number, status), [])
        if child.is_session:
            now = time.monotonic()
            self._ended = [when for when in self._ended if now - when < LAST_MOMENT_SECONDS] + [now]
        if child.tty:
            self._records.logout(child)
        return True

    # -- the peer's end -----------------------------------------------------------------------------------------------

    def sessions_of_a_crash(self) -> int:
        """How many sessions the peer had when it crashed, which was just now."""
        now = time.monotonic()
        ended = sum(now - when < LAST_MOMENT_SECONDS for when in self._ended)
        self._ended.clear()
        return ended + sum(child.is_session for _, child in self._running.values())

    def forget(self, *, hang_up: bool) -> None:
        """The peer is gone, and so are its terminals: forget its children, whose ends are not reported any more."""
        for start in self._starting.values():  # nobody gets their descriptors: the processes find the other ends closed
            os.close(start.ready)
            close_all(start.child.descriptors)
        self._starting.clear()
        for child in [child for _, child in self._running.values() if child.tty]:
            if hang_up:
                process.hang_up(child)
            self._records.logout(child)
        self._running.clear()


def exited(number: int, status: int) -> protocol.Exited:
    """The report that the process of request `number` has ended with `status` (of waitpid(2))."""
    if os.WIFSIGNALED(status):
        return protocol.Exited(number, None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return protocol.Exited(number, os.WEXITSTATUS(status), None, core_dumped=False)
