"""Accepting connections: admission, addresses, and the hand-over to the transport."""

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable

import asyncssh

from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.limits import Admission
from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.events import AnyEvent, ConnectionOpened, ConnectionRefused
from pyssh_gateway.gateway import transport
from pyssh_gateway.gateway.server import Client, Services

BACKLOG = 1024
"""Connections that the kernel holds until we accept them (its limit, net.core.somaxconn, is 4096)."""

ACCEPTED_AT_ONCE = 16
"""Connections taken in one turn of the loop."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_SECONDS = 0.1
"""How long not to accept when descriptors or memory have run out; connections stay in the kernel's queue."""


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
    ) -> None:
        self._socket = sock
        self._options = options
        self._services = services
        self._admission = admission
        self._steering = steering
        self._publish = publish
        self._loop = loop
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        sock.setblocking(False)

    async def run(self) -> None:
        """Own the connections' setting-up, for ever."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._loop.create_future()

    def resume(self) -> None:
        """Let connections in."""
        self._socket.listen(BACKLOG)
        self._loop.add_reader(self._socket, self._accept)

    def stop(self) -> None:
        """Refuse connections from now on. Those that wait in the kernel's queue are reset, so that no client hangs."""
        self._loop.remove_reader(self._socket)
        if self._retry is not None:
            self._retry.cancel()
        self._socket.shutdown(socket.SHUT_RD)

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
                self._loop.remove_reader(self._socket)
                self._retry = self._loop.call_later(
                    EXHAUSTED_PAUSE_SECONDS, self._loop.add_reader, self._socket, self._accept
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
        reason = self._admission.admit(peer)
        if reason is not None:
            accepted.close()
            self._publish(ConnectionRefused(peer=peer, peer_port=peer_port, reason=reason))
            return
        conn_id = secrets.token_hex(5)
        endpoints = Endpoints(peer, peer_port, local, local_port)
        self._publish(ConnectionOpened(conn=conn_id, peer=peer, peer_port=peer_port))
        client = Client(conn_id, endpoints, self._services, self._loop)
        services = transport.Services(
            login_attempts=self._services.limits.auth_attempts,
            steer_to_gcm=lambda version: self._steering.offer_only_gcm(version, peer),
            negotiation_failed=lambda: self._steering.failed(peer),
        )
        await self._loop.connect_accepted_socket(
            lambda: transport.Connection(self._loop, self._options, services, client), accepted
        )
