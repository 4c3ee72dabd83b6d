"""Serves figures to Prometheus: `GET /metrics` over HTTP/1.1 (RFC 9112), and nothing else.

A connection is one request and one answer, each with a deadline and a size limit. Clients are not identified. A scrape
is no event, so it neither fills the log nor keeps the machine up. This module does not know what the figures are.
"""

import asyncio
import re
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pyssh_gateway.events import AnyEvent, InternalError
from pyssh_gateway.system.accepting import accept_each

MAX_SCRAPERS = 8
"""How many connections there may be at a time. One or two scrapers ask every quarter of a minute; further connections
are closed."""

MAX_REQUEST_BYTES = 8192
"""Prometheus sends a few hundred bytes of request line and headers; this is what web servers take."""

READ_SECONDS = 5.0
"""How long a request may take to arrive, and an answer to be taken. Prometheus itself gives up after 10 s."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format's own (Prometheus, exposition formats)."""

_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,4096}) HTTP/1\.[01]\r\n")


class MetricsServer:
    """Answers at `listening` while `run` runs. `render` gives the figures' text."""

    def __init__(
        self, listening: socket.socket, *, render: Callable[[], Awaitable[bytes]], publish: Callable[[AnyEvent], None]
    ) -> None:
        self._listening = listening
        self._render = render
        self._publish = publish
        self._scrapers = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:

            def take(sock: socket.socket) -> None:
                tasks.create_task(self._serve(sock), name="metrics")

            await accept_each(self._listening, take)

    async def _serve(self, sock: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        with sock, suppress(OSError, TimeoutError):  # the client has gone, or takes too long
            if self._scrapers >= MAX_SCRAPERS:
                return
            self._scrapers += 1
            try:
                sock.setblocking(False)
                async with asyncio.timeout(READ_SECONDS):
                    request = await _read_head(sock)
                async with asyncio.timeout(READ_SECONDS):
                    await asyncio.get_running_loop().sock_sendall(sock, await self._answer(request))
                sock.shutdown(socket.SHUT_WR)
            finally:
                self._scrapers -= 1

    async def _answer(self, request: bytes) -> bytes:
        line = _REQUEST_LINE.match(request)
        if line is None or not request.endswith(_END):
            return _response("400 Bad Request", b"This is no request.\n")
        method, target = line.groups()
        if target.partition(b"?")[0] != b"/metrics":
            return _response("404 Not Found", b"There is only /metrics.\n")
        if method != b"GET":
            return _response("405 Method Not Allowed", b"There is only GET.\n", "Allow: GET\r\n")
        try:
            return _response("200 OK", await self._render())
        except Exception:  # noqa: BLE001 - a bug in a figure must not end the monitor, and logins with it
            self._publish(InternalError(where="metrics", error=traceback.format_exc()))
            return _response("500 Internal Server Error", b"The server's log has more.\n")


async def _read_head(sock: socket.socket) -> bytes:
    """The request up to its empty line, cut off if it is too long; incomplete if the client ends it before."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while _END not in head and len(head) < MAX_REQUEST_BYTES:
        received = await loop.sock_recv(sock, MAX_REQUEST_BYTES - len(head))
        if not received:
            break
        head += received
    before, end, _ = bytes(head).partition(_END)
    return before + end


def _response(status: str, body: bytes, headers: str = "") -> bytes:
    """The answer, after which the connection is closed: a scrape is so rare that keeping it open would cost more."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
