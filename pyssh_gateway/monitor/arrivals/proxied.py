"""Connections that a proxy makes for its clients: the PROXY header is read off each, and nothing behind it.

What a header says, and whose is believed, is the business of `core.proxy_protocol`; what becomes of a connection is the
listener's. This module knows those whose header has not come yet, and those that the proxy makes for itself, to see
whether we are well: how many there may be of each, and for how long.
"""

import asyncio
import socket
from contextlib import suppress

from pyssh_gateway.core.proxy_protocol import Accepted, Header, NothingSaid, ProxyError, Reader, is_trusted

HEADER_SECONDS = 3.0
"""How long a header may take. haproxy's text asks for no less, so that a segment that was lost has come again; a proxy
sends it at once, without waiting for what its client will say."""

MAX_WAITING = 256
"""Connections whose header has not come yet, each a descriptor. A proxy's header comes with the connection, so most are
never among them, however large the crowd; this is room for segments that are late."""

PROBE_SECONDS = 3.0
"""How long a proxy's own connection may stay after it has been answered: a segment that was lost has come again."""

MAX_PROBES = 32
"""Proxies' own connections at a time. Each has its answer at once and goes, so there are hardly ever two."""

MAX_PROBE_BYTES = 4096
"""What such a connection may say: a check that plays a client sends an identification line, at most a KEXINIT behind
it (1.5 KiB of OpenSSH's)."""


async def read_header(
    sock: socket.socket, loop: asyncio.AbstractEventLoop, accepted: Accepted, seconds: float = HEADER_SECONDS
) -> Header:
    """The header that a connection begins with; `sock` has been accepted and is nobody's yet, and is left open.

    It takes exactly the header's bytes, in two to six reads if they are there already: what the client says stays in
    the socket for whoever is given it afterwards, also when it has come in the same segment. Raises ProxyError when
    there is no valid header after `seconds`, or it is clear that there will be none; `NothingSaid`, which is one, when
    the peer has gone without a byte.
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
    except OSError:  # many a probe resets what it has opened
        return b""


async def _say_and_listen(sock: socket.socket, loop: asyncio.AbstractEventLoop, words: bytes) -> None:
    """Send `words`, which are few, and the end; return when the peer has closed, or has said too much.

    What it says is thrown away, but has to be read: closing with input unread resets the connection, and takes the
    words from the peer.
    """
    sock.setblocking(False)
    with suppress(OSError):  # it has gone; and a line fits into a buffer that nothing is in
        sock.send(words)
        sock.shutdown(socket.SHUT_WR)
    left = MAX_PROBE_BYTES
    while left and (data := await _receive(sock, loop, left)):
        left -= len(data)


class Proxies:
    """Whose headers are read, in which versions, and the connections that wait for theirs.

    They are bounded here and hold none of the places of clients (`core.limits`), which go by the address that a header
    says. When there are too many, the one that has waited longest goes: who brings a client sends the header at once,
    so those that say nothing can't keep it out, however many they are.
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
        """Whether `peer` may say for whom it comes. From anybody else a header is not even read."""
        return is_trusted(peer, self._networks)

    async def header(self, sock: socket.socket) -> Header:
        """The header of a connection from a peer that is trusted, as `read_header` reads it; `sock` is left open.

        Raises ProxyError also when the place is needed for a newer connection, and `NothingSaid` after `give_up`.
        """
        if len(self._waiting) >= self._places:
            self._end(next(iter(self._waiting)), ProxyError("no PROXY header before its place was needed for others"))
        try:
            async with asyncio.timeout(None) as place:
                self._waiting[sock] = place
                return await read_header(sock, self._loop, self._accepted, self._seconds)
        except TimeoutError:  # read_header raises none: it was ended from outside
            raise self._given_up[sock] from None
        finally:
            self._waiting.pop(sock, None)
            self._given_up.pop(sock, None)

    async def answer(self, sock: socket.socket, identification: bytes) -> None:
        """Serve a connection that the proxy has made for itself (LOCAL), and close it.

        haproxy's text (section 2.2) wants it to be accepted as valid. It is a health check, which wants to connect, or
        to read the line with which an SSH server begins (RFC 4253 section 4.2): that is sent, and the end behind it,
        so that nothing hangs which wants more. Nobody is brought by it, so there is nobody to be let in.
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
        """Nobody is let in any more: who has not said anything has not come yet, like those in the kernel's queue."""
        for sock in tuple(self._waiting):
            self._end(sock, NothingSaid("the server is stopping"))
        for sock in tuple(self._probes):
            self._end_probe(sock)

    def _end(self, sock: socket.socket, reason: ProxyError) -> None:
        self._given_up[sock] = reason
        self._waiting.pop(sock).reschedule(self._loop.time())

    def _end_probe(self, sock: socket.socket) -> None:
        self._probes.pop(sock).reschedule(self._loop.time())
