"""How sizes are written in the configuration: a number with a unit of 1024, as in sshd_config(5), or bytes.

The reader follows the rules of `config.values`.
"""

import re
from collections.abc import Callable

from pyssh_gateway.config.source import MAX_DIGITS
from pyssh_gateway.config.values import UnfitError

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

# sshd_config(5) has the letters alone, for the same sizes. re.ASCII, because \d would match the digits of any script.
_SIZE = re.compile(r"(\d+)(?:([KMGT])(?:iB)?)?", re.ASCII)


class Size(int):
    """Bytes. Written in a file as `64KiB`, `1GiB`, sshd's `1G`, or a bare number of bytes."""


def format_size(size: int) -> str:
    """`size` for people, in the form that the reader `size` accepts: 64KiB, 1GiB, 1000."""
    for unit, factor in reversed(_UNITS.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def size(low: int, high: int) -> Callable[[object], Size]:
    """A reader of sizes from `low` to `high` bytes."""
    expected = f"a size from {format_size(low)} to {format_size(high)}, such as 512MiB"

    def read(value: object) -> Size:
        bytes_ = _bytes(value)
        if bytes_ is None or not low <= bytes_ <= high:
            raise UnfitError(expected)
        return Size(bytes_)

    return read


def _bytes(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    spelled = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if spelled is None or len(spelled[1]) > MAX_DIGITS:
        return None
    return int(spelled[1]) * (_UNITS[f"{spelled[2]}iB"] if spelled[2] else 1)
