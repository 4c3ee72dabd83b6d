"""A peer at the level of the socket: it has no keys, sends any bytes, and reads the answers."""

import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE

MSG_DISCONNECT, MSG_IGNORE, MSG_KEXINIT = 1, 2, 20


class PlainPeer:
    """A TCP connection to the server from `source`, any address in 127.0.0.0/8."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send `data`, as far as the server takes it; it may close the connection before the end."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def read_line(self) -> bytes:
        """The next line without its line end; empty when the server has closed."""
        while b"\n" not in self._buffer:
            if not self._fill():
                return b""
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def read_packet(self) -> bytes:
        """The payload of the next unencrypted packet; empty when the server has closed."""
        while len(self._buffer) < 4 or len(self._buffer) < 4 + struct.unpack(">I", self._buffer[:4])[0]:
            if not self._fill():
                return b""
        (length,) = struct.unpack(">I", self._buffer[:4])
        packet, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
        return packet[1 : length - packet[0]]

    def greet(self, version: bytes = b"SSH-2.0-test") -> None:
        """Exchange identification lines and read the server's KEXINIT."""
        self.send(version + b"\r\n")
        assert self.read_line().startswith(b"SSH-2.0-")
        assert self.read_packet()[0] == MSG_KEXINIT

    def is_closed(self) -> bool:
        """Wait until the server has closed, and discard what it still sends; fails after `PATIENCE`."""
        while self._fill():
            pass
        return True

    def _fill(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)


def packet(payload: bytes) -> bytes:
    """`payload` as an unencrypted binary packet (RFC 4253 section 6)."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def text(data: bytes) -> bytes:
    """A `string` of RFC 4251 section 5."""
    return struct.pack(">I", len(data)) + data


def kexinit(
    *,
    kex: bytes = b"curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
    host_key: bytes = b"ssh-ed25519",
    cipher: bytes = b"aes128-gcm@openssh.com",
    follows: bool = False,
) -> bytes:
    """A KEXINIT payload (RFC 4253 section 7.1)."""
    lists = [kex, host_key, cipher, cipher, b"hmac-sha2-256", b"hmac-sha2-256", b"none", b"none", b"", b""]
    return bytes([MSG_KEXINIT]) + bytes(16) + b"".join(map(text, lists)) + bytes([follows]) + bytes(4)
