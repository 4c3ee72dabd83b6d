"""The results of a run: samples, their medians and spread, the table. Pure; knows nothing of servers."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ACCEPT = "exec -> port accepts"
FIRST_COMMAND = "exec -> first command done"

MAX_ACCEPT_MS = 100.0
MAX_FIRST_COMMAND_RATIO = 1.5
"""The limits that the project promises for a start; `--check` fails if they are exceeded."""

_HEADINGS = ("figure", "unit", "pyssh-gateway", "sshd", "ratio", "n")


class Figure(NamedTuple):
    """One line of the table. `ours` and `sshd` are samples in `unit`, taken in turns; less is better in all of them."""

    name: str
    unit: str
    ours: tuple[float, ...]
    sshd: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """Our median over sshd's; None if one of them is missing or nothing was measurable."""
        if not self.ours or not self.sshd or not median(self.sshd):
            return None
        return median(self.ours) / median(self.sshd)


def percentile(samples: Iterable[float], percent: float) -> float:
    """The value below which `percent` of `samples` lie, interpolated linearly between the two nearest."""
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("a percentile of no samples")
    position = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below + (above - below) * (position % 1)


def median(samples: Iterable[float]) -> float:
    """The middle one: half of `samples` are below it."""
    return percentile(samples, 50)


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns: median, then the quartiles in parentheses."""
    rows = [_HEADINGS, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(_line(row, widths) for row in rows)


def promises_broken(figures: Iterable[Figure]) -> list[str]:
    """The promises about a start, of two, that are broken or were not measured; one line each."""
    named = {figure.name: figure for figure in figures}
    broken = []
    accept = named.get(ACCEPT)
    if accept is None or not accept.ours:
        broken.append(f"{ACCEPT}: not measured")
    elif median(accept.ours) > MAX_ACCEPT_MS:
        broken.append(f"{ACCEPT}: {number(median(accept.ours))} ms, promised are {MAX_ACCEPT_MS:.0f} ms")
    first = named.get(FIRST_COMMAND)
    ratio = None if first is None else first.ratio
    if ratio is None:
        broken.append(f"{FIRST_COMMAND}: not measured")
    elif ratio > MAX_FIRST_COMMAND_RATIO:
        broken.append(f"{FIRST_COMMAND}: {ratio:.2f} times sshd's, promised are {MAX_FIRST_COMMAND_RATIO} times")
    return broken


def number(value: float) -> str:
    """`value` with three significant digits, never with an exponent."""
    if not value:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def _row(figure: Figure) -> tuple[str, ...]:
    ratio = figure.ratio
    return (
        figure.name,
        figure.unit,
        _spread(figure.ours),
        _spread(figure.sshd),
        "-" if ratio is None else f"{ratio:.2f}",
        str(max(len(figure.ours), len(figure.sshd))),
    )


def _spread(samples: Sequence[float]) -> str:
    if not samples:
        return "-"
    middle = number(median(samples))
    if len(samples) == 1:
        return middle
    return f"{middle} ({number(percentile(samples, 25))}-{number(percentile(samples, 75))})"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    # Names are aligned to the left; numbers, which are compared downwards, to the right.
    cells = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
