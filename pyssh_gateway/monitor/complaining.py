"""The way to standard error, for what can't go into the log."""

import os
import select
from contextlib import suppress

STDERR = 2


def complain(text: str) -> None:
    """Say something that can't go into the log, on standard error, unless nobody reads that: we can't wait for it."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    if ready.poll(0):
        with suppress(OSError):
            os.write(STDERR, f"pyssh-gateway: {text.rstrip()}\n".encode(errors="backslashreplace"))
