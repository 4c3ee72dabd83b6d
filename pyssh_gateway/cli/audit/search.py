"""`audit search`: finds a text in commands, paths, targets and names, and in what recordings showed."""

import shlex
from collections.abc import Sequence

import msgspec

from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import Wanted
from pyssh_gateway.audit.index.search import KINDS, Hit
from pyssh_gateway.audit.index.search import search as search_for
from pyssh_gateway.cli.audit.place import audit_dir, readable, same_log
from pyssh_gateway.cli.audit.wanted import count, known, logged, network, span
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, NO, WrongUsage
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.output.columns import GAP, NARROWEST, aligned, places, terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.times import shown, zone

AROUND = 40
"""Characters that are shown before and behind what was found, if there is room."""

NARROW = 130
"""The width from which on a terminal has room for all of that, and for seconds."""

REPLAY_EARLIER = 2
"""Seconds by which a replay begins before what was found, so that it is seen to appear."""

_HEADINGS = ("WHEN", "SESSION", "WHO", "ACCOUNT", "WHAT", "FOUND")
_WHOLE = 2
_MINUTE = len("2026-01-02 14:00")


class Found(msgspec.Struct, frozen=True):
    """A place where the text was found, for programs."""

    since: float
    until: float
    session: str
    conn: str
    person: str
    person_id: int | None
    user: str
    peer: str
    what: str
    text: str
    count: int
    at: float | None
    replay: str


class Answer(msgspec.Struct, frozen=True):
    """The answer for programs."""

    hits: list[Found]


def search(given: Given, context: Context) -> int:
    """Search, and print where the text was found, oldest first."""
    needle = logged(given.text) or ""
    if not needle:
        raise WrongUsage("audit search needs a text that is not empty")
    since, until = span(given)
    wanted = Wanted(
        since=since, until=until, person=logged(given.person), user=logged(given.user), network=network(given)
    )
    what = None if given.what is None else known("--what", given.what, KINDS)
    newest = count("-n", given.lines)
    directory = audit_dir(given, context)
    with readable(), Index(directory, context.environ, printing.remark) as index:
        index.add_screens()
        hits = index.ask(lambda database: list(search_for(database, needle, wanted, what or "")))
    if newest is not None:
        hits = hits[max(0, len(hits) - newest) :]
    if given.json:
        printing.json(Answer([_found(hit, same_log(given)) for hit in hits]))
    elif hits:
        printing.lines(table(hits, needle, terminal_width(), same_log(given)))
    else:
        printing.remark("nothing was found")
    return FINE if hits else NO


def table(hits: Sequence[Hit], needle: str, width: int | None, log: str = "") -> list[str]:
    """A row for each hit, and for one of a recording a line with the command that replays it.

    Where a terminal is narrow, everything else gives room to what was found. `log` are the options that name the log.
    """
    is_narrow = width is not None and width < NARROW
    before = [
        (
            shown(hit.since)[: _MINUTE if is_narrow else None],
            hit.session or hit.conn or "-",
            text.person(hit.person, hit.person_id) if hit.person else "-",
            hit.user or "-",
            hit.what,
        )
        for hit in hits
    ]
    headings = [f"{name} ({zone()})" if name == "WHEN" else name for name in _HEADINGS]
    room = None if width is None else width - sum(_least(headings, before)) - len(GAP) * len(before[0])
    rows = []
    for hit, row in zip(hits, before, strict=True):
        times = f" ({hit.count} times)" if hit.count > 1 else ""
        rows.append((*row, excerpt(hit.text, needle, None if room is None else room - len(times)) + times))
    lines = aligned(headings, rows, width=width, giving=("WHO", "ACCOUNT", "WHAT", "FOUND"))
    shown_lines = lines[:1]
    for hit, line in zip(hits, lines[1:], strict=True):
        shown_lines.append(line)
        if hit.at is not None:
            shown_lines.append(f"    {replay(hit, log)}")
    return shown_lines


def _least(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The widths of columns that have given all they can; those of times and sessions are never cut."""
    widths = [max(map(places, column)) for column in zip(headings, *rows, strict=False)]
    return [wide if number < _WHOLE else min(wide, NARROWEST) for number, wide in enumerate(widths)]


def excerpt(whole: str, needle: str, room: int | None = None) -> str:
    """The line in which the text was found, or the part of a long one around it that fits into `room` characters."""
    start = max(0, whole.casefold().find(needle.casefold()))
    if (begin := whole.rfind("\n", 0, start)) >= 0:
        whole, start = whole[begin + 1 :], start - begin - 1
    whole = whole.partition("\n")[0] if "\n" not in needle else whole
    around = AROUND if room is None else min(AROUND, max(0, room - len(needle) - 2 * len("…")) // 2)
    first, last = max(0, start - around), start + len(needle) + around
    if first == 0 or last >= len(whole):  # what one side does not need is the other's
        first, last = max(0, min(first, len(whole) - len(needle) - 2 * around)), max(last, len(needle) + 2 * around)
    return ("…" if first else "") + whole[first:last].strip() + ("…" if last < len(whole) else "")


def replay(hit: Hit, log: str = "") -> str:
    """The command that shows what was found in a recording; empty for other hits."""
    if hit.at is None:
        return ""
    # The name alone is for recordings of sessions that the log knows: it says whose they are.
    name = hit.session if hit.conn else shlex.quote(f"{hit.user}/{hit.session}")
    return f"pyssh-gateway audit replay {name} --at {max(0, int(hit.at) - REPLAY_EARLIER)}{log}"


def _found(hit: Hit, log: str) -> Found:
    return Found(
        **{name: getattr(hit, name) for name in Found.__struct_fields__ if name != "replay"}, replay=replay(hit, log)
    )
