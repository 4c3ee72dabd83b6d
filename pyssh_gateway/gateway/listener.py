"""Accepting connections: whom a proxy brings, admission, addresses, and the hand-over to the transport."""

import asyncio
import errno
import secrets
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import asyncssh
import msgspec

from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.limits import Admission, plain, source_of
from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.events import AnyEvent, ConnectionOpened, ConnectionRefused, InternalError
from pyssh_gateway.gateway.connection import Connection
from pyssh_gateway.gateway.key_exchange import Services as TransportServices
from pyssh_gateway.gateway.server import Client, Services

if TYPE_CHECKING:
    from pyssh_gateway.gateway.proxied import Proxies

BACKLOG = 1024
"""Connections that the kernel holds until we accept them (its limit, net.core.somaxconn, is 4096)."""

ACCEPTED_AT_ONCE = 16
"""Connections taken in one turn of the loop."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_SECONDS = 0.1
"""How long not to accept when descriptors or memory have run out; connections stay in the kernel's queue."""


TURN_SECONDS = 5.0
"""How long a connection waits while its source has as many unauthenticated ones as it may have. A login takes a tenth
of a second, so fifty at once all have their turn; a scanner's are gone after this."""


class _Arrival(msgspec.Struct, frozen=True):
    """A connection, from whom it is, and the proxy that brought it: its address and its name for the connection."""

    accepted: socket.socket
    endpoints: Endpoints
    proxy: str = ""
    proxy_id: str = ""


class _Waiting:
    """A connection that waits for its turn."""

    def __init__(self, listener: "Listener", arrival: _Arrival) -> None:
        self.arrival = arrival
        self.timer = listener.loop.call_later(TURN_SECONDS, listener.give_up, self)


