"""Processes whose parents have gone: they become ours, and may still be known."""

from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2), which Python has no name for."""

ENVIRONMENT_BYTES = 64 * 1024
"""How much of a process's environment is looked at for a mark."""


def adopt() -> None:
    """Become the parent of whatever our children leave behind, as the first process of a machine is of all.

    So a daemon that a session has started stays below the server, where it is found, and is reaped when it ends.
    """
    import ctypes  # late: only the spawner needs it

    with suppress(OSError, AttributeError):  # without it, such processes are somebody else's
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def marked_children(variable: bytes, parent: int) -> set[int]:
    """The children of `parent` that were started with `variable` in their environment (proc(5): children, environ).

    Looking may take as long as they like: it is not for the spawner itself.
    """
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:  # a kernel without it
        return set()
    return {int(pid) for pid in children if _has(pid, variable)}


def _has(pid: str, variable: bytes) -> bool:
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            return b"\0" + variable + b"=" in b"\0" + file.read(ENVIRONMENT_BYTES)
    except OSError:  # it has gone
        return False
