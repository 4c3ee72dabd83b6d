"""One hostile client, in a process of its own: it floods an SSH server with packets that cost it more than the client.

`python -m bench.flooder KIND PORT USER KEY` prints `ready` once it has logged in and has encrypted its packets. It
begins when it reads a line, and goes on until it is killed, its input ends, or the server ends the connection; then it
prints `ended`. Most packets are encrypted before it begins, so that the server is the slower side.
"""

import asyncio
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, cycle

import asyncssh
from asyncssh.connection import SSHClientConnection
from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER = "aes128-gcm@openssh.com"
HOST = "127.0.0.1"

BATCH_PACKETS = 2000
"""Packets in one write: more than a server reads at a time."""

BATCHES = 100
"""Batches that are sealed before the flood begins; further ones are sealed when these have been sent."""

FORWARDS = 100
WAITING_BYTES = 64 * 1024
"""Forwarded connections, and the bytes that wait in each, for the client that opens all windows byte by byte."""

SESSIONS = 8
"""Channels open at a time when channels are opened and closed: fewer than sshd's MaxSessions."""

LEFT_FORWARDS = 1000
"""Forwarded connections that are opened all at once, and left with data waiting in each."""

EXEC_CONNECTIONS, EXEC_SESSIONS = 14, 60
"""840 commands at a time, on as many connections as that takes with at most 64 sessions on each."""

EXEC = b"sleep 1"

EARLY_PACKETS = 20_000
"""Packets on one connection before authentication; the server may end the connection earlier."""

IGNORE, UNIMPLEMENTED, DEBUG, GLOBAL_REQUEST = 2, 3, 4, 80
OPEN, CONFIRMATION, FAILURE, WINDOW_ADJUST, DATA, EOF, CLOSE, REQUEST = 90, 91, 92, 93, 94, 96, 97, 98
UNKNOWN = 150
"""A message number that no protocol uses."""

TAG_BYTES = 16


def u32(*numbers: int) -> bytes:
    """`uint32`s of RFC 4251 section 5."""
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def text(data: bytes) -> bytes:
    """A `string` of the same section."""
    return u32(len(data)) + data


class Direction:
    """One direction's keys, taken over from asyncssh: AES-GCM and the number of the next packet."""

    def __init__(self, encryption: object) -> None:
        assert isinstance(encryption, GCMEncryption)
        inner = encryption._cipher  # noqa: SLF001 - there is no public way to the keys
        self._aead = AESGCM(inner._key)  # noqa: SLF001 - we seal packets ourselves, and asyncssh has no public key
        self._fixed, self._counter = inner._iv[:4], int.from_bytes(inner._iv[4:], "big")  # noqa: SLF001 - the nonce has to go on where asyncssh's ends

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        self._counter += 1
        return nonce

    def seal(self, payload: bytes) -> bytes:
        """A whole packet."""
        padding = 4 + -(5 + len(payload)) % 16
        header = u32(1 + len(payload) + padding)
        return header + self._aead.encrypt(self._nonce(), bytes((padding,)) + payload + bytes(padding), header)

    def open(self, stream: socket.socket) -> bytes:
        """The payload of the next packet; raises `EOFError` at the end."""
        header = _exactly(stream, 4)
        sealed = _exactly(stream, int.from_bytes(header, "big") + TAG_BYTES)
        plain = self._aead.decrypt(self._nonce(), sealed, header)
        return plain[1 : len(plain) - plain[0]]


class Peer:
    """A connection after its login, with nothing of asyncssh between us and the socket."""

    def __init__(self, connection: SSHClientConnection) -> None:
        transport = connection._transport  # noqa: SLF001 - the flood writes to the socket itself, which asyncssh does not hand out
        assert transport is not None
        self.socket = transport.get_extra_info("socket").dup()
        self.sending = Direction(connection._send_encryption)  # noqa: SLF001 - to seal what we write: it is not public
        self.receiving = Direction(connection._recv_encryption)  # noqa: SLF001 - to open what we read: it is not public
        transport.abort()  # closes asyncssh's descriptor; the connection is ours
        self.socket.setblocking(True)

    def drain(self) -> None:
        """Read and discard everything that the server sends, in a thread."""

        def read() -> None:
            with suppress(OSError):
                while self.socket.recv(1 << 20):
                    pass
            _over()

        threading.Thread(target=read, daemon=True).start()


def _forever(*payloads: bytes) -> Iterator[bytes]:
    return cycle(payloads)


