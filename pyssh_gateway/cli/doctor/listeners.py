"""Which processes listen on a TCP port, as the kernel lists them (proc_net_tcp(5), proc_pid_fd(5))."""

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

MAX_TABLE_BYTES = 16 * 1024 * 1024
"""The most bytes that are read of a table of sockets: a hundred thousand connections."""

_LISTEN = b"0A"
"""TCP_LISTEN in the kernel's table."""


class Listener(msgspec.Struct, frozen=True):
    """A socket that listens on `address` (an IPv4 or IPv6 literal) and `port`.

    `pids` are the processes that have the socket, as far as this account may see them: an ordinary account sees its own
    processes only. `uid` is the account that made it.
    """

    address: str
    port: int
    uid: int
    pids: tuple[int, ...]


def listeners_at(port: int, proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """All sockets that listen on `port`, at any address; none where there is no /proc."""
    found = [entry for table in ("tcp", "tcp6") for entry in _entries(proc / "net" / table) if entry[1] == port]
    owners = _owners({inode for *_, inode in found}, proc) if found else {}
    return tuple(Listener(address, number, uid, owners.get(inode, ())) for address, number, uid, inode in found)


def name_of_process(pid: int, proc: Path = Path("/proc")) -> str:
    """The name of a process (proc_pid_comm(5)); empty if it has ended."""
    try:
        return (proc / str(pid) / "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
    except OSError:
        return ""


def _entries(table: Path) -> Iterator[tuple[str, int, int, int]]:
    """Address, port, uid and inode of each listening socket."""
    try:
        with table.open("rb") as file:
            lines = file.read(MAX_TABLE_BYTES).splitlines()
    except OSError:
        return
    for line in lines[1:]:  # the first is a heading
        fields = line.split()
        if len(fields) >= 10 and fields[3] == _LISTEN:
            address, _, port = fields[1].partition(b":")
            yield _address(address), int(port, 16), int(fields[7]), int(fields[9])


def _address(text: bytes) -> str:
    """The literal of an address that the kernel writes in words of 32 bits, each in the machine's byte order."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def _owners(inodes: set[int], proc: Path) -> dict[int, tuple[int, ...]]:
    """The processes that have each of these sockets."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, tuple[int, ...]] = {}
    for process in proc.glob("[0-9]*"):
        for link in _links(process / "fd") & wanted.keys():
            owners[wanted[link]] = (*owners.get(wanted[link], ()), int(process.name))
    return owners


def _links(directory: Path) -> set[str]:
    """The targets of a process's descriptors; those that are closed meanwhile are left out."""
    links: set[str] = set()
    try:
        entries = list(directory.iterdir())
    except OSError:  # it has ended, or belongs to another account
        return links
    for entry in entries:
        with suppress(OSError):
            links.add(str(entry.readlink()))
    return links
