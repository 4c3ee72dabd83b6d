"""How long a machine would be awake that knew what will be needed.

It is awake from an act of use until a while after it, since nobody wants to wait for a start after each short pause,
and while work runs that somebody wants. Starts and stops take no time.
"""

from collections.abc import Iterable

from pyssh_gateway.core.idle.replay.spans import Span, total

TAIL = {"exit": 600.0, "suspend": 300.0}
"""Seconds for which the machine stays awake after use. A resume takes less time than a start."""


def seconds(uses: Iterable[Span], work: Iterable[Span], action: str) -> float:
    """For how many seconds the machine is awake."""
    return total([(begin, end + TAIL[action]) for begin, end in uses] + list(work))
