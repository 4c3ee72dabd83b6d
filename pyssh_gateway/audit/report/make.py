"""Makes the report of a log: reads it once, and returns what the page shows."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from pyssh_gateway.audit.report.gather import Gathered, gather
from pyssh_gateway.audit.report.page import Asked, Page, page
from pyssh_gateway.audit.report.recordings import choose
from pyssh_gateway.audit.segments import NoLog, Segment, lines, segments
from pyssh_gateway.core.idle.what_if.log_lines import Heads
from pyssh_gateway.core.idle.what_if.reading import FUTURE_SECONDS, read

MOST_SESSIONS = 2000
"""How many sessions are listed, the newest: about 5 MB of HTML. All are counted."""


def make(audit_dir: Path, asked: Asked, *, recordings: int) -> Page:
    """The page, with recordings of at most `recordings` bytes in it. Raises NoLog."""
    gathered = Gathered(most_sessions=MOST_SESSIONS, people=asked.people)
    heads = Heads()
    # Up to now: a clock that was set back does not hide what is later than now by it.
    until = asked.until if asked.until < asked.now else asked.now + FUTURE_SECONDS
    found = gather(log_since(audit_dir, asked.since), gathered, since=asked.since, until=until, heads=heads)
    history = read(found, since=asked.since, now=asked.now, heads=heads, running=asked.running)
    if history.ended <= history.begun:
        raise NoLog(f"the log in {audit_dir} has no events of that time")
    newest_first = sorted(gathered.sessions, key=lambda one: -one.begun)
    return page(asked, history, gathered, choose(audit_dir, newest_first, recordings))


def log_since(audit_dir: Path, since: float) -> Iterator[bytes]:
    """The lines of the log, without files that end before `since`. Raises NoLog.

    A file ends before the first line of the next one.
    """
    files = segments(audit_dir)
    old = 0
    for place, (_, following) in enumerate(pairwise(files), start=1):
        begun = _begun(following)
        if begun is not None and begun < since:
            old = place
    for segment in files[old:]:
        for line in lines(segment):
            yield line.data


def _begun(segment: Segment) -> float | None:
    """The time of the first line; None if that is no event."""
    for line in lines(segment):
        try:
            return Heads().of(line.data)[0]
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError):
            return None
    return None
