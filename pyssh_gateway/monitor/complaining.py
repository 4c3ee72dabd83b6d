"""Writes to standard error what can't go into the log."""

import os
import select
from contextlib import suppress

STDERR = 2


def complain(text: str) -> None:
    """Write what can't go into the log to standard error, unless that would block: we can't wait for a reader."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    if ready.poll(0):
        with suppress(OSError):
            os.write(STDERR, f"pyssh-gateway: {text.rstrip()}\n".encode(errors="backslashreplace"))
