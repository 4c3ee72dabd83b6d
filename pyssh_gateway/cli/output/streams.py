"""Standard output and standard error of the commands, on any kind of terminal or pipe."""

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Make sure that no character raises an error, whatever the terminal's encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO | None) -> None:
    """Discard everything that is or was written to `stream`, as it has no reader any more.

    This is the library reference's recipe for SIGPIPE. Without it Python would flush again at its end, print a
    traceback, and change the exit code to 120. None: the stream was closed from the start.
    """
    if stream is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def give_up_output() -> None:
    """The same for standard output."""
    give_up(sys.stdout)
