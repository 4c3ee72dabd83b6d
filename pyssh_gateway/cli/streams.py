"""Standard output and standard error of the commands, whatever terminal or pipe they are."""

import io
import os
import sys


def prepare() -> None:
    """Whatever the language of the terminal is, no character of an answer is an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up() -> None:
    """Nobody reads what is printed: say nothing more, not even at the end (as the library reference has it)."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
