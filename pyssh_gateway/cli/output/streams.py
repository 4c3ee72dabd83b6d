"""Standard output and standard error of the commands, whatever terminal or pipe they are."""

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Whatever the language of the terminal is, no character of an answer is an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO | None) -> None:
    """Nobody takes what is written to `stream`: drop it, and whatever Python still has of it when it ends.

    As the library reference has it for SIGPIPE. Without this the end of the process would try again, print a traceback,
    and change the exit code to 120. None: the stream was closed from the start.
    """
    if stream is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def give_up_output() -> None:
    """The same for standard output."""
    give_up(sys.stdout)