PACKETS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "ignore": lambda _: _forever(bytes((IGNORE,)) + text(b"")),
    "debug": lambda _: _forever(bytes((DEBUG, 0)) + text(b"") + text(b"")),
    "unimplemented": lambda _: _forever(bytes((UNIMPLEMENTED,)) + u32(0)),
    "unknown": lambda _: _forever(bytes((UNKNOWN,))),
    "keepalive": lambda _: _forever(bytes((GLOBAL_REQUEST,)) + text(b"keepalive@openssh.com") + b"\1"),
    "window-adjust": lambda channel: _forever(bytes((WINDOW_ADJUST,)) + u32(channel, 0)),
    "window-change": lambda channel: _forever(_request(channel, b"window-change", u32(80, 24, 0, 0))),
    "env": lambda channel: _forever(_request(channel, b"env", text(b"LC_ALL") + text(b"C"))),
    "signal": lambda channel: _forever(_request(channel, b"signal", text(b"WINCH"))),
    "data": lambda channel: _forever(bytes((DATA,)) + u32(channel) + text(b"x")),
    "nothing": lambda channel: _forever(bytes((DATA,)) + u32(channel) + text(b"")),
    "connect": lambda _: _forever(
        bytes((OPEN,))
        + text(b"direct-tcpip")
        + u32(0, 0, 1)
        + text(HOST.encode())
        + u32(1)
        + text(HOST.encode())
        + u32(1)
    ),
}
"""Floods that never wait for an answer; the number is the server's number of the session's channel."""


def _request(channel: int, name: bytes, rest: bytes) -> bytes:
    return bytes((REQUEST,)) + u32(channel) + text(name) + b"\0" + rest


def _over() -> None:
    print("ended", flush=True)
    os._exit(0)


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


async def _log_in(port: int, user: str, key: str) -> SSHClientConnection:
    return await asyncssh.connect(
        HOST,
        port,
        username=user,
        client_keys=[key],
        known_hosts=None,
        agent_path=None,
        config=None,
        encryption_algs=[CIPHER],
        gss_host=None,
    )


async def _with_session(port: int, user: str, key: str) -> tuple[Peer, int]:
    """A login with a session that reads its input, and the server's number of its channel."""
    connection = await _log_in(port, user, key)
    process = await connection.create_process("exec cat >/dev/null", encoding=None)
    number = process.channel._send_chan  # noqa: SLF001 - there is no public way to the server's number
    assert number is not None
    return Peer(connection), number


async def _with_forwards(port: int, user: str, key: str) -> tuple[Peer, list[int]]:
    """A login with forwarded connections, in each of which data waits for a window, and their channels' numbers."""
    target = _target(FORWARDS, full=True)
    connection = await _log_in(port, user, key)
    numbers = []
    for _ in range(FORWARDS):
        _, writer = await connection.open_connection(HOST, target, window=1, max_pktsize=1)
        number = writer.channel._send_chan  # noqa: SLF001 - there is no public way to the server's number
        assert number is not None
        numbers.append(number)
    return Peer(connection), numbers


async def _one(port: int, user: str, key: str) -> Peer:
    return Peer(await _log_in(port, user, key))


async def _several(port: int, user: str, key: str) -> list[Peer]:
    return [await _one(port, user, key) for _ in range(EXEC_CONNECTIONS)]


def _target(backlog: int, *, full: bool) -> int:
    """The port of a TCP server that has data for each connection: `WAITING_BYTES`, or `full` as much as fits."""
    listening = socket.create_server((HOST, 0), backlog=backlog)
    threading.Thread(target=_serve, args=(listening, full), daemon=True).start()
    port: int = listening.getsockname()[1]
    return port


def _serve(listening: socket.socket, full: bool) -> None:
    kept = []
    while True:
        stream, _ = listening.accept()
        kept.append(stream)
        stream.setblocking(False)
        with suppress(OSError):  # it is full, or closed already
            stream.send(bytes(WAITING_BYTES))
            while full:
                stream.send(bytes(WAITING_BYTES))


def _send(stream: socket.socket, batches: Iterable[bytes]) -> None:
    with suppress(OSError):
        for batch in batches:
            stream.sendall(batch)
    _over()


def _begin() -> None:
    """Say `ready`, wait for the line that starts the flood, and end the process when our input ends."""
    print("ready", flush=True)
    sys.stdin.readline()

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _packets(kind: str, peer: Peer, channel: int) -> None:
    payloads = PACKETS[kind](channel)

    def batch() -> bytes:
        return b"".join(peer.sending.seal(next(payloads)) for _ in range(BATCH_PACKETS))

    sealed = [batch() for _ in range(BATCHES)]
    peer.drain()
    _begin()
    _send(peer.socket, chain(sealed, iter(batch, None)))


