"""Accepting connections: whom a proxy brings, addresses, and the hand-over to the transport.

`strangers` decides which connections are served when there are many.
"""

import asyncio
import errno
import secrets
import socket
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import asyncssh

from pyssh_gateway.config.types import Listen
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.limits import plain
from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.events import AnyEvent, ConnectionOpened, InternalError, Record
from pyssh_gateway.gateway.connection import Connection
from pyssh_gateway.gateway.hand_over import go_on
from pyssh_gateway.gateway.server import Client, Services
from pyssh_gateway.monitor.strangers import Arrival, Strangers, descriptor_limit
from pyssh_gateway.ssh.key_exchange import Services as TransportServices

if TYPE_CHECKING:
    from pyssh_gateway.core.proxy_protocol import Accepted
    from pyssh_gateway.monitor.proxied import Proxies

BACKLOG = 1024
"""Connections that the kernel holds until we accept them (its limit, net.core.somaxconn, is 4096)."""

ACCEPTED_AT_ONCE = 16
"""Connections taken in one turn of the loop."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_SECONDS = 0.1
"""How long not to accept when descriptors or memory have run out; connections stay in the kernel's queue."""

NOTHING = b""
"""What a proxy is told of which nothing is believed."""

RESERVED_DESCRIPTORS = 128
"""Descriptors that no connection gets which has just been accepted: they are for sessions that are open already (three
each, two for a forward), the log, and the spawner's. Where there are fewer than 1024, it is an eighth."""


