"""The account's connections: taking each over from the monitor, and the list of those that are open."""

import asyncio
import socket
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from pyssh_gateway.ipc import handover
from pyssh_gateway.ipc.handover import ConnectionState
from pyssh_gateway.ipc.postauth import ConnectionFigures, TakeConnection
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, ProtocolError
from pyssh_gateway.postauth.client import Client, Shared
from pyssh_gateway.postauth.connection import Connection
from pyssh_gateway.postauth.monitor_link import MonitorLink, Unanswered
from pyssh_gateway.postauth.session import Session
from pyssh_gateway.ssh.key_exchange import Services, SigningError
from pyssh_gateway.ssh.options import options

NOT_TAKEN = "the connection could not be taken over"

FIGURES_BYTES = MAX_MESSAGE - 4096
_CONNECTION_BYTES = 384
_SESSION_BYTES = 192
"""The size limit of a report of figures, and the most that the figures of one connection and of one session take: a
name of 64 characters and a handful of numbers with the names of their fields. A message has room for 1,300 sessions."""


class Connections:
    """The connected clients and their sessions. Methods return copies, since entries may go while a caller iterates."""

    def __init__(self, link: MonitorLink, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self._clients: dict[str, Client] = {}
        self._nobody = asyncio.Event()
        self._nobody.set()

    def __len__(self) -> int:
        """How many connections there are, including those that are being taken over."""
        return len(self._clients)

    def __contains__(self, conn: str) -> bool:
        """Whether the connection is served."""
        return conn in self._clients

    def called(self, conn: str) -> Sequence[Client]:
        """The connection with that id, or nothing if it has ended; every connection if the id is empty."""
        return tuple(client for client in self._clients.values() if conn in {"", client.id})

    @property
    def sessions(self) -> Sequence[Session]:
        """Every session of every connection."""
        return tuple(session for client in self._clients.values() for session in client.sessions.values())

    def figures(self) -> tuple[ConnectionFigures, ...]:
        """The figures of all connections and sessions, as far as one message has room for them.

        Connections come before sessions, because theirs decide whether a client is used.
        """
        told: list[ConnectionFigures] = []
        clients = tuple(self._clients.values())[: FIGURES_BYTES // _CONNECTION_BYTES]
        left = FIGURES_BYTES - _CONNECTION_BYTES * len(clients)
        for client in clients:
            figures = client.figures(most_sessions=left // _SESSION_BYTES)
            left -= _SESSION_BYTES * len(figures.sessions)
            told.append(figures)
        return tuple(told)

    async def until_nobody(self, seconds: float) -> None:
        """Wait until there are no connections, for `seconds` at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._nobody.wait()
        except TimeoutError:
            return

    # -- taking over ----------------------------------------------------------------------------------------------

    def take(
        self,
        told: TakeConnection,
        sock: socket.socket | None,
        shared: Shared,
        spawn_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Serve the connection `sock`. An error ends only that connection."""
        try:
            state = handover.decode(told.state)
        except ProtocolError:  # the state comes from preauth, which an attacker may have taken over
            state = None
        login = "" if state is None else state.user.decode("ascii", "backslashreplace")
        client = self._clients[told.conn] = Client(told, login, shared, self._loop)
        self._nobody.clear()
        if state is None or sock is None:
            client.never_made(f"{NOT_TAKEN}: {'no descriptors are left' if sock is None else 'its state is none'}")
            if sock is not None:
                sock.close()
        else:
            spawn_task(self._serve(told, state, sock, client, shared))

    async def _serve(
        self, told: TakeConnection, state: ConnectionState, sock: socket.socket, client: Client, shared: Shared
    ) -> None:
        try:
            connection = self._connection(told, state, client)
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except (ValueError, LookupError):  # the same: the state names ciphers that do not exist
            sock.close()
            client.never_made(f"{NOT_TAKEN}: its state is none")
        except Exception:  # noqa: BLE001 - a bug of ours that ends one connection must not end all of them
            sock.close()
            shared.crashed(told.conn, traceback.format_exc())
            client.never_made(NOT_TAKEN)

    def gone(self, conn: str) -> None:
        """The connection has ended."""
        self._clients.pop(conn, None)
        if not self._clients:
            self._nobody.set()

    def _connection(self, told: TakeConnection, state: ConnectionState, client: Client) -> Connection:
        async def sign(algorithm: bytes, exchange_hash: bytes) -> bytes:
            try:
                return await self._link.sign(told.conn, algorithm, exchange_hash)
            except Unanswered as error:
                raise SigningError(str(error)) from None

        async def prove(blobs: tuple[bytes, ...], rsa: bytes) -> bytes | None:
            try:
                return await self._link.prove(told.conn, blobs, rsa)
            except Unanswered:
                return None

        services = Services(
            sign=sign,
            prove=prove,
            # The rest is only used before login.
            spoke=lambda: None,
            greeted=lambda _line, _made: None,
            only_gcm=lambda _version, _ciphers: False,
            wait=lambda _version, _round_trip: 0.0,
            negotiation_failed=lambda: None,
            logged_in=lambda _version, _ciphers: None,
            is_direct=True,
            hand_over=_nowhere,
        )
        offered = [(key.algorithm, key.blob) for key in told.host_keys]
        # The session id is the one that the login was signed over; the state's own is not trusted.
        checked = msgspec.structs.replace(state, session_id=told.session_id)
        settings = options(
            offered,
            told.announced,
            identification=told.identification,
            keepalive=told.keepalive or 0,
            keepalive_misses=told.keepalive_misses,
            rekey_bytes=told.rekey_bytes,
            rekey_seconds=told.rekey_seconds,
        )
        return Connection(self._loop, settings, services, client, checked)


def _nowhere(_state: bytes, sock: socket.socket) -> None:
    """A connection is handed over only once, and this one has been already."""
    sock.close()
