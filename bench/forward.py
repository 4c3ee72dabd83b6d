"""Much data through a forwarded connection (-L, -W, an editor's): from a server on the other side to the client."""

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bench.client import CLIENT_SECONDS
from bench.cost import Moved, metered
from bench.figures import Figure
from bench.rig import Rig
from bench.servers import Server

SIZE = 256 * 1024 * 1024


def forward(rig: Rig) -> list[Figure]:
    """256 MiB from a TCP server beside sshd to the client's /dev/null, by direct-tcpip."""
    with metered(rig) as cost, _source() as port:

        def move(server: Server) -> Moved:
            wall, _ = rig.client.run(server, None, "-W", f"127.0.0.1:{port}")
            return Moved(wall)

        return cost.figures(f"forward {SIZE >> 20} MiB (-L)", move)


@contextmanager
def _source() -> Iterator[int]:
    """A TCP server that sends `SIZE` bytes on each connection and closes it; gives its port.

    It is a thread of this process: sendfile(2) takes hardly any CPU time, and none of it counts for a server.
    """
    with tempfile.TemporaryFile() as content, socket.create_server(("127.0.0.1", 0)) as listening:
        os.truncate(content.fileno(), SIZE)
        thread = threading.Thread(target=_serve, args=(listening, content.fileno()))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # accept(2) returns
            thread.join(CLIENT_SECONDS)


def _serve(listening: socket.socket, content: int) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, suppress(ConnectionError):
            sent = 0
            while sent < SIZE:
                sent += os.sendfile(connection.fileno(), content, sent, SIZE - sent)
