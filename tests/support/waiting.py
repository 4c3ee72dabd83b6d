"""Waiting without an event to wait for: the kernel's tables under /proc, a file that a program will write."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""How many seconds a test waits for something that is due at once. Only a test that fails waits so long: a busy
machine takes ten times as long as an idle one, and a missing event does not come at all."""

AT_ONCE = 10.0
"""Within so many seconds, however busy the machine is, an action has finished that must not wait. What it must not wait
for takes a minute in the tests, or never ends."""

POLL_SECONDS = 0.01
"""/proc has no events to wait for, so it is read this often: far below any duration that a test measures."""


def until(look: Callable[[], T], seconds: float = PATIENCE, *, what: str = "the expected state") -> T:
    """The result of `look` as soon as it is true; AssertionError if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"no {what} within {seconds} s (last seen: {seen!r})"
        time.sleep(POLL_SECONDS)


def listens(path: str | Path) -> bool:
    """Whether connections to the unix socket `path` are accepted: its file exists a moment earlier."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0
