"""A real HTTP proxy on 127.0.0.1: it makes tunnels (CONNECT), and may demand a password."""

import select
import socket
from collections.abc import Callable
from http.server import HTTPServer
from typing import Any

from tests.support import local_http
from tests.support.local_http import LocalServer, Played

Refusal = Callable[["_Handler"], None]


class ConnectProxy(Played):
    """The proxy. `url` is its address, `targets` are the requested ones; `authorization` is the header that it demands.

    A `refusal`, if there is one, is answered instead of a tunnel. Every host name leads to 127.0.0.1.
    """

    def __init__(self, authorization: str | None = None) -> None:
        self.targets: list[str] = []
        self.seen: list[dict[str, str]] = []
        self.carried = bytearray()
        self.authorization = authorization
        self.refusal: Refusal | None = None
        server = _Server(self)
        super().__init__(server)
        self.url = f"http://127.0.0.1:{server.server_port}"


class _Server(LocalServer, HTTPServer):
    def __init__(self, proxy: ConnectProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(local_http.Handler):
    server: _Server

    def do_CONNECT(self) -> None:  # noqa: N802 - the base class's way to name methods
        """Make a tunnel."""
        self.close_connection = True
        proxy = self.server.proxy
        proxy.targets.append(self.path)
        proxy.seen.append(dict(self.headers))
        if proxy.refusal is not None:
            proxy.refusal(self)
        elif proxy.authorization is not None and self.headers.get("Proxy-Authorization") != proxy.authorization:
            self.send_error(407)
        else:
            with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as target:
                self.send_response(200, "Connection established")
                self.end_headers()
                self._carry(target)

    def _carry(self, target: socket.socket) -> None:
        ends: dict[Any, Any] = {self.connection: target, target: self.connection}
        while not self.released.is_set():
            for end in select.select(list(ends), [], [], 0.01)[0]:
                data = end.recv(65536)
                if not data:
                    return
                self.server.proxy.carried += data
                ends[end].sendall(data)

    def answer(self) -> None:
        """Not used: the proxy only makes tunnels."""
        self.send_error(405)
