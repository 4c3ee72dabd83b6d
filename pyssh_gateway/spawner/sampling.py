"""Samples of what processes use, taken by a process of its own: looking at a user's process may hang.

What /proc says of a process may lie in that process's memory (environ), which the account can map to a file system of
its own (FUSE), or behind a lock that it holds. So the spawner forks somebody to look, and waits for nothing.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import activity, child
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.spawner.links.link import Link

SAMPLE_SECONDS = 8.0
"""How long a sample may take, which is a tenth of a second on a machine full of processes; the monitor waits for it a
little longer."""


class Sampler:
    """Takes one sample at a time. Times are `time.monotonic()`'s.

    `besides` gives the children of the spawner that run for no session. `link` is that to the monitor, which gets the
    sample from the process that took it.
    """

    def __init__(self, besides: Callable[[int], set[int]], link: Callable[[], Link[protocol.MonitorRequest]]) -> None:
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
        link, spawner = self._link(), os.getpid()
        if not link.is_open:  # whoever has asked is gone
            return

        def work() -> int:
            signal.alarm(2 * int(SAMPLE_SECONDS))  # if the spawner has not lived to end it, which has the same socket
            link.report_alone(protocol.Activity(number, activity.sample(spawner, self._besides(spawner), os.getpid())))
            return 0

        # However long this takes, no session's descriptor is kept open by it.
        setup = Setup(descriptors=(NULL, NULL, NULL), kept=frozenset({link.fileno()}))
        self._pid, self._kill_at = child.start(setup, work), now + SAMPLE_SECONDS

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
