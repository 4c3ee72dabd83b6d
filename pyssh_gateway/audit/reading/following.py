"""Follows the log as it grows, over sealed, moved and deleted files: every line once, in order."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from pyssh_gateway.audit.header import BEGINNING, decode
from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.reading.damage import readable_lines
from pyssh_gateway.audit.segments import LONGEST_LINE, Line, NoLog, open_regular, segments

LOOK = 0.2
"""Seconds between two looks at a file that has nothing new."""

REMEMBERED = 8192
"""Lines that are recognised if they come again: the server copies the last ones to a file that was made again."""

_CHUNK = 256 * 1024


class Follower:
    """Gives the lines behind the index `after`; `wait` sleeps for a time, and returns whether to go on."""

    def __init__(self, audit_dir: Path, after: int, wait: Callable[[float], bool] | None = None) -> None:
        self._audit_dir = audit_dir
        self._next = after + 1
        self._wait = wait or _sleep
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def lines(self) -> Iterator[Line | None]:
        """Every line that is written from now on, and None after each look that found nothing. Raises NoLog."""
        is_first = True
        while True:
            try:
                descriptor = open_regular(self._audit_dir / FILE_NAME)
                try:
                    first = _first(descriptor)
                    if first == 0 and not is_first:
                        self._next = 0  # the log was taken away, and begins anew
                    is_first = False
                    yield from self._sealed_before(first)
                    for line in self._of(descriptor, first):
                        yield line
                        if line is None and not self._wait(LOOK):
                            return
                finally:
                    os.close(descriptor)
            except NoLog as error:  # a file is just being sealed, compressed or made again
                if not isinstance(error.__context__, FileNotFoundError):
                    raise
                yield None
                if not self._wait(LOOK):
                    return

    def _sealed_before(self, first: int) -> Iterator[Line]:
        """Lines that were sealed before they could be read."""
        if first <= self._next:
            return
        listed = segments(self._audit_dir)
        for segment, following in pairwise(listed):
            if following.first > self._next:
                for line in readable_lines(segment, lambda _: None):
                    yield from self._new(line)

    def _of(self, descriptor: int, index: int) -> Iterator[Line | None]:
        """The lines of the open file, until another one has its name and this one has been read to its end."""
        rest, position = b"", 0
        while True:
            replaced = not _is_in_place(descriptor, self._audit_dir / FILE_NAME, position)
            data = os.read(descriptor, _CHUNK)
            if not data:
                if replaced:
                    return
                yield None
                continue
            position += len(data)
            *whole, rest = (rest + data).split(b"\n")
            rest = rest[:LONGEST_LINE]
            for line in whole:
                if not line.startswith(BEGINNING):
                    yield from self._new(Line(index, line[:LONGEST_LINE]))
                    index += 1

    def _new(self, line: Line) -> Iterator[Line]:
        if line.index < self._next:
            return
        self._next = line.index + 1
        if line.data in self._seen:
            return
        self._seen[line.data] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        yield line


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)  # a file on any file system has no event for this
    return True


def _first(descriptor: int) -> int:
    """The index of the first line of an open file."""
    header = decode(os.pread(descriptor, LONGEST_LINE, 0).partition(b"\n")[0])
    return 0 if header is None else header.first


def _is_in_place(descriptor: int, path: Path, position: int) -> bool:
    """Whether the open file, read up to `position`, still has the name, and has not been emptied."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) and ours.st_size >= position
