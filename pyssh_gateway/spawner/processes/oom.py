"""Out-of-memory priorities (proc(5), oom_score_adj): the kernel kills users' processes before it kills the server.

As with sshd (openbsd-compat/port-linux.c), the listener, here the spawner, is never chosen, and every user's process
gets back the value that the server was started with; so do preauth processes. The server's other processes can be
chosen, but only if one uses over half of the memory itself, and so is what has filled it.
"""

import os
from contextlib import suppress

PATH = "/proc/self/oom_score_adj"

NEVER = -1000
"""The spawner's value: the kernel's OOM_SCORE_ADJ_MIN, as sshd's. The spawner uses a few megabytes and never grows."""

SERVER_PROCESS = -500
"""The value of the monitor and postauth processes: as if each used half of the machine's memory less than it does."""


def protect(path: str = PATH) -> int | None:
    """Never be chosen from now on; returns the value before, None if nothing was changed.

    This needs CAP_SYS_RESOURCE. Without it (not root, or a container that took it away) nothing is changed.
    """
    try:
        before = _read(path)
        _write(path, min(before, NEVER))
    except (OSError, ValueError):
        return None
    return before


def for_server_process(before: int | None) -> int | None:
    """The value for one of the server's other processes; `before` is what `protect` has returned."""
    return None if before is None else min(before, SERVER_PROCESS)


def restore(before: int | None, path: str = PATH) -> None:
    """In a forked child, before it gives up its rights: restore the value that the server was started with.

    When a process with CAP_SYS_RESOURCE sets a value, the kernel keeps it as the minimum that the process may set
    later without; so no user's process can return to the server's value.
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