def _split(peer: Peer, channels: list[int]) -> None:
    peer.drain()
    _begin()
    with suppress(OSError):
        peer.socket.sendall(
            b"".join(
                peer.sending.seal(bytes((WINDOW_ADJUST,)) + u32(channel, WAITING_BYTES * 64)) for channel in channels
            )
        )
    threading.Event().wait()


def _open(peer: Peer) -> None:
    """Open sessions, several at a time, and close each as soon as it is open."""
    _begin()
    opening = bytes((OPEN,)) + text(b"session") + u32(0, 0, 1)
    with suppress(OSError, EOFError):
        peer.socket.sendall(b"".join(peer.sending.seal(opening) for _ in range(SESSIONS)))
        while True:
            said = peer.receiving.open(peer.socket)
            if said[0] == CONFIRMATION:
                number = said[5:9]
                closing = (bytes((EOF,)) + number, bytes((CLOSE,)) + number)
                peer.socket.sendall(b"".join(map(peer.sending.seal, closing)))
            if said[0] in {CLOSE, FAILURE}:
                peer.socket.sendall(peer.sending.seal(opening))
    _over()


def _forwards(peer: Peer) -> None:
    """Open connections to a server that has data for each, read none of it, and stay connected."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * LEFT_FORWARDS)), hard))
    rest = text(HOST.encode()) + u32(_target(LEFT_FORWARDS, full=False)) + text(HOST.encode()) + u32(1)
    opening = [bytes((OPEN,)) + text(b"direct-tcpip") + u32(n, 0, 1 << 15) + rest for n in range(LEFT_FORWARDS)]
    sealed = b"".join(map(peer.sending.seal, opening))
    peer.drain()
    _begin()
    with suppress(OSError):
        peer.socket.sendall(sealed)
    threading.Event().wait()


def _execs(peers: list[Peer]) -> None:
    """Run many commands at a time, and start another for each that ends."""
    _begin()
    threads = [threading.Thread(target=_commands, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _over()


def _commands(peer: Peer) -> None:
    def opening(own: int) -> bytes:
        return peer.sending.seal(bytes((OPEN,)) + text(b"session") + u32(own, 1 << 15, 1 << 15))

    servers: dict[bytes, int] = {}  # the server's numbers of channels by ours
    with suppress(OSError, EOFError):
        peer.socket.sendall(b"".join(map(opening, range(EXEC_SESSIONS))))
        while True:
            said = peer.receiving.open(peer.socket)
            own = said[1:5]
            if said[0] == CONFIRMATION:
                servers[own] = int.from_bytes(said[5:9], "big")
                peer.socket.sendall(peer.sending.seal(_request(servers[own], b"exec", text(EXEC))))
            elif said[0] == FAILURE:  # the server still counts the command that has ended
                peer.socket.sendall(opening(int.from_bytes(own, "big")))
            elif said[0] == CLOSE:
                closing = bytes((CLOSE,)) + u32(servers.pop(own))
                peer.socket.sendall(peer.sending.seal(closing) + opening(int.from_bytes(own, "big")))


def _plain(payload: bytes) -> bytes:
    """An unencrypted packet, as before the key exchange."""
    padding = 4 + -(9 + len(payload)) % 8
    return u32(1 + len(payload) + padding) + bytes((padding,)) + payload + bytes(padding)


def _early(port: int) -> None:
    """Connect, send a KEXINIT and then tiny packets without end; connect again when the server ends the connection."""
    lists = (
        b"curve25519-sha256", b"ssh-ed25519", CIPHER.encode(), CIPHER.encode(), b"hmac-sha2-256", b"hmac-sha2-256",
        b"none", b"none", b"", b"",
    )  # fmt: skip
    greeting = b"SSH-2.0-flood\r\n" + _plain(b"\x14" + bytes(16) + b"".join(map(text, lists)) + bytes(5))
    flood = _plain(bytes((IGNORE,)) + text(b"")) * EARLY_PACKETS
    _begin()
    while True:
        with suppress(OSError), socket.create_connection((HOST, port)) as stream:
            stream.sendall(greeting)
            stream.sendall(flood)
            stream.settimeout(1)
            with suppress(TimeoutError):
                while stream.recv(1 << 16):
                    stream.sendall(flood)


def main(kind: str, port: int, user: str, key: str) -> None:
    """Flood until something ends it."""
    if kind == "early":
        _early(port)
    elif kind == "split":
        _split(*asyncio.run(_with_forwards(port, user, key)))
    elif kind == "forwards":
        _forwards(asyncio.run(_one(port, user, key)))
    elif kind == "execs":
        _execs(asyncio.run(_several(port, user, key)))
    else:
        peer, channel = asyncio.run(_with_session(port, user, key))
        if kind == "open":
            _open(peer)
        else:
            _packets(kind, peer, channel)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
