"""Connections that a proxy makes for its clients: the PROXY header is read off each, and nothing behind it.

What a header says, and whose is believed, is the business of `core.proxy_protocol`; what becomes of a connection is the
listener's. This module knows those whose header has not come yet: how many there may be, and for how long.
"""

import asyncio
import socket

from pyssh_gateway.core.proxy_protocol import Accepted, Header, NothingSaid, ProxyError, Reader, is_trusted

HEADER_SECONDS = 3.0
"""How long a header may take. haproxy's text asks for no less, so that a segment that was lost has come again; a proxy
sends it at once, without waiting for what its client will say."""

MAX_WAITING = 256
"""Connections whose header has not come yet, each a descriptor. A proxy's header comes with the connection, so most are
never among them, however large the crowd; this is room for segments that are late."""


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
    ) -> None:
        self._networks = networks
        self._accepted = accepted
        self._loop = loop
        self._seconds = seconds
        self._places = places
        self._waiting: dict[socket.socket, asyncio.Timeout] = {}  # the one that has waited longest comes first
        self._given_up: dict[socket.socket, ProxyError] = {}

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

    def give_up(self) -> None:
        """Nobody is let in any more: who has not said anything has not come yet, like those in the kernel's queue."""
        for sock in tuple(self._waiting):
            self._end(sock, NothingSaid("the server is stopping"))

    def _end(self, sock: socket.socket, reason: ProxyError) -> None:
        self._given_up[sock] = reason
        self._waiting.pop(sock).reschedule(self._loop.time())
