"""When the machine was awake and why, as the report shows it: totals, costs, and a row for each day."""

from collections.abc import Iterable, Sequence

import msgspec

from pyssh_gateway.audit.report import words
from pyssh_gateway.core.idle.what_if.history import Awake, End
from pyssh_gateway.core.idle.what_if.reasons import ORDER, Stretch, Wake, Why
from pyssh_gateway.core.limits import source_of

DAY = 86400.0
HOUR = 3600.0
MINUTES = 1440
"""The width of a day's bar, in its own units."""

MOST_BARS = 240
"""Of a day with more stretches, such as one of a scanned machine, each five minutes show the strongest reason."""

SLOT = 5
"""The minutes of such a step."""

THINNEST = 2.0
"""A stretch is drawn no thinner than this many minutes, or a short one could not be seen."""

SHOWN_WAKERS = 10

LABELS: dict[Why, tuple[str, str]] = {
    "used": ("People at work", "a client, or a terminal that was left behind, was in use"),
    "hold": ("Holds", "somebody held it, and nobody used a client"),
    "work": ("Background work", "what sessions had left behind was working, and nobody used a client"),
    "connected": ("People connected", "a client was on that nobody used just then"),
    "schedule": ("Working hours", "it was to be up by its schedule"),
    "nobody": ("Nobody", "it waited for somebody to come, or for its stop"),
}
"""What each reason is called, and what it means."""

ENDS: dict[End, str] = {
    "idle": "stopped because nobody needed it",
    "suspend": "suspended because nobody needed it",
    "signal": "told to stop",
    "lost": "ended without a word: killed, crashed, or suspended by its platform",
    "open": "still awake at the end of the log; what came after its last line is not known",
}
"""How a time awake can end."""


STILL = "awake now: the server runs"
"""Instead of `open`, if that is known."""


class Total(msgspec.Struct, frozen=True):
    """How long the machine was awake for a reason. `cost` is None without a price; `share` is of the time awake."""

    why: Why
    label: str
    meaning: str
    seconds: float
    share: float
    cost: float | None


class Bar(msgspec.Struct, frozen=True):
    """A stretch of a day, in minutes from midnight."""

    x: float
    width: float
    why: Why
    title: str


class Day(msgspec.Struct, frozen=True):
    """A day, `begun` at its midnight, with its bars and the seconds for each reason. `note` says it in words."""

    begun: float
    bars: list[Bar]
    seconds: float
    note: str
    cost: float | None
    covered: tuple[float, float]


class Waker(msgspec.Struct, frozen=True):
    """A source that woke the machine for nobody."""

    name: str
    count: int
    seconds: float


class AwakeView(msgspec.Struct, frozen=True):
    """All of it. `ends` are how often a time awake ended in which way."""

    seconds: float
    whole: float
    totals: list[Total]
    days: list[Day]
    earlier: list[Day]
    wakes: int
    for_nobody: int
    for_nobody_seconds: float
    wakers: list[Waker]
    ends: list[tuple[str, int]]
    cost: float | None
    always_on: float | None


SHOWN_DAYS = 62
"""Days before these are folded away."""


def view(
    stretches: Sequence[Stretch],
    wakes: Sequence[Wake],
    awake: Iterable[Awake],
    *,
    begun: float,
    ended: float,
    price: float | None,
    running: bool = False,
) -> AwakeView:
    """What is shown of the time from `begun` to `ended`; `price` is that of an hour; `running`: the server is, now."""
    by_reason = dict.fromkeys(ORDER, 0.0)
    for one in stretches:
        by_reason[one.why] += one.ended - one.begun
    seconds, whole = sum(by_reason.values()), max(ended - begun, 0.0)
    days = _days(stretches, begun, ended, price)
    nobody = [one for one in wakes if one.is_for_nobody]
    ends: dict[End, int] = {}
    for time in awake:
        ends[time.end] = ends.get(time.end, 0) + 1
    return AwakeView(
        seconds=seconds,
        whole=whole,
        totals=[
            Total(why, *LABELS[why], time, time / seconds if seconds else 0.0, _cost(time, price))
            for why, time in by_reason.items()
        ],
        days=days[-SHOWN_DAYS:],
        earlier=days[:-SHOWN_DAYS],
        wakes=len(wakes),
        for_nobody=len(nobody),
        for_nobody_seconds=sum(one.ended - one.begun for one in nobody),
        wakers=_wakers(nobody),
        ends=[(STILL if running and end == "open" else ENDS[end], ends[end]) for end in ENDS if end in ends],
        cost=_cost(seconds, price),
        always_on=_cost(whole, price),
    )


