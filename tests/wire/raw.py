"""An encrypted peer that sends exactly what a test wants: it has asyncssh's key exchange, and none of its checks.

It uses private parts of asyncssh's client connection, because no library's public interface sends messages that a
well-behaved client never sends. Everything that the server sends after the key exchange is kept unchanged.
"""

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.connection import SSHClientConnection, SSHClientConnectionOptions
from asyncssh.packet import SSHPacket, SSHPacketLogger

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until
from tests.wire.plain import MSG_IGNORE, text

SERVICE_REQUEST, SERVICE_ACCEPT = 5, 6
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK = 50, 51, 52, 60
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST = 90, 91, 92, 93
CHANNEL_DATA, EXTENDED_DATA, CHANNEL_EOF, CHANNEL_CLOSE = 94, 95, 96, 97
CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 98, 99, 100

CLOSED = 0
"""Stands in the queue for the end of the connection."""


def u32(*numbers: int) -> bytes:
    """`uint32`s of RFC 4251 section 5."""
    return struct.pack(f">{len(numbers)}I", *numbers)


def pty(*, columns: int = 80, rows: int = 24, term: bytes = b"xterm", modes: bytes = b"\0") -> bytes:
    """The fields of a `pty-req` (RFC 4254 section 6.2)."""
    return text(term) + u32(columns, rows, 0, 0) + text(modes)


class RawConnection(SSHClientConnection):
    """asyncssh's client connection up to the end of the key exchange; from then on it only records what it receives."""

    def __init__(self, options: SSHClientConnectionOptions) -> None:
        super().__init__(asyncio.get_running_loop(), options)
        self.heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.closed_with: Exception | None = None
        self.ready = asyncio.Event()
        # Both tables say which object handles a packet: for every number it is this connection.
        self._channels = _Everything(self)
        self._auth = _Listener(self)  # type: ignore[assignment]  # it takes every packet

    def try_next_auth(self, *, next_method: bool = False) -> None:
        """Called when the key exchange is over; the test does the authentication."""
        self._auth = _Listener(self)  # type: ignore[assignment]  # it takes every packet
        self.ready.set()

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Record packets of authentication and the connection protocol; asyncssh handles the rest."""
        if pkttype >= USERAUTH_REQUEST:
            return self.take_down(pkttype, packet)
        return super().process_packet(pkttype, pktid, packet)

    def take_down(self, pkttype: int, packet: SSHPacket) -> bool:
        """Keep a packet for the test."""
        if pkttype == USERAUTH_SUCCESS:
            self._auth_complete = True
            self._send_deferred_packets()
        self.heard.put_nowait((pkttype, packet.get_full_payload()[1:]))
        return True

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """Send only this packet: asyncssh's method sends an IGNORE before each, which no other client does."""
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    def say(self, pkttype: int, *parts: bytes) -> None:
        """Send a packet, allowed at this point or not."""
        complete, self._auth_complete = self._auth_complete, True
        try:
            self.send_packet(pkttype, *parts)
        finally:
            self._auth_complete = complete

    def restart_key_exchange(self) -> None:
        """Send a KEXINIT, and from now on ignore the server's answer."""
        self._send_kexinit()
        self._kexinit_sent = True

    @property
    def session_identifier(self) -> bytes:
        """The session identifier, to which signatures are bound."""
        return self._session_id

    @property
    def tcp(self) -> asyncio.Transport:
        """The connection's transport."""
        assert self._transport is not None
        return self._transport

    def _cleanup(self, exc: Exception | None) -> None:
        self._channels = {}
        self._auth = None
        self.closed_with = exc
        self.heard.put_nowait((CLOSED, b""))
        self.ready.set()
        super()._cleanup(exc)


class _Listener:
    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:
        return self._connection.take_down(pkttype, packet)

    def log_received_packet(self, *args: object) -> None:
        """Interface."""

    def cancel(self) -> None:
        """Interface."""


class _Everything(dict[int, Any]):
    def __init__(self, connection: RawConnection) -> None:
        super().__init__()
        self._listener = _Listener(connection)

    def __missing__(self, number: int) -> _Listener:
        return self._listener


