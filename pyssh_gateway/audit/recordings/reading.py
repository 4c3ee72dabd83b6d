"""Reads a recording as a stream, in bounded memory: also one that is still being written, or was cut off.

Knows the files and their compression. What is in them is decoded by `core.recordings.decoder`.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Self

from pyssh_gateway.audit.recordings.files import NoRecording
from pyssh_gateway.audit.zstd import ZstdDecompressor, ZstdError
from pyssh_gateway.core.recordings.asciicast import MAX_LINE, Code, Event, Header
from pyssh_gateway.core.recordings.decoder import Decoder, NotACast

CHUNK = 64 * 1024
"""Read from the file at once, in bytes."""

PIECE = 1024
"""Unpacked at once: when its end is damaged, all of it is lost."""

MAX_UNPACKED = 1024 * 1024
"""Unpacked at once, in bytes. A chunk of the same letter would become gigabytes."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""How a compressed file begins (RFC 8878)."""


class CastFile:
    """The lines of one file, compressed or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self._unpack: ZstdDecompressor | None = None
        self._begun = False
        self._rest = b""
        self.damaged = False
        """Whether the compressed data can't be read any further."""

    def lines(self) -> list[bytes] | None:
        """Some of the next lines, without their newlines; None if the file has no more, now.

        A last line without a newline is still being written, or was cut off: it is kept back. Of a line that is longer
        than any in a recording, the beginning comes as a line of its own.
        """
        data = self._data()
        if data is None:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def close(self) -> None:
        """No more will be read."""
        self._file.close()

    def _data(self) -> bytes | None:
        if self.damaged:
            return None
        if self._unpack is not None and not self._unpack.needs_input and not self._unpack.eof:
            return self._unpacked(self._unpack, b"")
        data = self._file.read(PIECE if self._unpack is not None or not self._begun else CHUNK)
        if self._unpack is not None and self._unpack.eof:
            data = self._unpack.unused_data + data
            if data:
                self._unpack = ZstdDecompressor()
        if not data:
            return None
        if not self._begun:
            # The magic number is written in one piece, with the first block.
            self._unpack = ZstdDecompressor() if data.startswith(ZSTD_MAGIC) else None
            self._begun = True
        return data if self._unpack is None else self._unpacked(self._unpack, data)

    def _unpacked(self, unpack: ZstdDecompressor, data: bytes) -> bytes:
        try:
            return unpack.decompress(data, MAX_UNPACKED)
        except ZstdError:
            self.damaged = True
            return b""


class Recording:
    """The events of a recording, from all its files, at times since the beginning of the first.

    `more` lists the files again, for one that is still being written. Raises NoRecording.
    """

    def __init__(self, files: Sequence[Path], more: Callable[[], Sequence[Path]] | None = None) -> None:
        self._files = list(files)
        self._more = more
        self._next = 1
        self._file = CastFile(self._files[0])
        self._decoder: Decoder | None = None
        self._offset = self._last = 0.0
        self._broken = 0
        self._waiting: list[Event] = []
        self._header: Header | None = None
        self.exited = False
        """Whether the end of the session has been read."""

    @property
    def header(self) -> Header:
        """The header of the first file."""
        if self._header is None and not self.has_begun():
            raise NoRecording(f"{self._file.path} has no header: it is empty, or its session has just begun")
        assert self._header is not None  # noqa: S101 - it has begun
        return self._header

    def has_begun(self) -> bool:
        """Whether there is a header, now: that of a session that has just begun is written within a second."""
        while self._header is None:
            found = self._read_file()
            if found is None:
                return False
            self._waiting += found
        return True

    @property
    def broken(self) -> int:
        """How many lines, of those read, are damaged and were left out."""
        return self._broken + (self._decoder.broken if self._decoder else 0) + self._file.damaged

    def read(self) -> list[Event] | None:
        """Some of the next events, perhaps none; None if there are no more, now."""
        if self._waiting:
            found, self._waiting = self._waiting, []
            return found
        events = self._read_file()
        while events is None and self._open_next():
            events = self._read_file()
        return events

    def close(self) -> None:
        """No more will be read."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_file(self) -> list[Event] | None:
        lines = self._file.lines()
        if lines is None:
            return None
        found: list[Event] = []
        for line in lines:
            if self._decoder is None:
                found += self._begin(line)
            elif (event := self._decoder.event(line)) is not None:
                self._last = self._offset + event.at
                self.exited = self.exited or event.code == Code.EXIT
                found.append(event if not self._offset else Event(round(self._last, 6), event.code, event.data))
        return found

    def _begin(self, line: bytes) -> list[Event]:
        """Take the header of a file. That of a later part is a resize: the size may have changed meanwhile."""
        try:
            self._decoder = Decoder(line)
        except NotACast as error:
            raise NoRecording(f"{self._file.path} can't be read: {error}") from None
        header = self._decoder.header
        if self._header is None:
            self._header = header
            return []
        started, first = header.timestamp, self._header.timestamp
        self._offset = max(self._last, float(started - first) if started is not None and first is not None else 0.0)
        self._last = self._offset
        return [Event(self._offset, Code.RESIZE, f"{header.cols}x{header.rows}")]

    def _open_next(self) -> bool:
        if self._next >= len(self._files) and self._more is not None:
            self._files = list(self._more())
        if self._next >= len(self._files):
            return False
        self._broken += self._file.damaged + (self._decoder.broken if self._decoder else 0)
        self._file.close()
        self._file, self._decoder = CastFile(self._files[self._next]), None
        self._next += 1
        return True


def header(path: Path) -> Header:
    """How a recording begins. Raises NoRecording."""
    with closing(Recording([path])) as recording:
        return recording.header


def events(files: Sequence[Path]) -> Iterator[Event]:
    """The events of a recording as far as it goes now. Raises NoRecording."""
    with closing(Recording(files)) as recording:
        while (found := recording.read()) is not None:
            yield from found


def _open(path: Path) -> IO[bytes]:
    try:
        # Not blocking: a pipe in its place must not make a reader wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoRecording(f"there is no recording at {path}") from None
    except PermissionError:
        raise NoRecording(f"{path} may not be read by this account: ask as root, or be in its group") from None
    except OSError as error:
        raise NoRecording(f"{path} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoRecording(f"{path} is not a file")
    return os.fdopen(descriptor, "rb", buffering=CHUNK)
