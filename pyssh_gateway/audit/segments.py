"""The files of the log, their names and their order, and the lines in them. Others need not know how it is kept.

The newest lines are in `events.jsonl`. A file that was closed is sealed: compressed, and named after the index of its
first line in the whole log, `events-000000001234.jsonl.zst`. Until it is compressed, it has that name without `.zst`.
The first line of a file that does not begin the log is a header, `log.segment`, and no event: it says at which index
the file begins (`core.segment_header`). This module does not know what the lines say.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, cast

import msgspec

from pyssh_gateway.audit.log_file import FILE_NAME

SEALED_NAME = re.compile(r"events-([0-9]{12,19})\.jsonl(\.zst)?", re.ASCII)
"""The name of a file that is no longer written to: the index of its first line, 0 for the first of the log."""

HEADER = b'{"event":"log.segment",'
"""How the header of a file begins."""

LONGEST_LINE = 1024 * 1024
"""Of a longer line the rest is left out, so it is no JSON any more. The longest that the server writes is a list of 100
texts of 4096 characters."""


class NoLog(OSError):
    """The log can't be read. The message is one line for a person."""


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


def sealed_name(first: int, *, compressed: bool) -> str:
    """The name of a file that begins at the index `first`."""
    return f"events-{first:012}.jsonl{'.zst' if compressed else ''}"


def segments(audit_dir: Path) -> list[Segment]:
    """The files of the log, oldest first; raises NoLog if there are none, or the directory can't be read.

    Of a file that is just being compressed, the complete one is listed.
    """
    try:
        names = {entry.name for entry in os.scandir(audit_dir)}
    except FileNotFoundError:
        raise NoLog(f"there is no log at {audit_dir}; --config names another configuration") from None
    except PermissionError:
        raise _forbidden(audit_dir) from None
    except OSError as error:
        raise NoLog(f"{audit_dir} can't be read: {error.strerror}") from None
    found: dict[int, Segment] = {}
    for name in sorted(names):  # the plain one comes first, and is complete if both are there
        if match := SEALED_NAME.fullmatch(name):
            found.setdefault(int(match[1]), Segment(int(match[1]), audit_dir / name))
    listed = sorted(found.values())
    if FILE_NAME in names:
        listed.append(Segment(_first_index(audit_dir / FILE_NAME), audit_dir / FILE_NAME))
    if not listed:
        raise NoLog(f"there is no log in {audit_dir}; --config names another configuration")
    return listed


def lines(segment: Segment, *, header: bool = False) -> Iterator[Line]:
    """The complete lines of a file; the header, with the index -1, only if asked for. Raises NoLog.

    A last line without its newline is still being written, or was cut off, and is left out.
    """
    index = segment.first
    with closing(_open(segment.path)) as file:
        is_first = True
        for data in _split(file):
            if is_first and data.startswith(HEADER):
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


def open_regular(path: Path) -> int:
    """A descriptor of the file at `path` for reading. Raises NoLog, with a line for a person."""
    try:
        # Not blocking: a pipe in its place must not make a reader wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoLog(f"there is no log at {path}; --log names another file, --config another configuration") from None
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


def _open(path: Path) -> IO[bytes]:
    file = os.fdopen(open_regular(path), "rb")
    if not path.name.endswith(".zst"):
        return file
    from pyssh_gateway.audit.zstd import ZstdFile  # late: only needed for a sealed file

    return cast("IO[bytes]", ZstdFile(file, "rb"))


def _split(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        whole = line
        while whole and not whole.endswith(b"\n"):
            whole = file.readline(LONGEST_LINE)
        if not whole:
            return
        yield line.removesuffix(b"\n")


def _first_index(path: Path) -> int:
    with _open(path) as file:
        line = file.readline(LONGEST_LINE)
    if not line.startswith(HEADER):
        return 0
    try:
        first = msgspec.json.decode(line)["first"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return 0
    return first if isinstance(first, int) and first >= 0 else 0
