"""Refusals for the log: the first few of a source have a line each, the others are counted. None is lost. Pure.

Otherwise a source that is refused a thousand times a second could fill the log with megabytes of lines.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.events import ConnectionRefused

FIRST = 8
"""Refusals of a source that have a line each; sshd has as many, for all sources together (drop_connection, sshd.c)."""

PERIOD_SECONDS = 10.0
MAX_PERIOD_SECONDS = 60.0
"""The longest period for which further refusals are counted before they get a common line. The first period is short,
and each one is twice as long as the one before, so a source that continues has one line a minute in the end."""

MAX_SOURCES = 256
"""Sources that are counted separately. All others share their lines, or a thousand addresses together could flood the
log."""

_MANY = ""
"""The key under which the others are counted: no address is empty."""


class _Count:
    __slots__ = ("began", "last", "more", "period", "shown")

    def __init__(self, began: float, *, shown: int = 0, period: float = PERIOD_SECONDS) -> None:
        self.began = began
        self.period = period
        self.shown = shown
        self.more = 0
        self.last: ConnectionRefused | None = None


class RefusalTally:
    """Counts refusals. `now` is any monotonic clock, the same for every call."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def refused(self, event: ConnectionRefused, now: float) -> ConnectionRefused | None:
        """Count `event`. Returns the event to log now, if any."""
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
        """The events for periods that are over."""
        over = [name for name, count in self._counts.items() if now >= count.began + count.period]
        return list(self._close(over, now))

    def rest(self, now: float) -> list[ConnectionRefused]:
        """The events for all periods, which end now."""
        return list(self._close(list(self._counts), now))

    def next_due(self) -> float | None:
        """When the next period is over; None: no source is being counted."""
        return min((count.began + count.period for count in self._counts.values()), default=None)

    def _close(self, names: list[str], now: float) -> Iterator[ConnectionRefused]:
        for name in names:
            count = self._counts.pop(name)
            if count.last is None:
                continue
            reason = count.last.reason if name != _MANY else f"of many addresses, this the last: {count.last.reason}"
            yield replace(count.last, reason=reason, count=count.more, seconds=round(now - count.began, 3))
            # The source continues, so it gets no new lines of its own.
            self._counts[name] = _Count(now, shown=FIRST, period=min(2 * count.period, MAX_PERIOD_SECONDS))
