"""The tables as text."""

from collections.abc import Iterable, Sequence

from bench.idle.runs import WEEKS, Figures, Night

HEADINGS = ("awake", "starts/week", "killed", "soon/week", "hands", "locked out", "nobody h/week", "returns h/week")


def figures_row(figures: Figures) -> list[str]:
    """The cells of a line, one for each of `HEADINGS`."""
    return [
        f"{figures.ratio:.2f}",
        f"{figures.starts / WEEKS:.1f}",
        f"{figures.killed:.1f}",
        f"{figures.soon / WEEKS:.2f}",
        f"{figures.hands:.1f}",
        f"{figures.locked:.1f}",
        f"{figures.nobody / 3600 / WEEKS:.2f}",
        f"{figures.returns / 3600 / WEEKS:.2f}",
    ]


def night_cell(night: Night) -> str:
    """Minutes until the first stop, and awake from then on."""
    return f"{night.first:.0f} + {night.after:.0f}"


def text(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns are texts, and the others figures."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
