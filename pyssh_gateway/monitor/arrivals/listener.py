"""Accepts connections: finds out where each comes from, also behind a proxy, and whether there are descriptors for it.

What happens then to a connection that was let in is the business of `guests`.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

from pyssh_gateway.config.types import Listen
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.limits import plain
from pyssh_gateway.monitor.arrivals.strangers import Arrival, Strangers, descriptor_limit
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.system.accepting import Acceptor

if TYPE_CHECKING:
    from pyssh_gateway.core.proxy_protocol import Accepted
    from pyssh_gateway.monitor.arrivals.proxied import Proxies

BACKLOG = 1024
"""Connections that the kernel holds until we accept them (its limit, net.core.somaxconn, is 4096)."""

NOTHING = b""
"""The reply to a peer whose PROXY header is not believed: nothing."""

RESERVED_DESCRIPTORS = 128
"""Descriptors that new connections do not get: they are for the sockets to processes, the log, and the spawner's. If
the limit is below 1024, an eighth of it is reserved instead."""


class Listener:
    """Has the listening sockets while the monitor lives; the spawner holds them, too, for the next monitor.

    `name` gives the next connection's name. `start` begins a task that somebody else owns.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        strangers: Strangers,
        in_force: InForce,
        *,
        name: Callable[[], str],
        start: Callable[[Coroutine[Any, Any, None], str], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sockets = tuple(sockets)
        self._strangers = strangers
        self._in_force = in_force
        self._name = name
        self._start = start
        self._loop = loop
        self._listen = in_force.config.listen
        self._proxies = proxies_of(self._listen, loop)
        self._acceptors = [Acceptor(loop, sock, self._take) for sock in self._sockets]
        self._is_open = False

    def reconfigure(self) -> None:
        """Apply the settings in force to connections that arrive from now on."""
        before, self._listen = self._listen, self._in_force.config.listen
        if self._listen != before:
            if self._proxies is not None:
                self._proxies.give_up()
            self._proxies = proxies_of(self._listen, self._loop)

    def resume(self) -> None:
        """Let connections in."""
        self._is_open = True
        self._strangers.open()
        for sock in self._sockets:
            sock.listen(BACKLOG)
        for acceptor in self._acceptors:
            acceptor.start()

    @property
    def unauthenticated(self) -> int:
        """How many connections there are on which nobody has authenticated yet."""
        return self._strangers.total

    def stop(self) -> None:
        """Refuse connections from now on. Those that wait in the kernel's queue are reset, so that no client hangs."""
        if not self._is_open:  # a second shutdown(2) would be inherited by connections accepted after a resume
            return
        self._is_open = False
        for acceptor in self._acceptors:
            acceptor.stop()
        for sock in self._sockets:
            sock.shutdown(socket.SHUT_RD)
        if self._proxies is not None:
            self._proxies.give_up()
        self._strangers.stop()

    def _take(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        """Refuse a connection, or let it come in."""
        limit = descriptor_limit()
        local, local_port = accepted.getsockname()[:2]
        endpoints = Endpoints(plain(address[0]), address[1], plain(local), local_port)
        arrival = Arrival(self._name(), accepted, endpoints)
        # The kernel assigns the lowest free number, so at least that many descriptors are in use.
        if accepted.fileno() >= limit - min(RESERVED_DESCRIPTORS, limit // 8):
            self._strangers.refuse(arrival, f"{accepted.fileno()} of {limit} descriptors are in use")
        elif self._proxies is None:
            self._strangers.arrive(arrival)
        else:
            self._start(self._receive(arrival, self._proxies), f"PROXY header of {arrival.conn}")

    async def _receive(self, arrival: Arrival, proxies: "Proxies") -> None:
        brought = await self._brought(arrival, proxies)
        if brought is not None:
            self._strangers.arrive(brought)

    async def _brought(self, arrival: Arrival, proxies: "Proxies") -> Arrival | None:
        """The connection as the proxy's header describes it; None if there is no client to be served.

        Until then it takes none of the places of clients. A header from a trusted proxy is required; we never guess
        whether there is one. The proxy's own connections (LOCAL) are answered and closed here: they count neither as
        use nor as an attack.
        """
        from pyssh_gateway.core.proxy_protocol import NothingSaid, ProxyError  # late: behind a proxy only

        if not proxies.trusts(arrival.endpoints.peer):
            self._strangers.refuse(arrival, "not from a proxy that is trusted (listen.trusted_proxies)", NOTHING)
            return None
        try:
            header = await proxies.header(arrival.accepted)
        except NothingSaid:  # a health check: counts neither as use nor as an attack
            arrival.accepted.close()
            return None
        except ProxyError as error:
            self._strangers.refuse(arrival, str(error), NOTHING)
            return None
        except BaseException:
            arrival.accepted.close()
            raise
        if header.local:
            await proxies.answer(arrival.accepted, f"SSH-2.0-{self._listen.identification}\r\n".encode())
            return None
        endpoints = arrival.endpoints
        if header.source is not None and header.destination is not None:
            (peer, peer_port), (local, local_port) = header.source, header.destination
            endpoints = Endpoints(plain(peer), peer_port, plain(local), local_port)
        unique_id = header.unique_id.decode("utf-8", "surrogateescape")
        return Arrival(arrival.conn, arrival.accepted, endpoints, arrival.endpoints.peer, unique_id)


def proxies_of(listen: Listen, loop: asyncio.AbstractEventLoop) -> "Proxies | None":
    """The proxies whose headers are read; None: clients connect directly."""
    if listen.proxy_protocol == "off":
        return None
    from pyssh_gateway.monitor.arrivals.proxied import Proxies  # late: needed only behind a proxy

    return Proxies(listen.trusted_proxies, cast("Accepted", listen.proxy_protocol), loop)
