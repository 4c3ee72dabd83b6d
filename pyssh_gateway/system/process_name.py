"""The name of a forked process for people: all processes have the command line of the server."""

from contextlib import suppress
from pathlib import Path

from pyssh_gateway.system import libc

PR_SET_NAME = 15
"""prctl(2). A process that has changed its uid may not write /proc/self/comm, which then belongs to root."""


def own_name() -> str:
    """The name that this process has now."""
    return Path("/proc/self/comm").read_text(errors="replace").removesuffix("\n")


def name_process(name: str) -> None:
    """Make `ps -o comm` and `top` show `name`, of at most 15 bytes (proc(5)); errors are ignored."""
    with suppress(OSError):
        libc.prctl(PR_SET_NAME, name.encode())
