"""Tables of the connections and of their sessions."""

from collections.abc import Sequence

from pyssh_gateway.cli.output import text
from pyssh_gateway.cli.output.columns import aligned
from pyssh_gateway.core.control import ConnectionReport, SessionReport

_NUMBERS = ("FOR", "IN", "OUT")


def connections(reports: Sequence[ConnectionReport], now: float, width: int | None) -> list[str]:
    """A row for each connection."""
    rows = [
        (
            report.conn,
            report.user,
            _person(report),
            report.peer,
            text.time_span(max(0.0, now - report.since)),
            text.size(report.bytes_in),
            text.size(report.bytes_out),
        )
        for report in reports
    ]
    headings = ("CONNECTION", "ACCOUNT", "WHO", "FROM", "FOR", "IN", "OUT")
    return aligned(headings, rows, width=width, numbers=_NUMBERS, giving=("WHO", "FROM"))


def sessions(reports: Sequence[ConnectionReport], now: float, width: int | None) -> list[str]:
    """A row for each session, and one for each connection without any."""
    rows = []
    for report in reports:
        who = (report.user, _person(report))
        since = text.time_span(max(0.0, now - report.since))
        if not report.sessions:
            moved = (text.size(report.bytes_in), text.size(report.bytes_out))
            rows.append((report.conn, *who, "-", since, *moved, "(no session)"))
        rows += [(one.session, *who, *_session(one)) for one in report.sessions]
    headings = ("SESSION", "ACCOUNT", "WHO", "TTY", "FOR", "IN", "OUT", "RUNS")
    return aligned(headings, rows, width=width, numbers=_NUMBERS, giving=("RUNS", "WHO"))


def _person(report: ConnectionReport) -> str:
    return "-" if report.identity is None else report.identity.person


def _session(report: SessionReport) -> tuple[str, str, str, str, str]:
    runs = report.command if report.kind == "exec" else f"({report.kind})"
    terminal = report.tty.removeprefix("/dev/") or "-"
    return terminal, text.time_span(report.seconds), text.size(report.bytes_in), text.size(report.bytes_out), runs
