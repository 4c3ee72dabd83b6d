"""Finds the servers that run on this machine by their control sockets, for a command outside of their directories.

The kernel lists the sockets that are bound to a name (proc(5), /proc/net/unix). The listening process shows whether a
socket is ours or another program's. Nothing is sent to any of them.
"""

import os
from pathlib import Path

from pyssh_gateway.ipc.control_socket import FILE_NAME, ROOT, ControlSocketError, connect, peer_of

MAX_LIST_BYTES = 4 * 1024 * 1024
"""The most bytes that are read of /proc/net/unix: forty thousand sockets."""

MOST = 16
"""The most sockets that are tried: a person starts a handful of servers."""

_LISTENS = 0x10000
"""__SO_ACCEPTCON in the column of flags: the socket listens."""


def running(table: str = "/proc/net/unix") -> tuple[str, ...]:
    """The control sockets of servers that this process may ask: those of its own account, or for root, all."""
    try:
        with Path(table).open("rb") as file:
            listed = file.read(MAX_LIST_BYTES)
    except OSError:
        return ()
    found = dict.fromkeys(path for line in listed.splitlines() if (path := _listening_path(line)) is not None)
    return tuple(path for path in list(found)[:MOST] if _is_server(path))


def _listening_path(line: bytes) -> str | None:
    """The path of a listening socket that has the name of our control sockets.

    The fields are number, references, protocol, flags, type, state, inode, path.
    """
    fields = line.split(None, 7)
    try:
        listens = len(fields) == 8 and int(fields[3], 16) & _LISTENS
    except ValueError:  # the line of headings
        return None
    path = os.fsdecode(fields[7]) if listens else ""
    return path if path.startswith("/") and path.rpartition("/")[2] == FILE_NAME else None


def _is_server(path: str) -> bool:
    """Whether a server of this account, or for root of any account, listens at `path`."""
    try:
        with connect(path) as sock:
            pid, uid = peer_of(sock)
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except (ControlSocketError, OSError):
        return False
    mine = os.geteuid() in {ROOT, uid}
    return mine and b"serve" in words and any(word.rpartition(b"/")[2].startswith(b"pyssh") for word in words)
