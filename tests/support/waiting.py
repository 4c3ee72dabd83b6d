"""Waiting for what has no event to wait for: the kernel's tables under /proc, a file that a program will write."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01
"""/proc has nothing to wait on, so it is looked at this often: far below any duration that a test measures."""


def until(look: Callable[[], T], seconds: float = 10.0, *, what: str = "the expected state") -> T:
    """What `look` returns as soon as that is true; AssertionError if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"no {what} within {seconds} s (last seen: {seen!r})"
        time.sleep(POLL_SECONDS)


def listens(path: str | Path) -> bool:
    """Whether somebody accepts connections at the unix socket `path`: its file is there a moment before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0
