"""How often and for how long the machine was awake for nobody in the last days, and which sources woke it.

A machine was awake for nobody if it stops for want of use and nothing has kept it up since it woke: a scanner has woken
it, or it was started and nobody came. An entry is made at the stop. Pure: the file and the clock are the caller's.

Days are whole days in UTC. Entries are dropped by day, by the clock of the machine, but those that lie ahead of that
clock are kept: a clock that was set back, or that begins in 1970 on a machine without a battery for it, must not lose
them. Their number is bounded all the same, because there are never more days than `DAYS`, and the day that was begun
first goes first.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Annotated, Literal

import msgspec

from pyssh_gateway.core.limits import source_of

DAYS = 7
"""How many days are remembered, today included: a working week with its weekend, in which habits repeat."""

DAY_SECONDS = 86400

MAX_SOURCES = 256
"""How many sources are told apart. The one that comes most often is what people look for, and stays. With a scan every
minute from a new address there are as many in four hours, and more would only lengthen the file and the answers. The
rest is counted together."""

MAX_NAME = 200
"""How many characters of a source's name are kept: more than an address has, and as many as a person's name needs."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""Limits far beyond what can happen, so that a damaged file can't make sums that are no numbers any more."""

Kind = Literal["address", "person", "start"]


class Source(msgspec.Struct, frozen=True):
    """What woke the machine.

    `kind` "address": a connection from `name`, an IPv4 address or an IPv6 /64, without a login. "person": a client of
    the person `name` that came back by itself and did nothing. "start": no connection, so it was started by hand, by a
    deploy or by its platform; the name is empty.
    """

    kind: Kind
    name: str = ""


class Tally(msgspec.Struct, frozen=True):
    """How often the machine was awake for nobody, for how many seconds in all, and when it stopped first and last.

    Times are Unix time.
    """

    count: _Count = 0
    seconds: _Seconds = 0.0
    first: _Seconds = 0.0
    last: _Seconds = 0.0


class Entry(msgspec.Struct, frozen=True):
    """What one source did."""

    source: Source
    tally: Tally


class Day(msgspec.Struct, frozen=True):
    """The entries of the day `day` (days since 1970), and those of the sources that are not told apart."""

    day: Annotated[int, msgspec.Meta(ge=0, le=10**7)]
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_SOURCES)] = ()
    others: Tally = Tally()


class Ledger(msgspec.Struct, frozen=True):
    """The days in the order in which they were begun, which is not that of the calendar if the clock was set back."""

    days: Annotated[tuple[Day, ...], msgspec.Meta(max_length=DAYS)] = ()

    def __post_init__(self) -> None:
        """Refuse what `add` never makes, as a damaged file may have it: it would be counted twice."""
        if len({day.day for day in self.days}) < len(self.days):
            raise ValueError("a day is there twice")
        if any(len({entry.source for entry in day.entries}) < len(day.entries) for day in self.days):
            raise ValueError("a source is there twice in a day")


class Summary(msgspec.Struct, frozen=True):
    """All of the last days: the sum, the sources, the longest awake first, and the rest that is not told apart."""

    total: Tally
    entries: tuple[Entry, ...]
    others: Tally


def awake_for_nobody(woken_by: str, *, logged_in: bool, needed: bool, on_probation: str = "") -> Source | None:
    """The source that a stop for want of use is counted under; None: the machine was up for somebody.

    `woken_by` and `logged_in` are `Wake`'s. `needed`: something has kept the machine up since it woke, which need not
    be a login: a hold, a schedule, work. `on_probation` is the person of which a client came back by itself and showed
    no sign of a person until the stop; it has logged in, and counts as nobody nevertheless. Empty: there was none.
    """
    if needed:
        return None
    if on_probation:
        return Source("person", _short(on_probation))
    if logged_in:
        return None
    return Source("address", _short(source_of(woken_by))) if woken_by else Source("start")


def add(ledger: Ledger, source: Source, seconds: float, now: float) -> Ledger:
    """The ledger with one more time awake, of `seconds`, that ends at the Unix time `now`."""
    today = _day(now)
    days = [day for day in ledger.days if not _is_over(day, today)]
    if all(day.day != today for day in days):
        days = [*days, Day(today)][-DAYS:]
    once = Tally(1, max(0.0, seconds), now, now)
    days = [_with(day, source, once) if day.day == today else day for day in days]
    totals = _by_source(days)
    if len(totals) > MAX_SOURCES:
        # A new source has come least often. So others go, or a new one could never be seen to come twice.
        rest = totals.keys() - {source}
        least_first = sorted(rest, key=lambda one: (totals[one].count, totals[one].last, one.kind, one.name))
        days = [_without(day, set(least_first[: len(totals) - MAX_SOURCES])) for day in days]
    return Ledger(tuple(days))


def summary(ledger: Ledger, now: float) -> Summary:
    """What the ledger has of the last `DAYS` days."""
    today = _day(now)
    days = [day for day in ledger.days if not _is_over(day, today)]
    totals = _by_source(days)
    others = _sum(day.others for day in days)
    most = sorted(totals.items(), key=lambda item: (-item[1].seconds, -item[1].count, item[0].kind, item[0].name))
    return Summary(
        total=_sum((others, *totals.values())),
        entries=tuple(Entry(source, tally) for source, tally in most),
        others=others,
    )


def _day(now: float) -> int:
    return int(max(0.0, now) // DAY_SECONDS)


def _is_over(day: Day, today: int) -> bool:
    return day.day <= today - DAYS


def _with(day: Day, source: Source, once: Tally) -> Day:
    before = next((entry.tally for entry in day.entries if entry.source == source), Tally())
    entries = tuple(entry for entry in day.entries if entry.source != source)
    return Day(day.day, (*entries, Entry(source, _sum((before, once)))), day.others)


def _without(day: Day, sources: AbstractSet[Source]) -> Day:
    """The day with the entries of `sources` counted among the others."""
    gone = [entry.tally for entry in day.entries if entry.source in sources]
    entries = tuple(entry for entry in day.entries if entry.source not in sources)
    return Day(day.day, entries, _sum((day.others, *gone)))


def _by_source(days: Iterable[Day]) -> dict[Source, Tally]:
    totals: dict[Source, Tally] = {}
    for day in days:
        for entry in day.entries:
            totals[entry.source] = _sum((totals.get(entry.source, Tally()), entry.tally))
    return totals


def _sum(tallies: Iterable[Tally]) -> Tally:
    counted = [tally for tally in tallies if tally.count]
    if not counted:
        return Tally()
    return Tally(
        sum(tally.count for tally in counted),
        sum(tally.seconds for tally in counted),
        min(tally.first for tally in counted),
        max(tally.last for tally in counted),
    )


def _short(name: str) -> str:
    """The beginning of a name, without halves of surrogate pairs, which JSON can't hold."""
    return name[:MAX_NAME].encode("utf-8", "replace").decode()
