"""Which processes hold a connection's socket, according to the kernel: a forgotten copy delays the FIN."""

from pathlib import Path

from tests.support import processes
from tests.support.server import Server


def holders(server: Server, port: int) -> list[str]:
    """The names of the server's processes that have the socket of the client at `port` of the loopback, sorted.

    No process holds a socket that is on its way between two processes.
    """
    return sorted(name for _, name in _holders(server, port))


def held_by(server: Server, port: int, name: str) -> int | None:
    """The process of that name that has the socket of the client at `port`, if one has."""
    return next((pid for pid, each in _holders(server, port) if each == name), None)


def _holders(server: Server, port: int) -> list[tuple[int, str]]:
    link = f"socket:[{_inode(server.port, port)}]"
    below = processes.descendants(server.pid)
    return [(process.pid, process.name) for process in below if link in processes.descriptors(process.pid)]


def _inode(local: int, remote: int) -> str:
    """The inode of the server's end of a TCP connection (/proc/net/tcp); "" if there is none."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
        if ports == [local, remote]:
            return fields[9]
    return ""
