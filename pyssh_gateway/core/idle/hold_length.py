"""The parser of a hold's length as people write it: the words of the length, and the words after it, the reason.

A length is one word with units (`30m`, `2h`, `1h30m`, `90min`) or numbers and units in turn (`2 hours`, `1 hour 30
minutes`), which may also stand in one quoted word. Nothing is guessed: a number without a unit is an error, as are
words that could belong to the length or to the reason.
"""

import re
from collections.abc import Sequence

from pyssh_gateway.config.values import shown

_UNITS = {
    "d": ("d", "day", "days"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "s": ("s", "sec", "secs", "second", "seconds"),
}
"""From the largest to the smallest, the order in which they may follow one another."""

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in names}

# re.ASCII, because \d would match the digits of any script. A number with more digits is not a length of time.
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,3})?", re.ASCII)
_PIECE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([a-z]+)", re.ASCII)

_Pieces = list[tuple[float, str]]
"""Numbers with their units, one of `_UNITS`."""

SHORTEST = 1
LONGEST = 365 * 86400
"""Seconds. The server has a limit of its own, `idle.hold_max`."""

EXAMPLES = "such as 30m, 2h, 1h30m or 2 hours"


class NoLength(Exception):
    """The words don't begin with a length of time; the message is one line that says what to write."""


def split(words: Sequence[str]) -> tuple[float | None, tuple[str, ...]]:
    """The length in seconds, None if there are no words, and the words after it. Raises NoLength."""
    if not words:
        return None, ()
    first = words[0]
    if " " in first:
        seconds, left = split(first.split())
        if left or seconds is None:
            raise NoLength(f"{shown(first)} is not a length of time, {EXAMPLES}")
        return seconds, tuple(words[1:])
    if _NUMBER.fullmatch(first):
        pieces, taken = _in_turn(words)
        if not pieces:
            raise NoLength(f"{first} has no unit: write {first}m for minutes, {first}h for hours, or {first}s")
    else:
        pieces, taken = _in_one(first), 1
        if not pieces:
            raise NoLength(f"{shown(first)} is not a length of time, {EXAMPLES}")
    rest = tuple(words[taken:])
    if rest and (_in_turn(rest)[0] or _in_one(rest[0])):
        raise NoLength(
            f"{shown(rest[0])} could be more of the time or the beginning of the reason: write the time in one word, "
            "such as 1h30m, or the reason in quotes"
        )
    units = [unit for _, unit in pieces]
    seconds = sum(number * _SECONDS[unit] for number, unit in pieces)
    if units != [unit for unit in _UNITS if unit in units] or not SHORTEST <= seconds <= LONGEST:
        raise NoLength(f"{shown(' '.join(words[:taken]))} is not a length from 1s to 365d, largest unit first")
    return seconds, rest


def _in_turn(words: Sequence[str]) -> tuple[_Pieces, int]:
    """The alternating numbers and units at the start of `words`, and how many words they take."""
    pieces: _Pieces = []
    taken = 0
    while taken + 1 < len(words) and _NUMBER.fullmatch(words[taken]) and words[taken + 1] in _UNIT_OF:
        pieces.append((float(words[taken]), _UNIT_OF[words[taken + 1]]))
        taken += 2
    return pieces, taken


def _in_one(word: str) -> _Pieces:
    """The pieces of a word such as 1h30m; empty if it is something else."""
    found = _PIECE.findall(word)
    if "".join(number + name for number, name in found) != word or not all(name in _UNIT_OF for _, name in found):
        return []
    return [(float(number), _UNIT_OF[name]) for number, name in found]
