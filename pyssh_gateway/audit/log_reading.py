"""Reads the log's lines, wherever they are kept: the only place that knows the files.

Today that is one file. This module does not know what a line says.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

LONGEST_LINE = 64 * 1024
"""A longer line is cut off here, and so is no JSON any more. Events that somebody reads again have a few hundred bytes;
the longest ones, of a command's text, some ten thousand."""


class NoLog(OSError):
    """The log can't be read. The message is one line for a person."""


def lines(log: Path) -> Iterator[bytes]:
    """The lines of the file `log` in the order in which they were written, at most `LONGEST_LINE` of each.

    A last line without its newline is still being written, and left out. Raises NoLog, before the first line only.
    """
    try:
        # Not blocking: a pipe in its place must not make a reader wait for ever.
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoLog(f"there is no log at {log}; --log names another file, --config another configuration") from None
    except PermissionError:
        raise NoLog(f"{log} may not be read by this account: ask as root, or be in the file's group") from None
    except OSError as error:
        raise NoLog(f"{log} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoLog(f"{log} is not a file")
    return _read(descriptor)


def _read(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            whole = line
            while whole and not whole.endswith(b"\n"):
                whole = file.readline(LONGEST_LINE)
            if not whole:
                return
            yield line
