"""Looks at single lines: what they say about themselves, and what is odd about lines that were changed.

A hash only tells that one of many lines was changed. These hints often tell which one, and prove nothing.
"""

from collections.abc import Iterable, Iterator

import msgspec

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.proving.tracing import LineReader, TracedFile
from pyssh_gateway.audit.segments import open_file

MAX_HINTS = 5
MAX_LINES = 200_000
"""Lines that are looked at, of those that may have been changed."""


class SeenLine(msgspec.Struct, frozen=True):
    """A line: its index in the whole log, and what it says; `seq` and `ts` are None if it is no event."""

    index: int
    file: str
    seq: int | None
    ts: str | None


class _Event(msgspec.Struct, frozen=True):
    seq: int
    ts: str


_decoder = msgspec.json.Decoder(_Event)


def look_at(file: TracedFile, number: int, index: int) -> SeenLine:
    """The line with this number in the file, from 0 and without its header."""
    for _, data in _lines(file, number, number + 1, index):
        event = _event(data)
        if event is not None:
            return SeenLine(index, file.name, event.seq, event.ts)
    return SeenLine(index, file.name, None, None)


def oddities(places: Iterable[tuple[TracedFile, int, int, int]]) -> Iterator[str]:
    """What is odd about lines: for each file, which of its lines, from and to, and the index of the first of them."""
    hints = _oddities(data for place in places for data in _lines(*place))
    for _, hint in zip(range(MAX_HINTS), hints, strict=False):
        yield hint


def _oddities(lines: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    before: _Event | None = None
    for _, (index, data) in zip(range(MAX_LINES), lines, strict=False):
        event = _event(data)
        if event is None:
            yield f"line {index} is no event"
            continue
        if before is not None and event.seq <= before.seq:
            yield f"line {index} has seq {event.seq}, which does not follow {before.seq}"
        elif before is not None and event.seq > before.seq + 1:
            count = event.seq - before.seq - 1
            which = f"seq {before.seq + 1} is" if count == 1 else f"seq {before.seq + 1} to {event.seq - 1} are"
            yield f"{which} missing before line {index}"
        elif before is not None and event.ts < before.ts:
            yield f"line {index} is of {event.ts}, before the line before it"
        before = event


def _lines(file: TracedFile, begin: int, stop: int, index: int) -> Iterator[tuple[int, bytes]]:
    at = 0
    with open_file(file.segment.path) as opened:
        is_first = True
        for lines in LineReader(opened):
            if is_first and lines[0].startswith(headers.BEGINNING):
                del lines[0]
            is_first = False
            for number in range(max(begin, at), min(stop, at + len(lines))):
                yield index + number - begin, lines[number - at]
            at += len(lines)
            if at >= stop:
                return


def _event(line: bytes) -> _Event | None:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
