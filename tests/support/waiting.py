"""Waiting for what has no event to wait for: the kernel's tables under /proc, a file that a program will write."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""How many seconds a test waits for what is due at once. Only one that fails waits for so long: a machine that is busy
takes ten times what an idle one takes, and what is wrong doesn't come at all."""

AT_ONCE = 10.0
"""Within so many seconds something has happened that waits for nothing, however busy the machine is. What it must not
wait for takes a minute in the tests, or never ends."""

POLL_SECONDS = 0.01
"""/proc has nothing to wait on, so it is looked at this often: far below any duration that a test measures."""


def until(look: Callable[[], T], seconds: float = PATIENCE, *, what: str = "the expected state") -> T:
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
