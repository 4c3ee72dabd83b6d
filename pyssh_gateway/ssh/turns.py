"""A connection's turns of the loop: how much it may do in one, and when it goes on with the rest.

All connections share one loop. One that has more to do than a turn's budget goes on after all others had their turn.
One that uses up turn after turn also rests, as long as it has worked: else this process would be busy all the time, and
the kernel would let it wait for other processes just when somebody's key arrives.
"""

import asyncio
from collections.abc import Callable

PACKETS = 64
"""Packets of one connection in a turn, each way. One takes 5 us to 100 us, so that others wait for a few milliseconds
at most; a transfer has eight of them in a read."""

SECONDS = 0.002
"""How long one connection may have the loop in a turn. Some packets cost a hundred times what others do (a channel that
is opened, a proof of a host key), and all of them do on a slow machine. An echo is felt to be late after 20 ms."""

TURNS_BEFORE_REST = 4
"""Turns used up in a row before a rest: a burst of a few hundred packets passes without one, at 30,000 and more a
second. Keys under a flood come back in a third of the time that they take without rests."""

MAX_REST_SECONDS = 0.05
"""No rest is longer. The work before it is measured by the clock, so that it counts what others did between the turns:
however many connections are at it, they leave half of the time."""


class Turns:
    """When one direction of a connection goes on. `go_on` is called for each further turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], None]) -> None:
        self._loop = loop
        self._go_on = go_on
        self._next: asyncio.Handle | None = None
        self._used_up = 0
        self._busy_since = 0.0

    @property
    def is_due(self) -> bool:
        """Whether there is a further turn to come."""
        return self._next is not None

    def next(self) -> None:
        """Go on in the next turn of the loop."""
        if self._next is None:
            self._next = self._loop.call_soon(self._run)

    def used_up(self) -> None:
        """All that a turn may do has been done, and there is more: go on in the next turn, or after a rest."""
        if self._next is not None:
            return
        now = self._loop.time()
        if not self._used_up:
            self._busy_since = now
        self._used_up += 1
        if self._used_up < TURNS_BEFORE_REST:
            self.next()
            return
        worked = now - self._busy_since
        self._used_up = 0
        self._next = self._loop.call_later(min(worked, MAX_REST_SECONDS), self._run)

    def done(self) -> None:
        """There is nothing more to do."""
        self._used_up = 0

    def end(self) -> None:
        """No further turn, ever. `go_on` is forgotten: it leads back to the connection, which is to be freed now."""
        self._go_on = _nothing
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _run(self) -> None:
        self._next = None
        self._go_on()


def _nothing() -> None:
    pass
