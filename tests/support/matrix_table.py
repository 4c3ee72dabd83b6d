"""The client matrix as a table: rows are clients, columns their features."""

from collections.abc import Sequence

import pytest

FEATURES = {
    "exec": "exec",
    "status": "status",
    "signal": "signal",
    "pty": "pty",
    "stdin": "stdin",
    "stdout": "stdout",
    "put": "put",
    "get": "get",
    "local": "-L",
    "local_unix": "-L sock",
    "remote": "-R",
    "remote_unix": "-R sock",
    "socks": "-D",
    "stdio": "-W",
    "agent": "agent",
}
"""The columns: the method's name, and the heading. Clients without such an option do the same by other means."""

LEGEND = "ok: works   -: not offered by the client   absent: the client is not on this machine   FAIL: a bug"


def cell_of(item: pytest.Item) -> tuple[str, str] | None:
    """The client and the feature of a test; None if it is not a test of the matrix."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    name, feature = getattr(parameters.get("driver"), "name", None), parameters.get("feature")
    return (name, feature) if isinstance(name, str) and isinstance(feature, str) else None


def table(reports: Sequence[pytest.TestReport]) -> list[str]:
    """The lines of the table; none if no report is about the matrix."""
    rows: dict[str, dict[str, str]] = {}
    for report in reports:
        cell = dict(report.user_properties).get("matrix")
        if isinstance(cell, tuple):
            row = rows.setdefault(cell[0], {})
            row[cell[1]] = _worse(row.get(cell[1], ""), _word(report))
    if not rows:
        return []
    columns = [feature for feature in FEATURES if any(feature in row for row in rows.values())]
    lines = [["", *(FEATURES[feature] for feature in columns)]]
    lines += [[name, *(row.get(feature, "-") for feature in columns)] for name, row in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns) + 1)]
    text = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*text, "", LEGEND]


def _word(report: pytest.TestReport) -> str:
    if report.failed:
        return "FAIL"
    return "absent" if report.skipped else "ok"


def _worse(one: str, other: str) -> str:
    # A test has a report for each phase, and a failure in a later phase is a failure.
    return max(one, other, key=("", "ok", "absent", "FAIL").index)