class Listener:
    """Has the listening sockets while the gateway lives; the spawner holds them, too, for the next gateway."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        services: Services,
        steering: CipherSteering,
        publish: Callable[[AnyEvent], None],
        proxies: "Proxies | None" = None,
    ) -> None:
        self._sockets = tuple(sockets)
        self._options = options
        self._services = services
        self._steering = steering
        self._publish = publish
        self._proxies = proxies
        self.loop = loop
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        self._is_open = False
        self._tasks: asyncio.TaskGroup | None = None
        self._strangers = Strangers(services.limits, loop=loop, publish=publish, serve=self._begin)
        for sock in self._sockets:
            sock.setblocking(False)

    def reconfigure(
        self, options: asyncssh.SSHServerConnectionOptions, services: Services, proxies: "Proxies | None"
    ) -> None:
        """Serve connections that arrive from now on by these."""
        self._options = options
        self._services = services
        self._strangers.reconfigure(services.limits)
        if self._proxies is not None and self._proxies is not proxies:
            self._proxies.give_up()
        self._proxies = proxies

    async def run(self) -> None:
        """Own the connections' setting-up, for ever."""
        async with asyncio.TaskGroup() as self._tasks:
            await self.loop.create_future()

    def resume(self) -> None:
        """Let connections in."""
        self._is_open = True
        self._strangers.open()
        for sock in self._sockets:
            sock.listen(BACKLOG)
            self.loop.add_reader(sock, self._accept, sock)

    @property
    def unauthenticated(self) -> int:
        """How many connections there are on which nobody has authenticated yet."""
        return self._strangers.total

    def stop(self) -> None:
        """Refuse connections from now on. Those that wait in the kernel's queue are reset, so that no client hangs."""
        if not self._is_open:  # a second shutdown(2) would be inherited by all that is accepted after a resume
            return
        self._is_open = False
        for sock in self._sockets:
            self.loop.remove_reader(sock)
            sock.shutdown(socket.SHUT_RD)
        for retry in self._retries.values():
            retry.cancel()
        if self._proxies is not None:
            self._proxies.give_up()
        self._strangers.stop()

    def observe(self, record: Record) -> None:
        """An event."""
        self._strangers.observe(record)

    def released(self, conn: str) -> None:
        """A connection has authenticated or gone."""
        self._strangers.released(conn)

    def _accept(self, sock: socket.socket) -> None:
        """Take what waits in the queue of `sock`, a few at a time, so that a flood does not starve who is on."""
        limit = descriptor_limit()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self.loop.remove_reader(sock)
                self._retries[sock] = self.loop.call_later(
                    EXHAUSTED_PAUSE_SECONDS, self.loop.add_reader, sock, self._accept, sock
                )
                return
            self._take(accepted, address, limit)

    def _take(self, accepted: socket.socket, address: tuple[str, int], limit: int) -> None:
        """Refuse a connection, or let it come in; there may be `limit` descriptors."""
        local, local_port = accepted.getsockname()[:2]
        endpoints = Endpoints(plain(address[0]), address[1], plain(local), local_port)
        arrival = Arrival(secrets.token_hex(5), accepted, endpoints)
        # The kernel gives the lowest number that is free, so as many descriptors are in use at least.
        if accepted.fileno() >= limit - min(RESERVED_DESCRIPTORS, limit // 8):
            self._strangers.refuse(arrival, f"{accepted.fileno()} of {limit} descriptors are in use")
        elif self._proxies is None:
            self._strangers.arrive(arrival)
        elif self._tasks is None:
            accepted.close()
        else:
            self._tasks.create_task(self._receive(arrival, self._proxies))

    async def _receive(self, arrival: Arrival, proxies: "Proxies") -> None:
        brought = await self._brought(arrival, proxies)
        if brought is not None:
            self._strangers.arrive(brought)

    async def _brought(self, arrival: Arrival, proxies: "Proxies") -> Arrival | None:
        """The connection as the proxy says that it is; None if there is nobody to be served.

        It holds no place of anybody's meanwhile. Without a trusted proxy's header nobody gets further: it is not
        guessed whether there is one. The proxy's own connections (LOCAL) end here, answered: neither use nor attack.
        """
        from pyssh_gateway.core.proxy_protocol import NothingSaid, ProxyError  # late: behind a proxy only

        if not proxies.trusts(arrival.endpoints.peer):
            self._strangers.refuse(arrival, "not from a proxy that is trusted (listen.trusted_proxies)", NOTHING)
            return None
        try:
            header = await proxies.header(arrival.accepted)
        except NothingSaid:  # a health check: neither use nor attack
            arrival.accepted.close()
            return None
        except ProxyError as error:
            self._strangers.refuse(arrival, str(error), NOTHING)
            return None
        except BaseException:
            arrival.accepted.close()
            raise
        if header.local:
            await proxies.answer(arrival.accepted, b"SSH-2.0-" + self._options.version + b"\r\n")
            return None
        endpoints = arrival.endpoints
        if header.source is not None and header.destination is not None:
            (peer, peer_port), (local, local_port) = header.source, header.destination
            endpoints = Endpoints(plain(peer), peer_port, plain(local), local_port)
        unique_id = header.unique_id.decode("utf-8", "surrogateescape")
        return Arrival(arrival.conn, arrival.accepted, endpoints, arrival.endpoints.peer, unique_id)

    def _begin(self, arrival: Arrival) -> None:
        """It is the turn of a connection."""
        if self._tasks is None:
            arrival.accepted.close()
            self.released(arrival.conn)
        else:
            self._tasks.create_task(self._serve(arrival))

    async def _serve(self, arrival: Arrival) -> None:
        peer, peer_port = arrival.endpoints.peer, arrival.endpoints.peer_port
        conn_id = arrival.conn
        self._publish(
            ConnectionOpened(
                conn=conn_id, peer=peer, peer_port=peer_port, proxy=arrival.proxy, proxy_id=arrival.proxy_id
            )
        )
        client = Client(conn_id, arrival.endpoints, self._services, self.loop)
        options, tasks = self._options, self._tasks
        assert tasks is not None  # noqa: S101 - this runs in one of them

        def hand_over(state: bytes, sock: socket.socket) -> None:
            tasks.create_task(go_on(state, sock, loop=self.loop, options=options, services=services, client=client))

        services = TransportServices(
            login_attempts=self._services.limits.auth_attempts,
            spoke=lambda: self._strangers.spoke(conn_id),
            only_gcm=lambda version, ciphers: self._steering.offer_only_gcm(version, peer, ciphers),
            wait=self._steering.wait,
            negotiation_failed=lambda: self._steering.failed(peer),
            logged_in=lambda version, ciphers: self._steering.logged_in(version, peer, ciphers),
            is_direct=not arrival.proxy,
            hand_over=hand_over,
        )
        try:
            await self.loop.connect_accepted_socket(
                lambda: Connection(self.loop, options, services, client), arrival.accepted
            )
            self._strangers.served(conn_id, client)
        except Exception:  # noqa: BLE001 - one connection that can't be set up must not end all the others
            self._publish(InternalError(where="listener", error=traceback.format_exc(), conn=conn_id))
            arrival.accepted.close()
            self.released(conn_id)


def proxies_of(listen: Listen, loop: asyncio.AbstractEventLoop) -> "Proxies | None":
    """Whose PROXY headers are read; None: clients connect by themselves."""
    if listen.proxy_protocol == "off":
        return None
    from pyssh_gateway.monitor.proxied import Proxies  # late: only who is behind a proxy needs it

    return Proxies(listen.trusted_proxies, cast("Accepted", listen.proxy_protocol), loop)
