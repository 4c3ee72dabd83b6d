"""The file beside the log to which checkpoints are written: whole lines, one by one, each at once."""

import errno
import os
from contextlib import suppress


class CheckpointFile:
    """The open file, which belongs to this object; without one, nothing can be written.

    A line that was cut off by a crash or a full disk is removed: it must not look like a checkpoint that was changed.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._mend()

    def write(self, line: bytes) -> None:
        """Write a line, with its newline, or nothing of it. Raises OSError."""
        if self._descriptor is None:
            raise OSError(errno.ENOENT, "its file can't be opened")
        size = os.fstat(self._descriptor).st_size
        done = 0
        try:
            while done < len(line):
                done += os.write(self._descriptor, line[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def replace(self, descriptor: int | None) -> None:
        """Go on with this file; None: it can't be opened.

        The one before is closed in any case: it may be that of a closed file of the log, with which it is deleted.
        """
        self.close()
        self._descriptor = descriptor
        self._mend()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _mend(self) -> None:
        """Remove a last line that was cut off; if that fails, the next line follows it, and both can't be read."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            size = os.fstat(self._descriptor).st_size
            begin = max(0, size - 64 * 1024)
            end = os.pread(self._descriptor, size - begin, begin)
            if not end.endswith(b"\n") and end:
                os.ftruncate(self._descriptor, begin + end.rfind(b"\n") + 1)
