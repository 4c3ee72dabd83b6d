"""What the kernel ends when memory runs out (proc(5), oom_score_adj): not the server before what it runs for users.

As sshd does (openbsd-compat/port-linux.c): the listener is never chosen, and every user's process gets the value back
that the server was started with, as do strangers' processes. The server's other processes can be chosen, but only one
that uses over half of the memory itself, hence is what has filled it.
"""

import os
from contextlib import suppress

PATH = "/proc/self/oom_score_adj"

NEVER = -1000
"""The spawner's value: OOM_SCORE_ADJ_MIN of the kernel, and sshd's. It keeps a few megabytes and never grows."""

SERVER_PROCESS = -500
"""That of the monitor and of accounts' processes: as if each used half of the machine's memory less than it does."""


def protect(path: str = PATH) -> int | None:
    """Never be chosen from now on; returns the value until now, None if nothing was changed.

    It takes CAP_SYS_RESOURCE: without it (not root, or a container that took it away) all stays as it is.
    """
    try:
        before = _read(path)
        _write(path, min(before, NEVER))
    except (OSError, ValueError):
        return None
    return before


def for_server_process(before: int | None) -> int | None:
    """The value of one of the server's other processes, of what `protect` has returned."""
    return None if before is None else min(before, SERVER_PROCESS)


def restore(before: int | None, path: str = PATH) -> None:
    """In a forked child, before it gives its rights up: have the value again that the server was started with.

    With the right to, the kernel takes it for the least that the process may have later, so nobody gets ours back.
    """
    if before is not None:
        with suppress(OSError):
            _write(path, before)


def _read(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 32))
    finally:
        os.close(descriptor)


def _write(path: str, value: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
