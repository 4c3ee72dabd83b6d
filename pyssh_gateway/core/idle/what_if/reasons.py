"""Why the machine was awake, moment by moment: a history divided into stretches with one reason each.

A moment can have several reasons. It counts for the first of these that holds then:

| reason | the machine was up, and |
| --- | --- |
| `used` | somebody used a client, or a terminal that a session had left behind (mosh) |
| `hold` | somebody held it |
| `work` | processes that sessions had left behind were working |
| `connected` | a client was on that nobody used just then, but that still kept the machine up |
| `schedule` | it was one of the hours in which it stays up |
| `nobody` | nothing kept it up: it waited for somebody to come, or for its stop |

A connection whose use was not recorded counts as used.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from pyssh_gateway.core.idle.replay.spans import merged, total
from pyssh_gateway.core.idle.wake import WAKE_SECONDS
from pyssh_gateway.core.idle.what_if.history import Connection, History, Span

Why = Literal["used", "hold", "work", "connected", "schedule", "nobody"]

ORDER: tuple[Why, ...] = ("used", "hold", "work", "connected", "schedule", "nobody")
"""The reasons, the strongest first."""


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """The machine was up from `begun` to `ended`, for this reason all the time."""

    begun: float
    ended: float
    why: Why


class Wake(msgspec.Struct, frozen=True, gc=False):
    """A time awake, for nobody if nothing kept the machine up from the beginning to the end.

    `woken_by` is the address of the first connection, if it came soon enough to be the cause, and else empty.
    """

    begun: float
    ended: float
    woken_by: str
    is_for_nobody: bool


def stretches(history: History) -> list[Stretch]:
    """All of the time awake, in order. The stretches do not overlap, and cover each time awake without a gap."""
    rest = awake_spans(history)
    spans = _spans(history)
    found: list[Stretch] = []
    for why in ORDER[:-1]:
        inside, rest = _split(rest, merged(spans[why]))
        found += (Stretch(begun, ended, why) for begun, ended in inside)
    found += (Stretch(begun, ended, "nobody") for begun, ended in rest)
    found.sort(key=lambda one: one.begun)
    return found


def wakes(history: History, found: Sequence[Stretch]) -> list[Wake]:
    """The times awake, each with what woke the machine. `found` are the stretches of this history."""
    needed = [one.begun for one in found if one.why != "nobody"]
    opened = [one.opened for one in history.connections]
    result = []
    for awake in history.awake:
        first = bisect_left(opened, awake.begun)
        is_cause = first < len(opened) and opened[first] <= min(awake.begun + WAKE_SECONDS, awake.ended)
        place = bisect_left(needed, awake.begun)
        is_needed = place < len(needed) and needed[place] < awake.ended
        woken_by = history.connections[first].peer if is_cause else ""
        result.append(Wake(awake.begun, awake.ended, woken_by, not is_needed and awake.end != "open"))
    return result


def awake_spans(history: History) -> list[Span]:
    """When the machine was awake, in order and without overlaps."""
    return merged((one.begun, one.ended) for one in history.awake)


def on_and_used(connections: Iterable[Connection], awake: Sequence[Span]) -> tuple[float, float]:
    """For how many seconds a client of these connections was on, and was used, while the machine was `awake`.

    Several clients at the same time count once.
    """
    known = [one for one in connections if one.login is not None]
    on = merged((one.login or one.opened, one.closed) for one in known)
    used = merged(span for one in known for span in _used(one))
    return total(_split(on, awake)[0]), total(_split(used, awake)[0])


def _spans(history: History) -> dict[Why, list[Span]]:
    spans: dict[Why, list[Span]] = {why: [] for why in ORDER}
    for one in history.connections:
        if one.login is not None:
            spans["used"] += _used(one)
            spans["connected"] += _split([(one.login, one.closed)], merged(one.unused))[1]
    for kept in history.kept:
        why: Why = "used" if kept.kind == "terminal" else kept.kind
        spans[why].append((kept.begun, kept.ended))
    return spans


def _used(one: Connection) -> Iterable[Span]:
    """When the connection was used. Without a record it counts as used as long as it kept the machine up."""
    return one.uses if one.uses is not None else _split([(one.login or one.opened, one.closed)], merged(one.unused))[1]


def _split(spans: Iterable[Span], cover: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """The parts of the spans that `cover` covers, and the rest. Both are in order, and each without overlaps."""
    inside: list[Span] = []
    outside: list[Span] = []
    first = 0
    for begin, end in spans:
        while first < len(cover) and cover[first][1] <= begin:
            first += 1
        at, place = begin, first
        while place < len(cover) and cover[place][0] < end:
            start, stop = max(cover[place][0], begin), min(cover[place][1], end)
            if at < start:
                outside.append((at, start))
            inside.append((start, stop))
            at, place = stop, place + 1
        if at < end:
            outside.append((at, end))
    return inside, outside
