"""Spans of time: pairs of a beginning and an end in seconds."""

from collections.abc import Iterable

Span = tuple[float, float]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The time that the spans cover together, as spans in order that neither overlap nor touch."""
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif begin < end:
            result.append((begin, end))
    return result


def total(spans: Iterable[Span]) -> float:
    """The seconds that the spans cover together."""
    return sum(end - begin for begin, end in merged(spans))


def within(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """The parts of the spans from `begin` to `end`."""
    cut = ((max(start, begin), min(stop, end)) for start, stop in spans)
    return [(start, stop) for start, stop in cut if start < stop]
