"""Why the monitor leaves, as soon as there is a reason: an idle machine, a signal, or the spawner's end.

Parts that may ask for it are made before those that carry it out, and both have this.
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
        """Have `hurry` called at every signal: what is being done has less time then."""
        self._hurry.append(hurry)

    def idle(self, why: str) -> None:
        """Nobody needs the machine."""
        if not self.wanted.done():
            self.wanted.set_result(StopReason("idle", why))

    def signal(self, detail: str) -> None:
        """Somebody wants us to leave, which counts for more than an idle machine."""
        for hurry in self._hurry:
            hurry()
        if self.wanted.done():  # an idle stop that has not begun yet: what has begun has a new future already
            self.wanted = self._loop.create_future()
        self.wanted.set_result(StopReason("signal", detail))

    def begin(self, reason: "asyncio.Future[StopReason]") -> None:
        """What `reason` asks for is being done; a signal may come while we are about it."""
        if self.wanted is reason:
            self.wanted = self._loop.create_future()
