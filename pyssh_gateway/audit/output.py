"""Writes finished lines: whole, in order, and without ever making the event loop wait for a slow reader.

It knows descriptors and bytes, not what a line says.
"""

import os
import select
import threading
from collections import deque

# Standard output can block: a paused terminal, a log collector that hangs. Its lines wait here meanwhile. A login and
# its session write about eight lines of 300 bytes, so this holds some 500 logins, or one minute of a scanner that
# connects 30 times a second; and it is small compared with the process itself (about 40 MiB).
MAX_QUEUED_LINES = 4096
MAX_QUEUED_BYTES = 1024 * 1024

_NEWLINE = 0x0A


class LineWriter:
    """Writes whole lines to a descriptor that it doesn't own.

    A line is one `os.write`, so that with O_APPEND no other process's line gets into it; after a partial write the rest
    follows. When a write fails in the middle (disk full), the next line starts with a newline, and only the broken line
    is lost. `patient`: wait for a non-blocking descriptor (another process that shares a terminal may make it so),
    which only a thread of its own may do.
    """

    def __init__(self, fd: int, *, torn: bool = False, patient: bool = False) -> None:
        self._fd = fd
        self._torn = torn
        self._patient = patient

    def write(self, line: bytes) -> None:
        """Write `line`, which ends in a newline. Raises OSError; the next call can still succeed."""
        data = b"\n" + line if self._torn else line
        done = 0
        try:
            while done < len(data):
                done += self._write_some(memoryview(data)[done:])
        finally:
            if done:
                self._torn = data[done - 1] != _NEWLINE

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            if not self._patient:
                raise
        ready = select.poll()
        ready.register(self._fd, select.POLLOUT)
        # No deadline, like a blocking write: the thread is a daemon, and `LineFeed.close` bounds the wait for it.
        ready.poll()
        return 0


class LineFeed:
    """A bounded queue of lines, and the one daemon thread that writes them to a descriptor that may block.

    The thread starts with the first line, so an instance may be made before a fork, provided that nothing is offered
    to it before. Each line gets one try. `offer`, `dropped`, `failures` and `close` belong to one thread.
    """

    def __init__(self, fd: int) -> None:
        self._writer = LineWriter(fd, patient=True)
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._closing = False
        self._dropped = 0
        self._dropped_before = 0
        self._failures: dict[int, int] = {}
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many lines had no room since the last one that was queued."""
        return self._dropped

    @property
    def lost(self) -> int:
        """How many lines have been lost since the start, because there was no room or writing failed."""
        with self._changed:
            return self._dropped_before + self._dropped + sum(self._failures.values())

    def offer(self, line: bytes, *, gap: bytes = b"") -> None:
        """Queue `line`, or count it in `dropped` when there is no room. Never blocks.

        `gap` is a line about the `dropped` ones, which is queued before it. A queue that was full takes nothing until
        it is half empty: one long gap is clearer for a reader than many short ones.
        """
        lines = [gap, line] if gap else [line]
        with self._changed:
            share = 2 if self._dropped else 1
            if (
                len(self._lines) + len(lines) > MAX_QUEUED_LINES // share
                or self._bytes + len(gap) + len(line) > MAX_QUEUED_BYTES // share
            ):
                self._dropped += 1
                return
            self._put(lines)
            self._dropped_before += self._dropped
            self._dropped = 0
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="audit-stdout", daemon=True)
            thread.start()
            self._thread = thread

    def failures(self) -> dict[int, int]:
        """How many lines could not be written, by errno."""
        with self._changed:
            return dict(self._failures)

    def close(self, timeout: float, *, gap: bytes = b"") -> int:
        """Let the thread write what is queued, and then `gap`, for at most `timeout` seconds.

        Returns the number of lines left over. After a timeout the thread is still in its last write; it ends after that
        write or with the process.
        """
        with self._changed:
            self._closing = True
            self._put([gap] if gap else [])
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            left = len(self._lines)
            self._lines.clear()
            return left

    def _put(self, lines: list[bytes]) -> None:
        self._lines.extend(lines)
        self._bytes += sum(len(line) for line in lines)
        self._changed.notify()

    def _run(self) -> None:
        while line := self._next():
            try:
                self._writer.write(line)
            except OSError as error:
                self._done(line, error.errno or 0)
            else:
                self._done(line, 0)

    def _next(self) -> bytes | None:
        """The oldest line, which stays queued (and counted) while it is written; None at the end."""
        with self._changed:
            while not self._lines:
                if self._closing:
                    return None
                self._changed.wait()
            return self._lines[0]

    def _done(self, line: bytes, errno: int) -> None:
        with self._changed:
            if errno:
                self._failures[errno] = self._failures.get(errno, 0) + 1
            if self._lines:
                self._lines.popleft()
                self._bytes -= len(line)
