"""Tables with aligned columns under headings, on a terminal no wider than it, if possible."""

import os
import sys
from collections.abc import Collection, Sequence
from unicodedata import combining, east_asian_width

from pyssh_gateway.cli.output.printing import visible

GAP = "  "

NARROWEST = 12
"""The smallest width to which a column is cut: enough to tell two people, or two commands, apart."""

_CUT = "…"


def terminal_width() -> int | None:
    """The width of the terminal on standard output; None if that is no terminal, and then nothing is cut."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (AttributeError, OSError, ValueError):  # closed, a pipe or a file, or not the process's own
        return None


def aligned(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None,
    numbers: Collection[str] = (),
    giving: Sequence[str] = (),
    indent: str = "",
) -> list[str]:
    """A line of headings and one for each row; control characters are escaped.

    The columns `numbers` are aligned to the right. If the lines are wider than `width`, the columns in `giving` are cut
    in that order, as far as is needed and down to `NARROWEST`.
    """
    table = [[visible(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(places(row[column]) for row in table) for column in range(len(headings))]
    excess = 0 if width is None else len(indent) + sum(widths) + len(GAP) * (len(widths) - 1) - width
    for name in giving:
        column = list(headings).index(name)
        given = min(max(0, excess), max(0, widths[column] - NARROWEST))
        widths[column] -= given
        excess -= given
    lines = []
    for row in table:
        cells = [
            _fitted(cell, size, right=name in numbers) for name, cell, size in zip(headings, row, widths, strict=True)
        ]
        lines.append((indent + GAP.join(cells)).rstrip())
    return lines


def places(text: str) -> int:
    """The width of `text` on a terminal: two places for a wide character, none for a combining one."""
    return sum(2 if east_asian_width(one) in "WF" else 0 if combining(one) else 1 for one in text)


def _fitted(text: str, size: int, *, right: bool) -> str:
    """`text` padded or cut to `size` places."""
    if places(text) > size:
        while places(text) > size - 1:
            text = text[:-1]
        text += _CUT
    padding = " " * (size - places(text))
    return padding + text if right else text + padding
