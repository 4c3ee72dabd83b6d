"""What people and programs want to do in four weeks: drawn from a seed, before any machine is simulated.

Times are seconds from the midnight on which the first Monday begins.
"""

from itertools import pairwise
from random import Random
from typing import NamedTuple

from pyssh_gateway.core.idle.replay.spans import Span, merged, within

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0

DAYS = 28

END = DAYS * DAY + 12 * HOUR
"""The simulation ends at noon, when a window that was left open on the last evening has been closed."""

SPREAD = 15 * MINUTE
"""By how much the times of a working day vary, both ways."""

MORNING = 9 * HOUR
"""When a window is closed that was left open in the evening."""


class Window(NamedTuple):
    """An editor's window: when it is opened and closed, and when it is used.

    `drops` are times at which its computer loses its network and has another a moment later; in `sleeps` the computer
    is asleep.
    """

    opened: float
    closed: float
    uses: tuple[Span, ...]
    drops: tuple[float, ...] = ()
    sleeps: tuple[Span, ...] = ()


class Visit(NamedTuple):
    """A terminal in which somebody types from `begin` to `end`. It is closed at `closed`, and then a build may begin.

    `build` is how long the build runs in the background, 0 for none.
    """

    begin: float
    end: float
    closed: float
    build: float


def working_days() -> list[float]:
    """The midnights with which the weekdays begin."""
    return [day * DAY for day in range(DAYS) if day % 7 < 5]


def editor(random: Random, *, drops_a_day: float = 0.0, sleeping: bool = False) -> list[Window]:
    """A window for each weekday: used 9:20-12:25 and 13:25-18:00, open in between, and left open on some evenings.

    On 40 % of the days it is left open after work: on 60 % of these until 9:00 on a computer that stays awake, and
    otherwise on one that goes to sleep up to 90 minutes later. With `sleeping` the computer is a laptop that is also
    asleep at lunch, and in half of the pauses of more than 10 minutes.
    """
    return [_window(random, day, drops_a_day, sleeping=sleeping) for day in working_days()]


def _window(random: Random, day: float, drops_a_day: float, *, sleeping: bool) -> Window:
    times = (9 * HOUR + 20 * MINUTE, 12 * HOUR + 25 * MINUTE, 13 * HOUR + 25 * MINUTE, 18 * HOUR)
    first, lunch, back, end = (day + time + random.uniform(-SPREAD, SPREAD) for time in times)
    uses = (*_uses(random, first, lunch), *_uses(random, back, end))
    sleeps = []
    closed = end
    if random.random() < 0.4:
        closed = day + DAY + MORNING
        if random.random() >= 0.6:
            sleeps.append((end + random.uniform(0, 90) * MINUTE, closed))
    if sleeping:
        pauses = [(left + MINUTE, back - MINUTE) for (_, left), (back, _) in pairwise(uses)]
        sleeps += [pause for pause in pauses if pause[1] - pause[0] > 10 * MINUTE and random.random() < 0.5]
        sleeps.append((lunch + MINUTE, back - MINUTE))
    drops = sorted(random.uniform(first, first + DAY) for _ in range(round(drops_a_day)))
    return Window(first, closed, uses, tuple(drop for drop in drops if drop < closed), tuple(merged(sleeps)))


def _uses(random: Random, begin: float, end: float) -> list[Span]:
    """Use for 12 minutes and pauses of 5 on average."""
    uses = []
    now = begin
    while now < end:
        until = now + random.expovariate(1 / (12 * MINUTE))
        uses.append((now, until))
        now = until + random.expovariate(1 / (5 * MINUTE))
    return within(uses, begin, end)


def terminal(random: Random) -> list[Visit]:
    """Visits of 25 minutes, 70 minutes apart, weekdays 9-20 h; 35 % leave a build behind, 10 % are forgotten."""
    visits = []
    for day in working_days():
        now = day + 9 * HOUR + random.uniform(0, 30 * MINUTE)
        while now < day + 20 * HOUR:
            end = now + max(MINUTE, random.expovariate(1 / (25 * MINUTE)))
            build = random.uniform(3, 120) * MINUTE if random.random() < 0.35 else 0.0
            forgotten = random.uniform(1, 8) * HOUR if random.random() < 0.1 else 0.0
            visits.append(Visit(now, end, end + forgotten, build))
            now = end + random.expovariate(1 / (70 * MINUTE))
    return visits


def robot(random: Random) -> list[Span]:
    """4-14 visits a day of 5-90 s, at any time."""
    spans = []
    for day in range(DAYS):
        for _ in range(random.randint(4, 14)):
            begin = day * DAY + random.uniform(0, DAY)
            spans.append((begin, begin + random.uniform(5, 90)))
    return sorted(spans)


def scanner(random: Random, every: float) -> list[Span]:
    """A connection each `every` seconds on average; most last for a second, one of five is silent for 30 s.

    30 s are the default of `limits.login_grace`, after which the server closes it. `every` 0: there are none.
    """
    spans = []
    begin = random.expovariate(1 / every) if every else END
    while begin < END:
        spans.append((begin, begin + (30 * SECOND if random.random() < 0.2 else SECOND)))
        begin += random.expovariate(1 / every)
    return spans


def night() -> list[Window]:
    """One working day, whose window is left open until morning on a computer that stays awake."""
    uses = [(9 * HOUR + number * 20 * MINUTE, 9 * HOUR + (number * 20 + 15) * MINUTE) for number in range(27)]
    return [Window(9 * HOUR, DAY + MORNING, tuple(uses))]
