"""Connections that a proxy makes for its clients: reads the PROXY header of each, and no byte behind it.

`core.proxy_protocol` decides what a header means and which peers are trusted; the listener decides what happens to a
connection. This module limits the number and the time of connections whose header has not come yet, and of those that
the proxy makes for itself as health checks.
"""

import asyncio
import socket
from contextlib import suppress

from pyssh_gateway.core.proxy_protocol import Accepted, Header, NothingSaid, ProxyError, Reader, is_trusted

HEADER_SECONDS = 3.0
"""How long a header may take. haproxy's text asks for at least this, so that a lost segment can be sent again. A proxy
sends the header at once, without waiting for its client's first bytes."""

MAX_WAITING = 256
"""How many connections may wait for their header; each takes a descriptor. A proxy's header comes with the connection,
so most connections never wait, however many there are: this is room for late segments."""

PROBE_SECONDS = 3.0
"""How long a proxy's own connection may stay after it has been answered: long enough to send a lost segment again."""

MAX_PROBES = 32
"""How many of proxies' own connections may be open at a time. Each is answered at once and closes, so there are hardly
ever two."""

MAX_PROBE_BYTES = 4096
"""How many bytes such a connection may send. A check that acts as an SSH client sends an identification line and at
most a KEXINIT (OpenSSH's has 1.5 KiB)."""


async def read_header(
    sock: socket.socket, loop: asyncio.AbstractEventLoop, accepted: Accepted, seconds: float = HEADER_SECONDS
) -> Header:
    """Read the header that a connection begins with. `sock` is an accepted socket, and is left open.

    Takes exactly the header's bytes, in two to six reads if they are there already. The client's bytes stay in the
    socket for its next reader, even if they came in the same segment. Raises ProxyError if there is no valid header
    after `seconds`, or as soon as there can be none; `NothingSaid`, a subclass, if the peer has gone without sending a
    byte.
    """
    reader = Reader(accepted)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(seconds):
            while True:
                header = reader.feed(await _receive(sock, loop, reader.wanted))
                if header is not None:
                    return header
    except TimeoutError:
        raise ProxyError(f"no PROXY header within {seconds:g} s") from None


async def _receive(sock: socket.socket, loop: asyncio.AbstractEventLoop, wanted: int) -> bytes:
    """Up to `wanted` bytes; none when the peer has closed, in whatever way."""
    try:
        return await loop.sock_recv(sock, wanted)
    except OSError:  # many probes reset their connection
        return b""


async def _say_and_listen(sock: socket.socket, loop: asyncio.AbstractEventLoop, words: bytes) -> None:
    """Send the short text `words` and end-of-file; return when the peer has closed, or has sent too much.

    The peer's bytes are discarded, but have to be read: closing with unread input resets the connection, and the peer
    would lose `words`.
    """
    sock.setblocking(False)
    with suppress(OSError):  # the peer is gone; otherwise a line fits into the empty buffer
        sock.send(words)
        sock.shutdown(socket.SHUT_WR)
    left = MAX_PROBE_BYTES
    while left and (data := await _receive(sock, loop, left)):
        left -= len(data)


class Proxies:
    """The trusted proxies, the accepted versions of the header, and the connections that wait for theirs.

    Waiting connections are limited here. They take none of the places of clients (`core.limits`), which are counted by
    the address in the header. When too many wait, the one that has waited longest is closed. A connection that brings a
    client sends its header at once, so silent connections can't keep it out, however many they are.
    """

    def __init__(
        self,
        networks: tuple[str, ...],
        accepted: Accepted,
        loop: asyncio.AbstractEventLoop,
        *,
        seconds: float = HEADER_SECONDS,
        places: int = MAX_WAITING,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._networks = networks
        self._accepted = accepted
        self._loop = loop
        self._seconds = seconds
        self._places = places
        self._waiting: dict[socket.socket, asyncio.Timeout] = {}  # the one that has waited longest comes first
        self._given_up: dict[socket.socket, ProxyError] = {}
        self._probe_seconds = probe_seconds
        self._probes: dict[socket.socket, asyncio.Timeout] = {}  # the one that has been there longest comes first

    def trusts(self, peer: str) -> bool:
        """Whether a PROXY header from `peer` is believed. From any other peer it is not even read."""
        return is_trusted(peer, self._networks)

    async def header(self, sock: socket.socket) -> Header:
        """Read the header of a connection from a trusted peer, as `read_header` does; `sock` is left open.

        Raises ProxyError also when the place is needed for a newer connection, and `NothingSaid` after `give_up`.
        """
        if len(self._waiting) >= self._places:
            self._end(next(iter(self._waiting)), ProxyError("no PROXY header before its place was needed for others"))
        try:
            async with asyncio.timeout(None) as place:
                self._waiting[sock] = place
                return await read_header(sock, self._loop, self._accepted, self._seconds)
        except TimeoutError:  # read_header raises none: `_end` has ended it
            raise self._given_up[sock] from None
        finally:
            self._waiting.pop(sock, None)
            self._given_up.pop(sock, None)

    async def answer(self, sock: socket.socket, identification: bytes) -> None:
        """Serve a connection that the proxy has made for itself (LOCAL), and close it.

        haproxy's text (section 2.2) requires that it is accepted as valid. It is a health check that only connects, or
        that reads the line with which an SSH server begins (RFC 4253 section 4.2). So we send that line and then
        end-of-file, so that a check that wants more does not hang. It brings no client, so there is nobody to be let
        in.
        """
        if len(self._probes) >= MAX_PROBES:  # the oldest has had its answer
            self._end_probe(next(iter(self._probes)))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as place, asyncio.timeout(self._probe_seconds):
                    self._probes[sock] = place
                    await _say_and_listen(sock, self._loop, identification)
        finally:
            self._probes.pop(sock, None)
            sock.close()

    def give_up(self) -> None:
        """End them without a refusal: before their header they have not come yet, like those in the kernel's queue."""
        for sock in tuple(self._waiting):
            self._end(sock, NothingSaid("the server is stopping"))
        for sock in tuple(self._probes):
            self._end_probe(sock)

    def _end(self, sock: socket.socket, reason: ProxyError) -> None:
        self._given_up[sock] = reason
        self._waiting.pop(sock).reschedule(self._loop.time())

    def _end_probe(self, sock: socket.socket) -> None:
        self._probes.pop(sock).reschedule(self._loop.time())
