"""A connection's turns of the loop: how much it may do in one, and when it goes on with the rest.

All connections share one loop. A connection with more to do than a turn's budget continues after all others had their
turn. A connection that uses up turn after turn also rests, for as long as it has worked: otherwise this process would
be busy all the time, and the kernel would let it wait for other processes just when a user's keystroke arrives.
"""

import asyncio
from collections.abc import Callable

PACKETS = 64
"""Packets of one connection in a turn, in each direction. One takes 5 us to 100 us, so that others wait for a few
milliseconds at most; a transfer has eight packets in a read."""

SECONDS = 0.002
"""How long one connection may have the loop in a turn. Some packets cost a hundred times as much as others (opening a
channel, proving a host key), and on a slow machine all of them do. Users notice an echo that is later than 20 ms."""

TURNS_BEFORE_REST = 4
"""Turns used up in a row before a rest: a burst of a few hundred packets passes without one, at 30,000 and more a
second. During a flood, keystrokes are echoed in a third of the time that it takes without rests."""

MAX_REST_SECONDS = 0.05
"""The longest rest. The work before it is measured in elapsed time, which includes the turns of other connections: so
however many connections are busy, half of the time stays free."""


class Turns:
    """Decides when one direction of a connection continues. `go_on` is called for each further turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], None]) -> None:
        self._loop = loop
        self._go_on = go_on
        self._next: asyncio.Handle | None = None
        self._used_up = 0
        self._busy_since = 0.0

    @property
    def is_due(self) -> bool:
        """Whether a further turn is scheduled."""
        return self._next is not None

    def next(self) -> None:
        """Continue in the next turn of the loop."""
        if self._next is None:
            self._next = self._loop.call_soon(self._run)

    def used_up(self) -> None:
        """The turn's budget is used up and there is more to do: continue in the next turn, or after a rest."""
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
        """End for good. `go_on` is dropped because it refers to the connection, which can then be freed at once."""
        self._go_on = _nothing
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _run(self) -> None:
        self._next = None
        self._go_on()


def _nothing() -> None:
    pass