def _cost(seconds: float, price: float | None) -> float | None:
    return None if price is None else seconds / HOUR * price


def _wakers(nobody: Iterable[Wake]) -> list[Waker]:
    found: dict[str, tuple[int, float]] = {}
    for one in nobody:
        name = source_of(one.woken_by) if one.woken_by else ""
        times, seconds = found.get(name, (0, 0.0))
        found[name] = times + 1, seconds + one.ended - one.begun
    most = sorted(found.items(), key=lambda item: -item[1][1])
    return [Waker(name, *counts) for name, counts in most[:SHOWN_WAKERS]]


def _days(stretches: Sequence[Stretch], begun: float, ended: float, price: float | None) -> list[Day]:
    """A row for each day, also for those on which the machine slept."""
    by_day: dict[int, list[Stretch]] = {}
    for one in stretches:
        for number in range(int(one.begun // DAY), int(one.ended // DAY) + 1):
            begin, end = max(one.begun, number * DAY), min(one.ended, (number + 1) * DAY)
            if begin < end:
                by_day.setdefault(number, []).append(Stretch(begin, end, one.why))
    first, last = int(begun // DAY), int(max(begun, ended - 1) // DAY)
    return [_day(number * DAY, by_day.get(number, []), begun, ended, price) for number in range(first, last + 1)]


def _day(midnight: float, parts: list[Stretch], begun: float, ended: float, price: float | None) -> Day:
    by_reason = dict.fromkeys(ORDER, 0.0)
    for one in parts:
        by_reason[one.why] += one.ended - one.begun
    seconds = sum(by_reason.values())
    times = [f"{LABELS[why][0].lower()} {words.duration(time)}" for why, time in by_reason.items() if time >= 1]
    return Day(
        begun=midnight,
        bars=_bars(midnight, parts),
        seconds=seconds,
        note=", ".join(times) if times else "asleep",
        cost=_cost(seconds, price),
        covered=(max(0.0, (begun - midnight) / 60), min(float(MINUTES), (ended - midnight) / 60)),
    )


def _bars(midnight: float, parts: list[Stretch]) -> list[Bar]:
    if len(parts) > MOST_BARS:
        parts = _steps(midnight, parts)
    bars = []
    for one in parts:
        x, end = (one.begun - midnight) / 60, (one.ended - midnight) / 60
        width = max(end - x, THINNEST)
        span = f"{words.clock(one.begun)} to {words.clock(one.ended)}, {words.duration(one.ended - one.begun)}"
        bars.append(
            Bar(round(min(x, MINUTES - width), 2), round(width, 2), one.why, f"{LABELS[one.why][0]}: {span} UTC")
        )
    # Drawn in this order: a short stretch of a strong reason must not be hidden behind a wide one.
    return sorted(bars, key=lambda bar: -ORDER.index(bar.why))


def _steps(midnight: float, parts: list[Stretch]) -> list[Stretch]:
    """The day in steps, each with its strongest reason; steps that touch and have the same one are joined."""
    strongest: dict[int, int] = {}
    for one in parts:
        rank = ORDER.index(one.why)
        first, last = ((at - midnight) / 60 / SLOT for at in (one.begun, one.ended))
        for place in range(int(first), max(int(first) + 1, int(-(-last // 1)))):
            strongest[place] = min(rank, strongest.get(place, rank))
    joined: list[Stretch] = []
    for place, rank in sorted(strongest.items()):
        begin, end = (midnight + at * SLOT * 60 for at in (place, place + 1))
        if joined and joined[-1].why == ORDER[rank] and joined[-1].ended == begin:
            joined[-1] = Stretch(joined[-1].begun, end, ORDER[rank])
        else:
            joined.append(Stretch(begin, end, ORDER[rank]))
    return joined
