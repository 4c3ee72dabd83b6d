"""Writes the lines of the log to its current file: whole, in order, each once. What can't be written waits.

It counts the lines, also over several files: the first line of a file in the middle of the log is a header that says at
which line the file begins. Nothing here waits, except for the disk. It does not know what a line says.
"""

import os
from collections import deque
from contextlib import suppress

import msgspec

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.log_file import OpenFile
from pyssh_gateway.audit.resuming import Found
from pyssh_gateway.audit.state import LogState, check_of
from pyssh_gateway.audit.tree import Tree

MAX_WAITING_LINES = 4096
MAX_WAITING_BYTES = 1024 * 1024
"""How much waits for room on the disk, as for a reader of standard output (`audit.output`)."""

CATCH_UP_BYTES = 256 * 1024
"""How much of the file is read at once for lines that are not counted yet: a few milliseconds."""

MAX_RESCUED_BYTES = 16 * 1024 * 1024
"""The most bytes that are copied from a deleted file: the log of days in which no new one could be made."""


class Mark(msgspec.Struct, frozen=True):
    """A place in the file where a line ends, and the lines before it."""

    offset: int
    size: int
    hashes: tuple[str, ...]


class FileWriter:
    """Writes to one file after the other; owns their descriptors. `found` is what was there before.

    The first file may not be `writable` at present; then all lines wait.
    """

    def __init__(self, descriptor: int, found: Found, *, writable: bool = True) -> None:
        self.file = OpenFile(descriptor)
        self.writable = writable
        self.tree = found.tree
        self.first = found.first
        self.began = found.began
        self.lost = 0
        self.problem: OSError | None = None
        self.waits_since = 0.0
        self._covered = found.covered
        self._size = os.fstat(descriptor).st_size
        self._is_torn = self.file.ends_mid_line(self._size)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._mark = self._here()

    @property
    def size(self) -> int:
        """The bytes in the file."""
        return self._size

    @property
    def waiting(self) -> int:
        """How many lines wait to be written."""
        return len(self._waiting)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, line: bytes, time: float) -> None:
        """Write `line`, which ends in a newline, after those that wait; or have it wait, or lose it if too many do.

        `time` is its event's. Never raises: `problem` is why lines wait, None if none do, and `waits_since` the time of
        the first event that had to.
        """
        if not self.write_waiting():
            self._wait(line)
            return
        try:
            self._put(line)
        except OSError as error:
            self.problem, self.waits_since = error, time
            self._wait(line)
            return
        if self.began is None:
            self.began = time

    def write_waiting(self) -> bool:
        """Try to write what waits; returns whether nothing waits any more."""
        while self._waiting:
            try:
                self._put(self._waiting[0])
            except OSError as error:
                self.problem = error
                return False
            self._waiting_bytes -= len(self._waiting.popleft())
        self.problem = None
        return True

    def _wait(self, line: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING_LINES or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self.lost += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _put(self, data: bytes) -> None:
        """Write whole lines, and count them. Raises OSError, and then none of them is in the file."""
        size = os.lseek(self.file.descriptor, 0, os.SEEK_END)
        if size != self._size:
            self._was_changed(size)
        if self._size == 0 and self.tree.size:
            self._begin()
        before = self._size
        self._append(b"\n" + data if self._is_torn else data)
        self._is_torn = False
        if self._covered == before:
            self._count(data)
        elif self._size - self._covered < CATCH_UP_BYTES:  # the fragment that has just been ended, and this line
            with suppress(OSError):
                self.catch_up()

    def _begin(self) -> None:
        """Write the header of an empty file that begins in the middle of the log."""
        line = headers.encode(Header(self.tree.size, self.tree.range())) + b"\n"
        self._append(line)
        self.first, self._covered = self.tree.size, len(line)
        self._mark = self._here()

    def _append(self, data: bytes) -> None:
        """Add to the file all of `data`, or nothing. Raises OSError."""
        done = 0
        try:
            done = os.write(self.file.descriptor, data)
            while done < len(data):
                done += os.write(self.file.descriptor, data[done:])
        except OSError:
            if done:  # the disk is full
                try:
                    os.ftruncate(self.file.descriptor, self._size)
                except OSError:
                    self._size += done
                    self._is_torn = True
            raise
        self._size += len(data)

    def _was_changed(self, size: int) -> None:
        """Somebody else has emptied the file (logrotate's `copytruncate`), or written to it."""
        self._size = size
        self._is_torn = self.file.ends_mid_line(size)
        if size < self._covered:
            self._covered = size
            self.first = self.tree.size
            self._mark = self._here()

    # -- counting -----------------------------------------------------------------------------------------------

    def _count(self, data: bytes) -> None:
        """Add the whole lines `data`, which begin where those that are counted end, to the tree."""
        self._covered += len(data)
        if data.find(b"\n") == len(data) - 1:  # one line, as nearly always
            self.tree.append(data[:-1])
            return
        for line in data[:-1].split(b"\n"):
            self.tree.append(line)

    def catch_up(self, most: int = CATCH_UP_BYTES) -> bool:
        """Count lines in the file that are not counted yet, about `most` bytes; returns whether there are no more.

        Raises OSError if the file can't be read.
        """
        begin = self._covered
        data = os.pread(self.file.descriptor, most, begin) if begin < self._size else b""
        end = data.rfind(b"\n") + 1
        if end:
            self._count(data[:end])
        elif len(data) == most:
            return self.catch_up(2 * most)  # one line is as long as that
        return not data or begin + len(data) >= self._size

    @property
    def is_counted(self) -> bool:
        """Whether the tree has all lines of the file."""
        return self._covered == self._size

    def _catch_up_all(self) -> None:
        with suppress(OSError):
            while not self.catch_up():
                pass

    # -- other files --------------------------------------------------------------------------------------------

    def is_in_place(self) -> bool:
        """Whether the file is where it was opened. What is written later is copied if it turns out to be deleted."""
        if not self.file.is_in_place():
            return False
        if self.is_counted:
            self._mark = self._here()
        return True

    def _here(self) -> Mark:
        return Mark(self._covered, self.tree.size, self.tree.range())

    def change_to(self, descriptor: int) -> bool:
        """Write to this file from now on. Returns False, and closes it, if it is the same one as before.

        If the file before was deleted, the lines since the last look at its place are written again.
        """
        before, was_writable = self.file, self.writable
        self.writable = True
        if before.is_same(descriptor):
            if not was_writable:
                self.file, descriptor = OpenFile(descriptor), before.descriptor
                self.write_waiting()
            os.close(descriptor)
            return not was_writable
        self._catch_up_all()
        rescued = self._deleted_lines() if before.is_deleted else []
        self.file = OpenFile(descriptor)
        self._size = os.fstat(descriptor).st_size
        self._is_torn = self.file.ends_mid_line(self._size)
        self._covered, self.first, self.began = self._size, self.tree.size, None
        self._mark = self._here()
        for number, block in enumerate(rescued):
            try:
                self._put(block)
            except OSError as error:
                self.problem = error
                self._wait_first(rescued[number:])
                break
        if self.write_waiting() and self._size == 0 and self.tree.size:
            try:
                self._begin()
            except OSError as error:
                self.problem = error
        os.close(before.descriptor)
        return True

    def _wait_first(self, blocks: list[bytes]) -> None:
        """Have these lines wait before all others."""
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        for block in blocks:
            for line in block.splitlines(keepends=True):
                self._wait(line)
        for line in waiting:
            self._wait(line)

    def _deleted_lines(self) -> list[bytes]:
        """The lines since the mark, in blocks; the tree goes back to where they begin."""
        mark, end = self._mark, self._covered
        if end < mark.offset:
            return []
        self.tree = Tree(mark.size, mark.hashes)
        blocks: list[bytes] = []
        at = mark.offset
        with suppress(OSError):
            while at < end:
                data = os.pread(self.file.descriptor, min(CATCH_UP_BYTES, end - at), at)
                data = data[: data.rfind(b"\n") + 1] or os.pread(self.file.descriptor, end - at, at)
                if not data:
                    break
                at += len(data)
                if end - at >= MAX_RESCUED_BYTES:  # too old
                    self._count(data)
                    continue
                blocks.append(data)
        return blocks

    # -- what is kept of it -------------------------------------------------------------------------------------

    def state(self, seq: int, connections: int) -> LogState:
        """What the next start needs to know. Raises OSError."""
        check = check_of(self.file.descriptor, self._covered)
        return LogState(self.tree.size, self.tree.range(), self._covered, connections, seq, self.first, check)

    def close(self) -> None:
        """Write what still waits, if that is possible now, and close the file."""
        self.write_waiting()
        self.lost += len(self._waiting)
        os.close(self.file.descriptor)
