"""Reads asciicast, versions 2 and 3, line by line, from hostile or damaged files: bounded, and it never guesses.

What it accepts has exactly the shape that the format says. Any other line is left out and counted: a recording is
evidence, and a line that is broken must not hide the others.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from pyssh_gateway.core.recordings.asciicast import MAX_LINE, MAX_SIZE, MAX_TEXT, Event, Header

MAX_SECONDS = 10 * 366 * 24 * 3600.0
"""Nothing in a recording happens later than that: ten years."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Env = dict[_Text, _Text]
_Timestamp = Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None


class NotACast(ValueError):
    """The header is none. The message is one line for a person."""


class _Term(msgspec.Struct, frozen=True):
    cols: _Size
    rows: _Size
    type: _Text | None = None


class _Version3(msgspec.Struct, frozen=True):
    term: _Term
    timestamp: _Timestamp = None
    command: _Text | None = None
    title: _Text | None = None
    env: _Env | None = None


class _Version2(msgspec.Struct, frozen=True):
    width: _Size
    height: _Size
    timestamp: _Timestamp = None
    command: _Text | None = None
    title: _Text | None = None
    env: _Env | None = None


class _Version(msgspec.Struct, frozen=True):
    version: int


_Time = Annotated[float, msgspec.Meta(ge=0)]
_Code = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]\Z")]

_version = msgspec.json.Decoder(_Version)
_version_2 = msgspec.json.Decoder(_Version2)
_version_3 = msgspec.json.Decoder(_Version3)
_event = msgspec.json.Decoder(tuple[_Time, _Code, str])


class Decoder:
    """Reads one recording. `header` is what its first line said; raises NotACast if that is no header of one."""

    def __init__(self, first_line: bytes) -> None:
        self.header, self._version = _header(first_line)
        self.broken = 0
        """How many lines were left out because they are no events."""
        self._at = 0.0

    def event(self, line: bytes) -> Event | None:
        """The event on a line, with or without its newline; None if it is a comment, empty or broken."""
        if not line.strip() or line.startswith(b"#"):
            return None
        at = MAX_SECONDS
        try:
            time, code, data = _event.decode(line[: MAX_LINE + 1])
            at = self._at + time if self._version == 3 else max(time, self._at)
        except ValueError:  # msgspec's errors, and text that is not UTF-8, are of this kind
            pass
        if at >= MAX_SECONDS:
            self.broken += 1
            return None
        self._at = at
        return Event(round(at, 6), code, data)


def events(decoder: Decoder, lines: Iterable[bytes]) -> Iterator[Event]:
    """The events on these lines, which follow the header."""
    return (event for line in lines if (event := decoder.event(line)) is not None)


def _header(line: bytes) -> tuple[Header, int]:
    if len(line) > MAX_LINE:
        raise NotACast("the first line is too long")
    try:
        version = _version.decode(line).version
        if version == 3:
            three = _version_3.decode(line)
            cols, rows, term = three.term.cols, three.term.rows, three.term.type or ""
            rest: _Version2 | _Version3 = three
        else:
            rest = two = _version_2.decode(line)
            cols, rows, term = two.width, two.height, ""
    except ValueError:
        raise NotACast("the first line is no header of an asciicast") from None
    if version not in {2, 3}:
        raise NotACast(f"it is asciicast version {version}, and only 2 and 3 can be read")
    env = dict(rest.env or {})
    if version == 2:
        term = env.pop("TERM", "")
    command, title = rest.command or "", rest.title or ""
    header = Header(cols=cols, rows=rows, term=term, timestamp=rest.timestamp, command=command, title=title, env=env)
    return header, version
