"""Finds checkpoints in whatever a log collector makes of our standard output.

That is our JSON lines, also within other JSON or behind a prefix; our lines for people; and signed notes as they are.
The log's lines say what strangers have sent, so a checkpoint is only taken from where we put one.
"""

import re
from collections.abc import Iterable, Iterator
from json import JSONDecoder
from typing import NamedTuple

from pyssh_gateway.audit.proving.names import EVENT

MAX_DEPTH = 8
"""Of JSON in texts of other JSON: each collector on the way may add one."""

MAX_TRIES = 16
"""At so many opening braces of a line JSON may begin, not counting those within JSON."""

_MARK = EVENT.encode()
_DASH = "\N{EM DASH} "
_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_ROOT = re.compile(r"[A-Za-z0-9+/]{43}=")
_SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)
_SIGNATURE = re.compile(rf"{_DASH}\S+ {_BASE64}")

# The first time of the kind that begins our lines for people: behind it, the texts of strangers begin.
_FOR_PEOPLE = re.compile(r"\b[0-9]{2}:[0-9]{2}:[0-9]{2}Z ([a-z]+) +(.*)", re.ASCII)
_LINE_FOR_PEOPLE = re.compile(rf"checkpoint (\S+) ([0-9]{{1,19}}) ({_ROOT.pattern}) ({_BASE64})", re.ASCII)

_decode = JSONDecoder(strict=False).raw_decode


class Text(NamedTuple):
    """The text of a note, which may be wrong in any way, and the number of its line, from 1."""

    line: int
    note: str


def find(lines: Iterable[bytes]) -> Iterator[Text]:
    """The notes in these lines, in their order."""
    plain = _PlainNotes()
    for number, raw in enumerate(lines, 1):
        line = raw.decode(errors="replace").strip()
        if found := plain.take(number, line):
            yield found
        if _MARK in raw:
            # A checkpoint that can't be read any more must not look like none.
            for note in _in_text(line, MAX_DEPTH) or [line]:
                if note:
                    yield Text(number, note)
        elif b" checkpoint " in raw and (note := _in_line_for_people(line)):
            yield Text(number, note)
    if found := plain.end():
        yield found


class _PlainNotes:
    """Collects the lines of notes that are there as they are."""

    def __init__(self) -> None:
        self._before: list[str] = []
        self._begin = 0
        self._note: list[str] = []

    def take(self, number: int, line: str) -> Text | None:
        """The note that ends before this line, if one does."""
        if self._note and _SIGNATURE.fullmatch(line):
            self._note.append(line)
            return None
        found = self.end()
        if _SIGNATURE.fullmatch(line) and self._is_checkpoint():
            self._note = [*self._before, line]
            self._begin = number - 4
        self._before = [*self._before[-3:], line]
        return found

    def end(self) -> Text | None:
        """The note that ends here, if one does."""
        note, self._note = self._note, []
        return Text(self._begin, "\n".join(note) + "\n") if note else None

    def _is_checkpoint(self) -> bool:
        if len(self._before) < 4:
            return False
        origin, size, root, blank = self._before
        return bool(origin and _SIZE.fullmatch(size) and _ROOT.fullmatch(root) and not blank)


def _in_line_for_people(line: str) -> str:
    match = _FOR_PEOPLE.search(line)
    if match is None or match[1] != "log" or not match[2].startswith("checkpoint "):
        return ""
    parts = _LINE_FOR_PEOPLE.fullmatch(match[2].strip())
    if parts is None:
        return line
    origin, size, root, signature = parts.groups()
    return f"{origin}\n{size}\n{root}\n\n{_DASH}{origin} {signature}\n"


def _in_text(text: str, depth: int) -> list[str]:
    """The notes in the JSON that a text is, or that follows something else in it; "" stands for an event of ours."""
    for candidate in (text, text.replace('""', '"')):  # the second as in CSV
        values = list(_objects(candidate))
        if values:
            return [note for value in values for note in _in_value(value, depth)]
    return []


def _objects(text: str) -> Iterator[object]:
    at = text.find("{")
    for _ in range(MAX_TRIES):
        if at < 0:
            return
        try:
            value, end = _decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


def _in_value(value: object, depth: int) -> Iterator[str]:
    if not depth:
        return
    match value:
        case {"event": str(event), "note": str(note)} if event == EVENT:
            yield note
        case {"event": str(), "ts": str(), "seq": int()}:  # with the texts of strangers, which are not looked at
            yield ""
        case dict():
            for inner in value.values():
                yield from _in_value(inner, depth - 1)
        case list():
            for inner in value:
                yield from _in_value(inner, depth - 1)
        case str() if EVENT in value:
            yield from _in_text(value, depth - 1)
