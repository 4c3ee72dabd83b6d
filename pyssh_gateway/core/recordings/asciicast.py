"""Recordings as asciicast: version 3, which we write, and version 2, which older players need.

https://docs.asciinema.org/manual/asciicast/v3/ and .../v2/. A recording is text in UTF-8: a header, then a line for
each event, and in version 3 comments. The data of a terminal is bytes, which need not be UTF-8: a byte that is part of
no character is recorded as U+FFFD, so the exact bytes can't be got back. A character that is split across reads is
whole in the recording, at the time of its last byte.

Knows no files and no clock: times are seconds since the recording began.
"""

import codecs
import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

MAX_DATA = 64 * 1024
"""The most bytes of data in one event; more becomes several events. So the longest line is `MAX_LINE`."""

MAX_LINE = 512 * 1024
"""A longer line is not read. JSON needs at most six bytes for a byte of data (NUL is \\u0000): 384 KiB for MAX_DATA."""

MAX_TEXT = 4096
"""The most characters of a text in the header, of a label and of a comment."""

MAX_SIZE = 65535
"""The most columns and rows: what the kernel keeps for a terminal (TIOCSWINSZ), and what players read."""

_MISSING = "bytes of output are missing here"

_NULS = "\0" * 16

_json = msgspec.json.Encoder()


class Code(StrEnum):
    """What happened; a reader ignores codes that it doesn't know."""

    OUTPUT = "o"
    INPUT = "i"
    RESIZE = "r"
    MARKER = "m"
    EXIT = "x"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at the start. `timestamp` is in seconds since 1970; the format has no fractions for it."""

    cols: int
    rows: int
    term: str = ""
    timestamp: int | None = None
    command: str = ""
    title: str = ""
    env: Mapping[str, str] = msgspec.field(default_factory=dict)


class Event(msgspec.Struct, frozen=True):
    """An event, `at` seconds after the beginning. The data of a resize is `COLSxROWS`, of an exit its status."""

    at: float
    code: str
    data: str


class Encoder:
    """Writes one recording: each method returns the bytes to append, complete lines, perhaps none.

    `at` is in seconds since the beginning and is written in milliseconds. Version 3 has the time since the line before;
    it is computed from the times that were written, so rounding errors don't add up. A time before that of the last
    event counts as that.
    """

    def __init__(self, version: int = 3) -> None:
        self._version = version
        self._written = 0  # milliseconds
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def header(self, header: Header) -> bytes:
        """The first line."""
        cols, rows = _size(header.cols), _size(header.rows)
        term, env = _text(header.term), {_text(name): _text(value) for name, value in header.env.items()}
        fields: dict[str, object] = {"version": self._version}
        if self._version == 3:
            fields["term"] = {"cols": cols, "rows": rows} | ({"type": term} if term else {})
        else:
            fields |= {"width": cols, "height": rows}
            env |= {"TERM": term} if term else {}
        fields |= {} if header.timestamp is None else {"timestamp": header.timestamp}
        fields |= {name: _text(text) for name in ("command", "title") if (text := getattr(header, name))}
        return _json.encode(fields | ({"env": env} if env else {})) + b"\n"

    def output(self, at: float, data: bytes, *, stream: str = "out") -> bytes:
        """Something was written to the terminal. Each `stream` (out, err) may be in the middle of a character."""
        return self._data(at, Code.OUTPUT, stream, data)

    def input(self, at: float, data: bytes) -> bytes:
        """Something was typed."""
        return self._data(at, Code.INPUT, "in", data)

    def resize(self, at: float, cols: int, rows: int) -> bytes:
        """The terminal has this size from now on."""
        return self._line(at, Code.RESIZE, f"{_size(cols)}x{_size(rows)}")

    def marker(self, at: float, label: str) -> bytes:
        """A place that players can jump to."""
        return self._line(at, Code.MARKER, _text(label))

    def missing(self, at: float, count: int) -> bytes:
        """The next `count` bytes of output are not recorded. A marker says so; see `missing_bytes`."""
        return self.flush(at) + self.marker(at, f"{count} {_MISSING}")

    def exit(self, at: float, status: int) -> bytes:
        """The process has ended. Version 2 does not know this."""
        rest = self.flush(at)
        return rest if self._version == 2 else rest + self._line(at, Code.EXIT, str(status))

    def comment(self, text: str) -> bytes:
        """A line that players ignore. Version 2 does not know this."""
        if self._version == 2:
            return b""
        return b"# " + " ".join(_text(text).splitlines()).encode() + b"\n"

    def event(self, event: Event) -> bytes:
        """An event that was read from another recording, unchanged."""
        if event.code == Code.EXIT and self._version == 2:
            return b""
        return self._line(event.at, event.code, event.data)

    def flush(self, at: float) -> bytes:
        """The beginnings of characters whose rest will not come, as U+FFFD."""
        lines = [
            self._line(at, Code.INPUT if stream == "in" else Code.OUTPUT, rest)
            for stream, decoder in self._decoders.items()
            if (rest := decoder.decode(b"", True))
        ]
        return b"".join(lines)

    def _data(self, at: float, code: Code, stream: str, data: bytes) -> bytes:
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        if len(data) <= MAX_DATA:
            text = decoder.decode(data)
            return self._line(at, code, text) if text else b""
        parts = (decoder.decode(data[start : start + MAX_DATA]) for start in range(0, len(data), MAX_DATA))
        return b"".join(self._line(at, code, part) for part in parts if part)

    def _line(self, at: float, code: str, data: str) -> bytes:
        now = max(round(at * 1000), self._written)
        time = now - self._written if self._version == 3 else now
        self._written = now
        # Not as a float: a short interval would become 1e-3, which not every reader takes.
        return b"[%d.%03d, %b, %b]\n" % (time // 1000, time % 1000, _json.encode(code), _string(data))


def missing_bytes(event: Event) -> int | None:
    """How many bytes of output are missing at this event; None if it says no such thing."""
    count, _, rest = event.data.partition(" ")
    if event.code == Code.MARKER and rest == _MISSING and count.isascii() and count.isdigit():
        return int(count)
    return None


def size(event: Event) -> tuple[int, int] | None:
    """The columns and rows of a resize; None if it is none, or says nothing that can be a terminal's size."""
    cols, _, rows = event.data.partition("x")
    if event.code != Code.RESIZE or not all(
        0 < len(each) <= 5 and each.isascii() and each.isdigit() for each in (cols, rows)
    ):
        return None
    return (int(cols), int(rows)) if 0 < int(cols) <= MAX_SIZE and 0 < int(rows) <= MAX_SIZE else None


def _string(text: str) -> bytes:
    """`text` as JSON. Runs of NUL, as `cat` shows of many a binary file, have a way of their own.

    msgspec writes the six bytes for a NUL one by one, and a program can flood a terminal faster than that.
    """
    if _NULS not in text:
        return _json.encode(text)
    parts = re.split(rf"({_NULS}\0*)", text)
    parts_of_json = [
        b"\\u0000" * len(part) if index % 2 else _json.encode(part)[1:-1] for index, part in enumerate(parts)
    ]
    return b'"%b"' % b"".join(parts_of_json)


def _size(number: int) -> int:
    """A terminal that says it has no size is treated as one of a single cell: players refuse 0."""
    return max(1, min(number, MAX_SIZE))


def _text(text: str) -> str:
    """`text`, bounded, with bytes that were not UTF-8 (PEP 383), which JSON can't hold, as U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")[:MAX_TEXT]
