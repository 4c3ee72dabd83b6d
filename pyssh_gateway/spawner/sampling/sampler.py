"""Samples of the resources that processes use, taken in a child: reading /proc of a user's process may hang.

Some of /proc is read from the process's memory (environ), which the account can map to a file system of its own (FUSE),
or needs a lock that the process holds. So the spawner forks a child to read it, and does not wait for the child.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.sampling import activity

SAMPLE_SECONDS = 8.0
"""How long a sample may take. On a machine full of processes it takes a tenth of a second. The monitor waits a little
longer than this."""


class Sampler:
    """Takes one sample at a time. Times are `time.monotonic()`'s.

    `besides` gives the children of the spawner that run for no session. `link` gives the link to the monitor, on which
    the child sends the sample itself.
    """

    def __init__(self, besides: Callable[[int], set[int]], link: Callable[[], Link[protocol.MonitorRequest]]) -> None:
        self._besides = besides
        self._link = link
        self._pid = 0
        self._kill_at: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a sample is being taken."""
        return bool(self._pid)

    def begin(self, number: int, now: float) -> None:
        """Take the sample that request `number` asks for. Raises OSError."""
        link, spawner = self._link(), os.getpid()
        if not link.is_open:  # the monitor that has asked is gone
            return

        def work() -> int:
            signal.alarm(2 * int(SAMPLE_SECONDS))  # in case the spawner, whose socket the child shares, dies
            link.report_alone(protocol.Activity(number, activity.sample(spawner, self._besides(spawner), os.getpid())))
            return 0

        # The child keeps no session's descriptor open, however long it takes.
        setup = Setup(descriptors=(NULL, NULL, NULL), kept=frozenset({link.fileno()}))
        self._pid, self._kill_at = child.start(setup, work), now + SAMPLE_SECONDS

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return self._kill_at

    def tick(self, now: float) -> None:
        """Kill a child that takes too long. If it hangs in the kernel even then, only further samples are missing."""
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def reaped(self, pid: int) -> bool:
        """The child `pid` has ended; returns whether it was this one."""
        if not self._pid or pid != self._pid:
            return False
        self._pid, self._kill_at = 0, None
        return True
