"""Sizes, times and numbers in the sentences of a story."""

from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.idle.explain import time_span

_HOUR = 3600

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """A number of bytes."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A length of time, as `lasted`, but to the hundredth of a second below ten seconds."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    return lasted(seconds)


def lasted(seconds: float) -> str:
    """A length of time that is over: to the second below an hour."""
    return format_duration(int(seconds)) if seconds < _HOUR else time_span(seconds)


def counted(number: int, thing: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def with_number(person: str, number: int | None) -> str:
    """A person, with the number of their account if that is known."""
    return person if number is None else f"{person}#{number}"
