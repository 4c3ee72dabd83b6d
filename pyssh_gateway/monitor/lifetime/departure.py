"""The reason for which the monitor leaves, once there is one: an idle machine, a signal, or the spawner's end.

The parts that may ask for a stop are made before those that carry it out; both have this object.
"""

import asyncio
from collections.abc import Callable

from pyssh_gateway.monitor.lifetime.shutdown import StopReason


class Departure:
    """`wanted` is done when there is a reason."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wanted: asyncio.Future[StopReason] = loop.create_future()
        self._hurry: list[Callable[[], None]] = []

    def when_signalled(self, hurry: Callable[[], None]) -> None:
        """Have `hurry` called at every signal: a stop in progress has less time then."""
        self._hurry.append(hurry)

    def idle(self, why: str) -> None:
        """Nobody needs the machine."""
        if not self.wanted.done():
            self.wanted.set_result(StopReason("idle", why))

    def signal(self, detail: str) -> None:
        """We have to leave, which takes precedence over an idle machine."""
        for hurry in self._hurry:
            hurry()
        if self.wanted.done():  # by an idle stop that has not begun: `begin` would have made a new future
            self.wanted = self._loop.create_future()
        self.wanted.set_result(StopReason("signal", detail))

    def begin(self, reason: "asyncio.Future[StopReason]") -> None:
        """The stop for `reason` begins; a signal may still come during it."""
        if self.wanted is reason:
            self.wanted = self._loop.create_future()