class RawClient:
    """The operations that tests do with a `RawConnection`."""

    def __init__(self, connection: RawConnection, login: str, key: asyncssh.SSHKey) -> None:
        self.connection = connection
        self.login = login
        self.key = key
        self._channels = 0
        self.offered = 0
        """The window of the session that was opened last. An account with data still held gets a smaller one."""

    def say(self, pkttype: int, *parts: bytes) -> None:
        """Send a packet."""
        self.connection.say(pkttype, *parts)

    async def hear(self, *types: int, seconds: float = PATIENCE) -> tuple[int, bytes]:
        """The next packet of one of `types`; others are skipped, except the connection's end, which is `CLOSED`."""
        async with asyncio.timeout(seconds):
            while True:
                pkttype, payload = await self.connection.heard.get()
                if pkttype in types:
                    return pkttype, payload
                assert pkttype != CLOSED, f"closed while waiting for {types}: {self.connection.closed_with!r}"

    async def is_cut_off(self, seconds: float = PATIENCE) -> Exception | None:
        """Wait until the server has closed the connection; returns its disconnect as an exception."""
        await self.hear(CLOSED, seconds=seconds)
        return self.connection.closed_with

    # -- authentication -----------------------------------------------------------------------------------------

    def userauth(self, method: bytes, *parts: bytes, user: bytes | None = None) -> None:
        """Send an authentication request."""
        name = self.login.encode() if user is None else user
        self.say(USERAUTH_REQUEST, text(name), text(b"ssh-connection"), text(method), *parts)

    def offer(self, key: asyncssh.SSHKey, *, user: bytes | None = None, algorithm: bytes | None = None) -> None:
        """Offer a public key."""
        self.userauth(b"publickey", b"\0", text(algorithm or key.algorithm), text(key.public_data), user=user)

    def prove(
        self,
        key: asyncssh.SSHKey,
        *,
        user: bytes | None = None,
        algorithm: bytes | None = None,
        blob: bytes | None = None,
        session: bytes | None = None,
        signature: bytes | None = None,
    ) -> None:
        """Send a signed request; arguments that are given replace the fields of a correct request."""
        name = self.login.encode() if user is None else user
        algorithm = algorithm or key.algorithm
        fields = b"\1" + text(algorithm) + text(key.public_data if blob is None else blob)
        signed = text(self.connection.session_identifier if session is None else session) + bytes([USERAUTH_REQUEST])
        signed += text(name) + text(b"ssh-connection") + text(b"publickey") + fields
        proof = key.sign(signed, algorithm) if signature is None else signature
        self.userauth(b"publickey", fields, text(proof), user=name)

    async def authenticate(self) -> None:
        """Log in with correct requests."""
        self.prove(self.key)
        pkttype, _ = await self.hear(USERAUTH_SUCCESS, USERAUTH_FAILURE)
        assert pkttype == USERAUTH_SUCCESS

    async def is_refused(self) -> bytes:
        """Wait for the refusal of the last request; returns the methods that can continue."""
        pkttype, payload = await self.hear(USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK)
        assert pkttype == USERAUTH_FAILURE, pkttype
        return payload[4:-1]

    # -- channels -----------------------------------------------------------------------------------------------

    async def open_session(self, *, window: int = 1 << 21, packet: int = 32768) -> int:
        """Open a session channel; returns the server's number for it."""
        self._channels += 1
        self.say(CHANNEL_OPEN, text(b"session"), u32(self._channels, window, packet))
        pkttype, payload = await self.hear(OPEN_CONFIRMATION, OPEN_FAILURE)
        assert pkttype == OPEN_CONFIRMATION, payload
        self.offered = int.from_bytes(payload[8:12], "big")
        return int.from_bytes(payload[4:8], "big")

    def request(self, channel: int, name: bytes, *parts: bytes, reply: bool = True) -> None:
        """Send a channel request."""
        self.say(CHANNEL_REQUEST, u32(channel), text(name), bytes([reply]), *parts)

    async def granted(self, channel: int, name: bytes, *parts: bytes) -> bool:
        """Send a channel request and wait for its answer, skipping everything else."""
        self.request(channel, name, *parts)
        pkttype, _ = await self.hear(CHANNEL_SUCCESS, CHANNEL_FAILURE)
        return pkttype == CHANNEL_SUCCESS

    async def started(self, command: bytes, *, terminal: bool = False, window: int = 1 << 21) -> int:
        """Run a command in a session of its own, on a pty if `terminal`; returns the server's number of its channel."""
        channel = await self.open_session(window=window)
        if terminal:
            assert await self.granted(channel, b"pty-req", pty())
        assert await self.granted(channel, b"exec", text(command))
        return channel

    async def execute(self, command: bytes) -> tuple[bytes, int]:
        """Run a command in a session of its own; returns its output and exit status."""
        return await self.finish(await self.started(command))

    async def finish(self, channel: int) -> tuple[bytes, int]:
        """Read a session to its end and close it; returns its output (standard error too) and exit status."""
        output, status = bytearray(), -1
        while True:
            pkttype, payload = await self.hear(CHANNEL_DATA, EXTENDED_DATA, CHANNEL_REQUEST, CHANNEL_CLOSE)
            if pkttype == CHANNEL_DATA:
                output += payload[8:]
            elif pkttype == EXTENDED_DATA:
                output += payload[12:]
            elif pkttype == CHANNEL_REQUEST and payload[8:].startswith(b"exit-status\0"):
                status = int.from_bytes(payload[-4:], "big")
            elif pkttype == CHANNEL_CLOSE:
                self.say(CHANNEL_CLOSE, u32(channel))
                return bytes(output), status

    async def is_alive(self) -> bool:
        """Whether the connection still answers."""
        return await self.execute(b"echo alive") == (b"alive\n", 0)


