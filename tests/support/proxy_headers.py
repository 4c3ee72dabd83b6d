"""PROXY headers as proxies send them, and a proxy that sends one: test input for `core.proxy_protocol`.

Nothing is imported from the server, not even the checksum, so that a mistake of the reader is not repeated here.
"""

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from tests.support.forwards import Target
from tests.support.waiting import PATIENCE

End = tuple[str, int]
"""An address and a port."""

CLIENT: End = ("203.0.113.9", 50350)
EDGE: End = ("198.51.100.1", 22)

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DATAGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS, AWS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x30, 0xEA


def line(source: End = CLIENT, destination: End = EDGE) -> bytes:
    """A header of version 1."""
    family = f"TCP{ip_address(source[0]).version}"
    return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def binary(source: End = CLIENT, destination: End = EDGE, *, tlvs: bytes = b"", checksum: bool = False) -> bytes:
    """A version 2 header for a TCP connection, with `tlvs` behind the addresses, and a correct checksum before them."""
    addresses = [ip_address(host).packed for host, _ in (source, destination)]
    body = b"".join(addresses) + struct.pack("!HH", source[1], destination[1])
    family = TCP4 if len(addresses[0]) == 4 else TCP6
    if not checksum:
        return frame(body + tlvs, family=family)
    before, after = frame(body + tlv(CRC32C, bytes(4)) + tlvs, family=family), len(tlvs) + 4
    return before[: len(before) - after] + struct.pack("!I", crc32c(before)) + before[len(before) - after + 4 :]


def frame(body: bytes = b"", *, command: int = PROXY, family: int = UNSPEC, length: int | None = None) -> bytes:
    """A version 2 header with any contents. `command` is the byte with the version in its upper half."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def tlv(kind: int, value: bytes) -> bytes:
    """One type, length and value."""
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 section 12.1, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


class TcpProxy(Target):
    """Listens at `port` and makes a connection to the server on `upstream` for each that it accepts.

    `header` makes the first bytes from the client's address and the one that it connected to. The proxy's own address
    is `address`, any in 127.0.0.0/8. With `together` the header goes in one segment with the client's first bytes.
    """

    def __init__(
        self,
        upstream: int,
        header: Callable[[End, End], bytes],
        *,
        address: str = "127.0.0.1",
        together: bool = False,
    ) -> None:
        self._upstream = upstream
        self._header = header
        self._address = address
        self._together = together
        super().__init__(self._relay)

    @property
    def options(self) -> tuple[str, ...]:
        """The options with which `ssh`, meant for the server, goes through the proxy instead."""
        return ("-o", f"Port={self.port}", "-o", f"HostKeyAlias=[127.0.0.1]:{self._upstream}")

    def _relay(self, client: socket.socket) -> None:
        first = self._header(client.getpeername(), client.getsockname())
        if self._together:
            first += client.recv(65536)
        with socket.create_connection(("127.0.0.1", self._upstream), PATIENCE, (self._address, 0)) as server:
            server.sendall(first)
            ends = {client: server, server: client}
            while ends:
                ready, _, _ = select.select(list(ends), [], [], PATIENCE)
                assert ready, "neither side has said anything, or gone"
                for one in ready:
                    data = one.recv(65536)
                    if data:
                        ends[one].sendall(data)
                        continue
                    with suppress(OSError):  # the connection is gone in both directions
                        ends[one].shutdown(socket.SHUT_WR)
                    del ends[one]
