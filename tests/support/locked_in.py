"""Work in a forked child that confines itself first, and the result of that work."""

import os
import signal
import traceback
from collections.abc import Callable
from typing import NamedTuple

ANSWER = 255
"""The child's descriptor for its answer, above all that tests open: work that closes the others keeps this one."""


class Ended(NamedTuple):
    """`said` is what the work returned, or its traceback; `signal` is the signal that killed it, or 0."""

    said: str
    signal: int


def in_child(work: Callable[[], object]) -> Ended:
    """Do `work` in a fork of this process, and wait for its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, ANSWER)
            try:
                said = repr(work())
            except BaseException:  # noqa: BLE001 - a forked child of the tests must never return from here
                said = traceback.format_exc()
            os.write(ANSWER, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode()
    status = os.waitpid(pid, 0)[1]
    return Ended(said, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def errno_of(call: Callable[[], object]) -> int:
    """The number of the error that `call` fails with; 0 if it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


KILLED = Ended("", signal.SIGSYS)
"""Killed by the filter, before it could answer."""
