"""The files of the log, their names and their order, and the lines in them. Others need not know how it is kept.

The newest lines are in `events.jsonl`. A file that was closed is sealed: compressed, and named after the index of its
first line in the whole log, `events-000000001234.jsonl.zst`. Until it is compressed, it has that name without `.zst`.
The first line of a file that does not begin the log is a header, `log.segment`, and no event: it says at which index
the file begins (`audit.header`). This module does not know what the lines say.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, cast

import msgspec

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.log_file import FILE_NAME, SEALED_NAME, sealed_name

__all__ = [
    "SEALED_NAME",
    "Line",
    "NoFile",
    "NoLog",
    "Segment",
    "file_lines",
    "lines",
    "log_lines",
    "open_regular",
    "sealed",
    "sealed_name",
    "segments",
]

LONGEST_LINE = 1024 * 1024
"""Of a longer line the rest is left out, so it is no JSON any more. The longest that the server writes is a list of 100
texts of 4096 characters."""


_AHEAD = 128 * 1024
"""Bytes that are decompressed at a time."""


_ELSEWHERE = "--dir names another directory, --config another configuration"


class NoLog(OSError):
    """The log can't be read. The message is one line for a person."""


class NoFile(NoLog):
    """A file of the log is not there."""


class Segment(msgspec.Struct, frozen=True, order=True):
    """A file of the log. `first` is the index of its first line; that of `events.jsonl` is read from its header."""

    first: int
    path: Path

    @property
    def is_current(self) -> bool:
        """Whether the server writes to it."""
        return self.path.name == FILE_NAME

    @property
    def is_compressed(self) -> bool:
        """Whether it is compressed."""
        return self.path.name.endswith(".zst")


class Line(msgspec.Struct, frozen=True):
    """A line without its newline, and its index in the whole log, which counts from 0."""

    index: int
    data: bytes


def segments(audit_dir: Path) -> list[Segment]:
    """The files of the log, oldest first; raises NoLog if there are none, or the directory can't be read.

    Of a file that is just being compressed, the complete one is listed.
    """
    while True:
        names = _names(audit_dir)
        listed = _sealed(audit_dir, names)
        if FILE_NAME in names:
            with suppress(NoLog):
                listed.append(Segment(_first_index(audit_dir / FILE_NAME), audit_dir / FILE_NAME))
        if _names(audit_dir) == names:  # otherwise a file may have been closed meanwhile, and be missing
            break
    if not listed:
        raise NoLog(f"there is no log in {audit_dir.absolute()}; {_ELSEWHERE}")
    return listed


def sealed(audit_dir: Path) -> list[Segment]:
    """The files that are not written to any more, oldest first. Raises NoLog if the directory can't be read."""
    return _sealed(audit_dir, _names(audit_dir))


def _names(audit_dir: Path) -> set[str]:
    try:
        with os.scandir(audit_dir) as entries:
            return {each.name for each in entries if each.name == FILE_NAME or SEALED_NAME.fullmatch(each.name)}
    except FileNotFoundError:
        raise NoLog(f"there is no log in {audit_dir.absolute()}; {_ELSEWHERE}") from None
    except PermissionError:
        raise _forbidden(audit_dir) from None
    except OSError as error:
        raise NoLog(f"{audit_dir} can't be read: {error.strerror}") from None


def _sealed(audit_dir: Path, names: set[str]) -> list[Segment]:
    found: dict[int, Segment] = {}
    for name in sorted(names):  # the plain one comes first, and is complete if both are there
        if match := SEALED_NAME.fullmatch(name):
            found.setdefault(int(match[1]), Segment(int(match[1]), audit_dir / name))
    return sorted(found.values())


def lines(segment: Segment, *, header: bool = False) -> Iterator[Line]:
    """The complete lines of a file; the header, with the index -1, only if asked for. Raises NoLog.

    A last line without its newline is still being written, or was cut off, and is left out.
    """
    index = segment.first
    with open_file(segment.path) as file:
        is_first = True
        for data in _split(file):
            if is_first and data.startswith(headers.BEGINNING):
                if header:
                    yield Line(-1, data)
            else:
                yield Line(index, data)
                index += 1
            is_first = False


def log_lines(audit_dir: Path) -> Iterator[bytes]:
    """Every line of the log, oldest first, without the headers of files. Raises NoLog."""
    for segment in segments(audit_dir):
        for line in lines(segment):
            yield line.data


def file_lines(path: Path) -> Iterator[bytes]:
    """Every line of one file, which may have any name, and may be compressed if that ends in .zst. Raises NoLog."""
    for line in lines(Segment(0, path)):
        yield line.data


def open_regular(path: Path) -> int:
    """A descriptor of the file at `path` for reading. Raises NoLog, with a line for a person."""
    try:
        # Not blocking: a pipe in its place must not make a reader wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoFile(f"there is no file {path.absolute()}") from None
    except PermissionError:
        raise _forbidden(path) from None
    except OSError as error:
        raise NoLog(f"{path} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoLog(f"{path} is not a file")
    return descriptor


def _forbidden(path: Path) -> NoLog:
    return NoLog(f"{path} may not be read by this account: ask as root, or be in its group")


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """A file of the log, open for reading; a compressed one is decompressed on the way. Raises NoLog."""
    try:
        descriptor = open_regular(path)
    except NoLog:
        compressed = path.with_name(f"{path.name}.zst")
        if path.name == FILE_NAME or not SEALED_NAME.fullmatch(path.name) or not compressed.exists():
            raise
        path, descriptor = compressed, open_regular(compressed)  # it has just been compressed
    with os.fdopen(descriptor, "rb") as file:
        if not path.name.endswith(".zst"):
            yield file
            return
        from pyssh_gateway.audit.zstd import ZstdFile  # late: only needed for a sealed file

        # A reader around it, because its own `readline` is Python and takes longer than the decompression.
        with BufferedReader(cast("RawIOBase", ZstdFile(file, "rb")), _AHEAD) as unpacked:
            yield unpacked


def _split(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        whole = line
        while whole and not whole.endswith(b"\n"):
            whole = file.readline(LONGEST_LINE)
        if not whole:
            return
        yield line.removesuffix(b"\n")


def _first_index(path: Path) -> int:
    with open_file(path) as file:
        line = file.readline(LONGEST_LINE)
    found = headers.decode(line.removesuffix(b"\n"))
    return 0 if found is None else found.first
