"""The name that a forked process has for people: all have the command line of the server."""

from contextlib import suppress
from pathlib import Path

from pyssh_gateway.system import libc

PR_SET_NAME = 15
"""prctl(2). A process that has changed its uid may not write /proc/self/comm, which is root's then."""


def own_name() -> str:
    """The name that this process has now."""
    return Path("/proc/self/comm").read_text(errors="replace").removesuffix("\n")


def name_process(name: str) -> None:
    """Have `ps -o comm` and `top` show `name`, of at most 15 bytes (proc(5)); nothing happens where that can't be."""
    with suppress(OSError):
        libc.prctl(PR_SET_NAME, name.encode())
