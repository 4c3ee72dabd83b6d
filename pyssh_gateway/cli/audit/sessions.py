"""`audit sessions`: who was on, from where, what ran and how it ended, by the log."""

from collections.abc import Callable, Sequence

import msgspec

from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import SessionRow, Wanted
from pyssh_gateway.audit.index.queries import denied as denied_of
from pyssh_gateway.audit.index.queries import sessions as sessions_of
from pyssh_gateway.audit.reading.words import lasted
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.audit.wanted import count, logged, network, span
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.output.columns import aligned, terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.times import shown, zone

WIDE, NARROW = 130, 100
"""The widths from which on a terminal has room for all columns, and for more than the most important ones."""

_ALL = ("SESSION", "WHO", "ACCOUNT", "FROM", "WHEN", "FOR", "WHAT", "EXIT", "IN", "OUT", "REC")
_SOME = ("SESSION", "WHO", "ACCOUNT", "FROM", "WHEN", "FOR", "WHAT", "EXIT")
_FEW = ("SESSION", "WHO", "ACCOUNT", "WHEN", "FOR", "WHAT", "EXIT")
_MINUTE = len("2026-01-02 14:00")
_NUMBERS = ("FOR", "IN", "OUT")
_GIVING = ("WHAT", "END", "WHO", "FROM", "ACCOUNT")


class Answer(msgspec.Struct, frozen=True):
    """The answer for programs."""

    sessions: list[SessionRow]


def sessions(given: Given, context: Context) -> int:
    """Print the sessions, and the connections without one."""
    since, until = span(given)
    wanted = Wanted(
        since=since,
        until=until,
        person=logged(given.person),
        user=logged(given.user),
        network=network(given),
        command=logged(given.command),
        denied=given.denied,
        lost=given.lost,
    )
    newest = count("-n", given.lines)
    with readable(), Index(audit_dir(given, context), context.environ, printing.remark) as index:
        rows = index.ask(lambda database: list(sessions_of(database, wanted)))
        denied = 0 if rows or wanted.denied or given.json else index.ask(lambda database: denied_of(database, wanted))
    if newest is not None:
        rows = rows[max(0, len(rows) - newest) :]
    if given.json:
        printing.json(Answer(rows))
    elif rows:
        printing.lines(table(rows, terminal_width(), lost=given.lost))
    else:
        lists = f"; --denied lists {text.number(denied, 'connection')} on which nobody got in" if denied else ""
        printing.remark(f"the log has no such session{lists}")
    return FINE


def table(rows: Sequence[SessionRow], width: int | None, *, lost: bool = False) -> list[str]:
    """A row for each session. A terminal that is too narrow for all columns gets the more important ones.

    With `lost`, a column says how the connection ended.
    """
    names: tuple[str, ...] = _ALL if width is None or width >= WIDE else _SOME if width >= NARROW else _FEW
    if lost:
        names = (*(_SOME if names == _ALL else names), "END")
    headings = [f"{name} ({zone()})" if name == "WHEN" else name for name in names]
    cells = [[_CELLS[name](row) for name in names] for row in rows]
    if names[: len(_FEW)] == _FEW:  # without the seconds
        cells = [
            [cell[:_MINUTE] if name == "WHEN" else cell for name, cell in zip(names, row, strict=True)] for row in cells
        ]
    return aligned(headings, cells, width=width, numbers=_NUMBERS, giving=[name for name in _GIVING if name in names])


def what(row: SessionRow) -> str:
    """What ran, or why nothing did."""
    if row.session:
        runs = row.command if row.kind == "exec" else f"({row.command or row.kind})"
        return f"{runs} (instead of {row.requested})" if row.requested else runs
    if not row.person and row.reason:
        return row.reason
    forwards = [text.number(row.listeners, "listener")] if row.listeners else []
    forwards += [text.number(row.forwards, "forward")] if row.forwards else []
    return f"({', '.join(forwards) or 'no session'})"


def ending(row: SessionRow) -> str:
    """The exit status or signal, or that there is none."""
    if row.state == "open":
        return "on"
    if row.state == "lost":
        return "lost"
    if row.exit_signal is not None:
        return row.exit_signal
    if row.exit_status is not None:
        return str(row.exit_status)
    return "-" if not row.session else "left"


def _size(number: int | None) -> str:
    return "-" if number is None else text.size(number)


_CELLS: dict[str, Callable[[SessionRow], str]] = {
    "SESSION": lambda row: row.session or row.conn,
    "WHO": lambda row: text.person(row.person, row.person_id) if row.person else row.fingerprint or "-",
    "ACCOUNT": lambda row: row.user or "-",
    "FROM": lambda row: row.peer or "-",
    "WHEN": lambda row: shown(row.since),
    "FOR": lambda row: "-" if row.until is None else lasted(max(0.0, row.until - row.since)),
    "WHAT": what,
    "EXIT": ending,
    "END": lambda row: row.connection_reason or "the server ended without a word",
    "IN": lambda row: _size(row.bytes_in),
    "OUT": lambda row: _size(row.bytes_out),
    "REC": lambda row: "yes" if row.recorded else "-",
}