@asynccontextmanager
async def connected(
    server: Server,
    key: Path,
    *,
    version: str = "raw",
    cipher: str = "aes128-gcm@openssh.com",
    source: str = "127.0.0.1",
    authenticate: bool = True,
) -> AsyncIterator[RawClient]:
    """A raw client that has exchanged keys with `server`, and by default has also logged in with `key`."""
    loop = asyncio.get_running_loop()
    options = await SSHClientConnectionOptions.construct(
        known_hosts=None,
        username=server.login,
        client_keys=None,
        agent_path=None,
        config=None,
        client_version=version,
        encryption_algs=[cipher],
        gss_host=None,
    )
    transport, connection = await loop.create_connection(
        lambda: RawConnection(options), "127.0.0.1", server.port, local_addr=(source, 0)
    )
    client = RawClient(connection, server.login, asyncssh.read_private_key(key))
    try:
        # asyncssh requests the service by itself; when that is granted, the key exchange is over.
        async with asyncio.timeout(PATIENCE):
            await connection.ready.wait()
        if connection.is_closed():
            raise ConnectionAbortedError(f"closed during the key exchange: {connection.closed_with!r}")
        if authenticate:
            await client.authenticate()
        yield client
    finally:
        transport.abort()
        await connection.wait_closed()


def play(
    server: Server,
    key: KeyPair,
    scenario: Callable[[RawClient], Awaitable[None]],
    *,
    seconds: float = 3 * PATIENCE,
    version: str = "raw",
    source: str = "127.0.0.1",
    authenticate: bool = True,
) -> None:
    """Run `scenario` with a `connected` client; whatever the client did, the server must not log a bug of its own."""

    async def whole() -> None:
        async with (
            asyncio.timeout(seconds),
            connected(server, key.private, version=version, source=source, authenticate=authenticate) as client,
        ):
            await scenario(client)

    mark = server.mark()
    try:
        asyncio.run(whole())
    finally:
        # The log is in order: when it has the connection's end, it has everything that happened on the connection.
        server.wait_for("connection.closed", since=mark)
        end_processes(server, mark)
    bugs = server.find("internal.error", mark)
    assert not bugs, f"{len(bugs)} internal errors; the first: {bugs[0]['error']}"


def end_processes(server: Server, since: int) -> None:
    """Kill the processes of sessions since the mark: without a pty they survive their client."""
    for event in server.find("session.opened", since):
        pid: int = event["pid"]
        # It gets a process group when it becomes the user; until then it belongs to the server's group.
        until(partial(_is_apart, pid), what=f"group {pid}")
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _is_apart(pid: int) -> bool:
    process = processes.find(pid)
    return process is None or process.group == pid
