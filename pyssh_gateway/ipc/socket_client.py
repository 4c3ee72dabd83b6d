"""Sockets that are made by the account's own process, for all of the account's connections."""

import asyncio
import socket
from collections.abc import Callable

import msgspec

from pyssh_gateway.ipc import sockets as messages
from pyssh_gateway.ipc.request_socket import RequestSocket, Unanswered
from pyssh_gateway.ipc.spawner import Exited, ProtocolError
from pyssh_gateway.ipc.spawner_client import SpawnerClient, SpawnRefused

ANSWER_SECONDS = 60.0
"""The maker's own deadline for one address is 15 s, and a name has a few addresses after its lookup."""


class SocketFailed(Exception):
    """There is no socket; the text says why and may be shown to the client."""


class Listening(msgspec.Struct, frozen=True):
    """Listening sockets, and where they are; `forget` ends them. `id` is what `maker`, who made them, knows them by."""

    id: int
    port: int
    path: bytes
    sockets: list[socket.socket]
    maker: RequestSocket[messages.Report]


class SocketMakers:
    """One process for each account that has asked for a socket; it lives until the account's last connection ends.

    `is_on` says whether an account has a connection.
    """

    def __init__(self, spawner: SpawnerClient, loop: asyncio.AbstractEventLoop, is_on: Callable[[str], bool]) -> None:
        self._spawner = spawner
        self._loop = loop
        self._is_on = is_on
        self._starting: dict[str, asyncio.Lock] = {}
        self._running: dict[str, RequestSocket[messages.Report]] = {}

    def end(self, user: str) -> None:
        """The account has no connection any more: its process ends and removes what it made."""
        maker = self._running.pop(user, None)
        if maker is not None:
            maker.close()

    async def connect_tcp(self, user: str, host: str, port: int) -> socket.socket:
        """A socket that is connected to `host`:`port`. Raises `SocketFailed`."""
        return await self._connect(user, lambda number: messages.ConnectTcp(number, host, port))

    async def connect_unix(self, user: str, path: bytes) -> socket.socket:
        """A socket that is connected to the unix socket at `path`."""
        return await self._connect(user, lambda number: messages.ConnectUnix(number, path))

    async def listen_tcp(self, user: str, addresses: tuple[str, ...], port: int, *, alone: bool = False) -> Listening:
        """Sockets that listen on `port` of `addresses`; `alone`: only if nobody listens on any of them."""
        return await self._listen(user, lambda number: messages.ListenTcp(number, addresses, port, alone))

    async def listen_unix(self, user: str, path: bytes, mask: int, *, unlink: bool) -> Listening:
        """A socket that listens at `path`."""
        return await self._listen(user, lambda number: messages.ListenUnix(number, path, mask, unlink))

    async def listen_agent(self, user: str) -> Listening:
        """A socket for an agent, in a directory of its own."""
        return await self._listen(user, messages.ListenAgent)

    def forget(self, listening: Listening) -> None:
        """Close the sockets and have their file removed."""
        for sock in listening.sockets:
            self._loop.remove_reader(sock)
            sock.close()
        if listening.path:
            try:
                listening.maker.send(messages.encode(messages.Forget(listening.id)))
            except Unanswered:
                return  # it is gone, and has removed its files

    async def _connect(self, user: str, request: Callable[[int], messages.Request]) -> socket.socket:
        _, _, descriptors = await self._ask(user, request)
        return socket.socket(fileno=descriptors[0])

    async def _listen(self, user: str, request: Callable[[int], messages.Request]) -> Listening:
        maker, report, descriptors = await self._ask(user, request)
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if not isinstance(report, messages.Listening):
            raise SocketFailed("the socket process gave an unexpected answer")
        return Listening(report.id, report.port, report.path, sockets, maker)

    async def _ask(
        self, user: str, request: Callable[[int], messages.Request]
    ) -> tuple[RequestSocket[messages.Report], messages.Report, list[int]]:
        maker = await self._maker(user)
        number = maker.new_number()
        try:
            report, descriptors = await maker.ask(number, messages.encode(request(number)), ANSWER_SECONDS)
        except (Unanswered, ProtocolError) as error:
            raise SocketFailed(str(error)) from error
        if isinstance(report, messages.Failed):
            raise SocketFailed(report.reason)
        return maker, report, descriptors

    async def _maker(self, user: str) -> RequestSocket[messages.Report]:
        async with self._starting.setdefault(user, asyncio.Lock()):
            running = self._running.get(user)
            if running is not None and not running.closed:
                return running
            try:
                spawned = await self._spawner.make_sockets(user, _ignore_exit)
            except SpawnRefused as error:
                raise SocketFailed(str(error)) from error
            maker: RequestSocket[messages.Report] = RequestSocket(
                socket.socket(fileno=spawned.descriptors[0]),
                self._loop,
                decode=messages.decode_report,
                number_of=lambda report: report.id,
                on_news=lambda _report: None,
                on_lost=lambda: None,
            )
            if not self._is_on(user):  # its last connection ended while the process was being started
                maker.close()
                raise SocketFailed("the connection is closed")
            self._running[user] = maker
            return maker


def _ignore_exit(_: Exited) -> None:
    """The maker's socket says that it is gone."""
