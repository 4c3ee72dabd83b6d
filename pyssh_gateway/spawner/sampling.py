"""Samples of what processes use, taken by a process of its own: looking at a user's process may hang.

What /proc says of a process may lie in that process's memory (environ), which the account can map to a file system of
its own (FUSE), or behind a lock that it holds. So the spawner forks somebody to look, and waits for nothing.
"""

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import activity
from pyssh_gateway.spawner.link import Link
from pyssh_gateway.spawner.processes import process

SAMPLE_SECONDS = 8.0
"""How long a sample may take, which is a tenth of a second on a machine full of processes; the gateway waits for it a
little longer."""


class Sampler:
    """Takes one sample at a time. Times are `time.monotonic()`'s.

    `besides` gives the children of the spawner that run for no session. `link` is that to the gateway, which gets the
    sample from the process that took it.
    """

    def __init__(self, besides: Callable[[int], set[int]], link: Callable[[], Link]) -> None:
        self._besides = besides
        self._link = link
        self._pid = 0
        self._kill_at: float | None = None

    @property
    def busy(self) -> bool:
        """Whether the one before is still being taken."""
        return bool(self._pid)

    def begin(self, number: int, now: float) -> None:
        """Take the sample that request `number` asks for. Raises OSError."""
        pid = process.fork()
        if pid == 0:
            self._sample(number)
        self._pid, self._kill_at = pid, now + SAMPLE_SECONDS

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return self._kill_at

    def tick(self, now: float) -> None:
        """End what takes too long. If it hangs in the kernel all the same, there are no samples, and that is all."""
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def reaped(self, pid: int) -> bool:
        """The child `pid` has ended; whether it was this one."""
        if not self._pid or pid != self._pid:
            return False
        self._pid, self._kill_at = 0, None
        return True

    def _sample(self, number: int) -> NoReturn:
        try:
            spawner, link = os.getppid(), self._link()
            # However long this takes, no session's descriptor is kept open by it.
            os.closerange(0, link.fileno())
            os.closerange(link.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            besides = self._besides(spawner) | {os.getpid()}
            link.report_alone(protocol.Activity(number, activity.sample(spawner, besides)))
        finally:
            os._exit(0)