class Listener:
    """Has the listening socket while the gateway lives; the spawner holds it, too, for the next gateway."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        services: Services,
        admission: Admission,
        steering: CipherSteering,
        publish: Callable[[AnyEvent], None],
        proxies: "Proxies | None" = None,
    ) -> None:
        self._socket = sock
        self._options = options
        self._services = services
        self._admission = admission
        self._steering = steering
        self._publish = publish
        self._proxies = proxies
        self.loop = loop
        self._retry: asyncio.TimerHandle | None = None
        self._is_open = False
        self._tasks: asyncio.TaskGroup | None = None
        self._waiting: dict[str, deque[_Waiting]] = {}
        sock.setblocking(False)

    async def run(self) -> None:
        """Own the connections' setting-up, for ever."""
        async with asyncio.TaskGroup() as self._tasks:
            await self.loop.create_future()

    def resume(self) -> None:
        """Let connections in."""
        self._is_open = True
        self._socket.listen(BACKLOG)
        self.loop.add_reader(self._socket, self._accept)

    @property
    def unauthenticated(self) -> int:
        """How many connections there are on which nobody has authenticated yet."""
        return self._admission.total

    def stop(self) -> None:
        """Refuse connections from now on. Those that wait in the kernel's queue are reset, so that no client hangs."""
        if not self._is_open:  # a second shutdown(2) would be inherited by all that is accepted after a resume
            return
        self._is_open = False
        self.loop.remove_reader(self._socket)
        if self._retry is not None:
            self._retry.cancel()
        self._socket.shutdown(socket.SHUT_RD)
        if self._proxies is not None:
            self._proxies.give_up()
        for waiting in [entry for entries in self._waiting.values() for entry in entries]:
            waiting.timer.cancel()
            self.give_up(waiting)

    def _accept(self) -> None:
        """Take what waits in the kernel's queue, a few at a time, so that a flood does not starve who is on."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self.loop.remove_reader(self._socket)
                self._retry = self.loop.call_later(
                    EXHAUSTED_PAUSE_SECONDS, self.loop.add_reader, self._socket, self._accept
                )
                return
            if self._tasks is None:
                accepted.close()
            else:
                self._tasks.create_task(self._take(accepted))

    async def _take(self, accepted: socket.socket) -> None:
        try:
            peer, peer_port = accepted.getpeername()[:2]
            local, local_port = accepted.getsockname()[:2]
        except OSError:  # gone already
            accepted.close()
            return
        arrival = _Arrival(accepted, Endpoints(plain(peer), peer_port, plain(local), local_port))
        brought = arrival if self._proxies is None else await self._brought(arrival, self._proxies)
        if brought is not None:
            await self._admit(brought)

    async def _brought(self, arrival: _Arrival, proxies: "Proxies") -> _Arrival | None:
        """The connection as the proxy says that it is; None if there is nobody to be served.

        It holds no place of anybody's meanwhile. Without a trusted proxy's header nobody gets further: it is not
        guessed whether there is one. The proxy's own connections (LOCAL) end here, answered: neither use nor attack.
        """
        from pyssh_gateway.core.proxy_protocol import NothingSaid, ProxyError  # late: behind a proxy only

        if not proxies.trusts(arrival.endpoints.peer):
            self._refuse(arrival, "not from a proxy that is trusted (listen.trusted_proxies)")
            return None
        try:
            header = await proxies.header(arrival.accepted)
        except NothingSaid:  # a health check: neither use nor attack
            arrival.accepted.close()
            return None
        except ProxyError as error:
            self._refuse(arrival, str(error))
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
        return _Arrival(arrival.accepted, endpoints, arrival.endpoints.peer, unique_id)

    async def _admit(self, arrival: _Arrival) -> None:
        peer = arrival.endpoints.peer
        reason = self._admission.arrive()
        if reason is not None and self._make_room(source_of(peer)):
            reason = self._admission.arrive()
        if reason is not None:
            self._refuse(arrival, reason)
            return
        if self._admission.serve(peer):
            await self._serve(arrival)
        else:
            self._waiting.setdefault(source_of(peer), deque()).append(_Waiting(self, arrival))

    def released(self, peer: str) -> None:
        """A connection from `peer` has authenticated or gone: the next one of its source has its turn."""
        self._admission.release(peer)
        source = source_of(peer)
        waiting = self._waiting.get(source)
        while waiting and self._tasks is not None and self._admission.serve(peer):
            turn = waiting.popleft()
            turn.timer.cancel()
            self._tasks.create_task(self._serve(turn.arrival))
        if not waiting:
            self._waiting.pop(source, None)

    def _make_room(self, source: str) -> bool:
        """Give up the oldest connection that waits, of the source that has most of them unless that is `source`.

        Who fills the server with connections that wait pays with those, and keeps nobody else out.
        """
        if not self._waiting:
            return False
        greediest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        if greediest == source:
            return False
        oldest = self._waiting[greediest][0]
        oldest.timer.cancel()
        self.give_up(oldest)
        return True

    def give_up(self, waiting: "_Waiting") -> None:
        """A connection that waits has had its time, or its place is needed."""
        source = source_of(waiting.arrival.endpoints.peer)
        self._waiting[source].remove(waiting)
        if not self._waiting[source]:
            del self._waiting[source]
        self._admission.give_up()
        self._refuse(waiting.arrival, f"too many unauthenticated connections from {source}")

    def _refuse(self, arrival: _Arrival, reason: str) -> None:
        arrival.accepted.close()
        endpoints = arrival.endpoints
        self._publish(ConnectionRefused(peer=endpoints.peer, peer_port=endpoints.peer_port, reason=reason))

    async def _serve(self, arrival: _Arrival) -> None:
        peer, peer_port = arrival.endpoints.peer, arrival.endpoints.peer_port
        conn_id = secrets.token_hex(5)
        self._publish(
            ConnectionOpened(
                conn=conn_id, peer=peer, peer_port=peer_port, proxy=arrival.proxy, proxy_id=arrival.proxy_id
            )
        )
        client = Client(conn_id, arrival.endpoints, self._services, self.loop)
        services = TransportServices(
            login_attempts=self._services.limits.auth_attempts,
            only_gcm=lambda version, ciphers: self._steering.offer_only_gcm(version, peer, ciphers),
            wait=self._steering.wait,
            negotiation_failed=lambda: self._steering.failed(peer),
            logged_in=lambda version, ciphers: self._steering.logged_in(version, peer, ciphers),
            is_direct=not arrival.proxy,
        )
        try:
            await self.loop.connect_accepted_socket(
                lambda: Connection(self.loop, self._options, services, client), arrival.accepted
            )
        except Exception:  # noqa: BLE001 - one connection that can't be set up must not end all the others
            self._publish(InternalError(where="listener", error=traceback.format_exc(), conn=conn_id))
            arrival.accepted.close()
            self.released(peer)
