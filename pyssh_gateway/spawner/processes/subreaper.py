"""Orphaned processes: the spawner becomes their parent, and can recognise those of services."""

from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2), which Python has no name for."""

ENVIRONMENT_BYTES = 64 * 1024
"""How much of a process's environment is searched for a mark."""


def adopt() -> None:
    """Become the parent of processes that our children leave behind, as init otherwise does.

    So a daemon that a session has started remains a descendant of the server, can be found, and is reaped at its end.
    """
    import ctypes  # late: only the spawner needs it

    with suppress(OSError, AttributeError):  # without it, such processes become children of init
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def marked_children(variable: bytes, parent: int) -> set[int]:
    """The children of `parent` that were started with `variable` in their environment (proc(5): children, environ).

    The processes can make this take as long as they like, so the spawner itself must not call it.
    """
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:  # a kernel without this file
        return set()
    return {int(pid) for pid in children if _has(pid, variable)}


def _has(pid: str, variable: bytes) -> bool:
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            return b"\0" + variable + b"=" in b"\0" + file.read(ENVIRONMENT_BYTES)
    except OSError:  # it has gone
        return False
