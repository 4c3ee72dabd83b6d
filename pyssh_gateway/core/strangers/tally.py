"""Refusals for the log: the first few of a source one by one, the others together. None is lost. Pure.

A source that is refused a thousand times a second would otherwise write megabytes into the log by that.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.events import ConnectionRefused

FIRST = 8
"""Refusals of a source that have a line each; sshd has as many, for all sources together (drop_connection, sshd.c)."""

PERIOD_SECONDS = 10.0
MAX_PERIOD_SECONDS = 60.0
"""How long others are counted before they have a line together: soon at first, and of a source that goes on for long,
whose periods become twice as long each time, once a minute."""

MAX_SOURCES = 256
"""Sources that are counted one by one. Those beyond have lines together, or a thousand addresses would write as much
as one can now."""

_MANY = ""
"""What those are counted under: no address is empty."""


class _Count:
    __slots__ = ("began", "last", "more", "period", "shown")

    def __init__(self, began: float, *, shown: int = 0, period: float = PERIOD_SECONDS) -> None:
        self.began = began
        self.period = period
        self.shown = shown
        self.more = 0
        self.last: ConnectionRefused | None = None


class RefusalTally:
    """Counts refusals. `now` is any clock that goes on steadily, the same for every call."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def refused(self, event: ConnectionRefused, now: float) -> ConnectionRefused | None:
        """Count `event`. Returns what is to be written now, if anything."""
        name = source_of(event.peer)
        if name not in self._counts and len(self._counts) >= MAX_SOURCES:
            name = _MANY
        count = self._counts.setdefault(name, _Count(now))
        if count.shown < FIRST:
            count.shown += 1
            return event
        count.more += 1
        count.last = event
        return None

    def due(self, now: float) -> list[ConnectionRefused]:
        """The lines of periods that are over."""
        over = [name for name, count in self._counts.items() if now >= count.began + count.period]
        return list(self._close(over, now))

    def rest(self, now: float) -> list[ConnectionRefused]:
        """The lines of all periods, which end with that."""
        return list(self._close(list(self._counts), now))

    def next_due(self) -> float | None:
        """When the next period is over; None: nobody is counted."""
        return min((count.began + count.period for count in self._counts.values()), default=None)

    def _close(self, names: list[str], now: float) -> Iterator[ConnectionRefused]:
        for name in names:
            count = self._counts.pop(name)
            if count.last is None:
                continue
            reason = count.last.reason if name != _MANY else f"of many addresses, this the last: {count.last.reason}"
            yield replace(count.last, reason=reason, count=count.more, seconds=round(now - count.began, 3))
            # It goes on, so it gets no new lines of its own.
            self._counts[name] = _Count(now, shown=FIRST, period=min(2 * count.period, MAX_PERIOD_SECONDS))
