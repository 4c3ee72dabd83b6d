"""The PROXY protocol, versions 1 and 2: what a proxy says about the client for which it connects.

Follows haproxy's doc/proxy-protocol.txt of 2020/03/05; "section" below is one of that text. Bytes in, one `Header` out.
The bytes after the header are the client's and must stay unread: `Reader.wanted` is never more than a valid header
still needs, so a caller that reads no more than that can't take one of them. Only headers of trusted proxies
(`is_trusted`) may be believed; otherwise any client could forge its address. This module knows neither the connection
that it reads nor what happens after a refusal.
"""

import re
import struct
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import msgspec

from pyssh_gateway.core.access import source_match

MAX_LINE_BYTES = 107
"""Version 1's longest line with its CRLF (section 2.1)."""

MAX_HEADER_BYTES = 4096
"""Version 2's longest header. It should fit into 536 bytes, and usually does; only proxies that pass on a TLS client's
whole certificate (ghostunnel) need 1 to 2 KiB more. Its length field could say 64 KiB."""

MAX_UNIQUE_ID_BYTES = 128
"""Section 2.2.5."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2 (section 2.2)."""

CRC32C, UNIQUE_ID = 0x03, 0x05
"""The TLV types that are evaluated (section 2.2)."""

Accepted = Literal["v1", "v2", "any"]

_LINE_START = b"PROXY "
_SHORTEST_LINE = len(b"PROXY UNKNOWN\r\n")
_LINE_KINDS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")
_SHORTEST_FIELDS = {b"TCP4": (7, 2, 1, 1), b"TCP6": (2, 2, 1, 1)}
"""The shortest lengths of the source address (`0.0.0.0` or `::`), the other end's address, and the two ports."""

# `[0-9.]` and the like only preselect; `ipaddress` decides what an address is. But it accepts zones, which these
# exclude.
_PORT = rb"(0|[1-9][0-9]{0,4})"
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\n]*)?\r\n")
# The family is that of the source. nginx, which may have taken the client from a header itself (realip), writes its own
# end of the connection as the destination, in whatever family that is (ngx_proxy_protocol.c, ngx_proxy_protocol_write).
_OTHER_END = rb"([0-9A-Fa-f.:]{2,39}) "
_TCP4 = re.compile(rb"PROXY TCP4 ([0-9.]{7,15}) " + _OTHER_END + _PORT + b" " + _PORT + b"\r\n")
_TCP6 = re.compile(rb"PROXY TCP6 ([0-9A-Fa-f.:]{2,39}) " + _OTHER_END + _PORT + b" " + _PORT + b"\r\n")

_FIXED = struct.Struct("!12sBBH")
"""The fixed part of version 2: signature, version and command, family and protocol, number of bytes that follow."""

_LOCAL, _PROXY = 0x20, 0x21  # the version in the upper half, the command in the lower
_UNSPEC, _TCP_OVER_IPV4, _TCP_OVER_IPV6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_DATAGRAMS = frozenset({0x12, 0x22, 0x32})
_ADDRESSES = {
    _UNSPEC: struct.Struct(""),
    _TCP_OVER_IPV4: struct.Struct("!4s4sHH"),
    _TCP_OVER_IPV6: struct.Struct("!16s16sHH"),
    _UNIX_STREAM: struct.Struct("!108s108s"),
}
_TLV = struct.Struct("!BH")

_MAX_SHOWN = 60
"""The most bytes of a peer's data that a reason quotes."""


class ProxyError(Exception):
    """The reason why there is no valid header. The text is for the proxy's administrator, and safe to print."""


class NothingSaid(ProxyError):
    """The peer has closed without sending a byte, as port checks do. It need not be reported."""


class Header(msgspec.Struct, frozen=True):
    """What a proxy says.

    `source` is the client and `destination` where it connected to, each an address as text and a port. Both are None if
    the proxy does not say: it has connected for itself (`local`: a health check, without a client), or for a client
    without such an address (version 1's UNKNOWN, version 2's UNSPEC and unix sockets); then the TCP connection's own
    addresses count. An IPv4-mapped IPv6 address stays one: `::ffff:192.0.2.1`. `unique_id` is the proxy's own name for
    the connection, up to 128 bytes of any kind; empty for none.
    """

    version: Literal[1, 2]
    local: bool = False
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    unique_id: bytes = b""


class Reader:
    """Reads one header of an `accepted` version, in pieces of any size.

    At most `wanted` bytes may be read next; 0: the header is complete. Version 2 has a length field and so takes two
    reads, or three where version 1 is accepted as well, whose shortest line is a byte shorter. Version 1 has none, but
    the beginning of a line tells how many bytes must follow at least, and those are read: a usual line takes six reads.
    Peeking at the whole line (MSG_PEEK) would need fewer, but would be a busy loop while half a line waits in the
    socket.
    """

    def __init__(self, accepted: Accepted) -> None:
        self.wanted = _FIXED.size if accepted == "v2" else _SHORTEST_LINE
        self._accepted = accepted
        self._data = b""

    def feed(self, data: bytes) -> Header | None:
        """Take the next bytes; empty: the peer has closed. Returns the header as soon as it is complete.

        Raises ProxyError as soon as the header can't become valid, `NothingSaid` if the peer has closed without a byte.
        """
        if len(data) > self.wanted:
            raise ValueError(f"{len(data)} bytes were read where {self.wanted} were wanted: they may be the client's")
        if not data:
            if not self._data:
                raise NothingSaid("closed without a byte")
            raise ProxyError(f"closed in the middle of a PROXY header, after {_shown(self._data)}")
        self._data += data
        version = _version(self._data, self._accepted)
        outcome = _read_line(self._data) if version == 1 else _read_binary(self._data)
        if isinstance(outcome, Header):
            self.wanted = 0
            return outcome
        self.wanted = outcome
        return None


@lru_cache(maxsize=64)  # there are few proxies, and each brings many clients
def is_trusted(peer: str, networks: tuple[str, ...]) -> bool:
    """Whether headers from the address `peer` are believed: it is in one of `networks` (addresses or `address/bits`).

    No headers are believed if there are no networks, or if one of them is malformed. An IPv4-mapped IPv6 address counts
    as the IPv4 address.
    """
    return bool(networks) and source_match.matches(networks, peer)


def crc32c(data: bytes) -> int:
    """The CRC32c checksum of `data` (RFC 4960 appendix B)."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@cache
def _crc32c_table() -> tuple[int, ...]:
    return tuple(map(_crc32c_entry, range(256)))


def _crc32c_entry(byte: int) -> int:
    """The table entry of a byte: the remainder of a division by 0x1EDC6F41, bits reversed (RFC 3720 section 12.1)."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


def _version(data: bytes, accepted: Accepted) -> int:
    """The version of the header that begins with `data`."""
    for version, start in ((1, _LINE_START), (2, SIGNATURE)):
        if not start.startswith(data[: len(start)]):
            continue
        if accepted in {"any", f"v{version}"}:
            return version
        if data.startswith(start):
            raise ProxyError(f"a PROXY header of version {version}, and only {accepted} is accepted")
    if data.startswith(b"SSH-"):
        raise ProxyError("an SSH client without a PROXY header in front of it; the proxy has to send one")
    raise ProxyError(f"no PROXY header, but {_shown(data)}")


# -- version 1 (section 2.1) ---------------------------------------------------------------------------------------


def _read_line(line: bytes) -> Header | int:
    """The header that `line` is, or how many bytes it lacks at least."""
    # By the specification, a line feed alone does not end a line. What follows it may be the client's data already.
    if b"\n" in line:
        return _parse_line(line)
    if len(line) >= _SHORTEST_LINE and not line.startswith(_LINE_KINDS):
        raise _malformed(line)
    missing = _missing(line)
    if len(line) + missing > MAX_LINE_BYTES:
        raise ProxyError(f"a PROXY line of more than {MAX_LINE_BYTES} bytes")
    return missing


def _missing(line: bytes) -> int:
    """How many bytes have to follow on `line`, at least, if it is to become a valid one."""
    if len(line) < _SHORTEST_LINE:
        return _SHORTEST_LINE - len(line)
    end = 1 if line.endswith(b"\r") else 2
    kind, *fields = line.removeprefix(_LINE_START).split(b" ")
    shortest = _SHORTEST_FIELDS.get(kind)
    if shortest is None:  # UNKNOWN, with anything behind it
        return end
    # The last field that has begun may be incomplete; each field that has not begun adds the space before it.
    begun = sum(max(0, least - len(field)) for least, field in zip(shortest, fields, strict=False))
    return begun + sum(least + 1 for least in shortest[len(fields) :]) + end


def _parse_line(line: bytes) -> Header:
    if _UNKNOWN.fullmatch(line):
        return Header(1)
    for family, pattern in ((IPv4Address, _TCP4), (IPv6Address, _TCP6)):
        fields = pattern.fullmatch(line)
        if fields is None:
            continue
        source, destination, source_port, destination_port = (field.decode("ascii") for field in fields.groups())
        try:
            return Header(
                1,
                source=(_text(family(source)), _port(source_port)),
                destination=(_text(ip_address(destination)), _port(destination_port)),
            )
        except ValueError:
            break
    raise _malformed(line)


def _port(text: str) -> int:
    port = int(text)
    if port > 0xFFFF:
        raise ValueError(text)
    return port


def _malformed(line: bytes) -> ProxyError:
    return ProxyError(f"a malformed PROXY line: {_shown(line)}")


# -- version 2 (section 2.2) ---------------------------------------------------------------------------------------


def _read_binary(data: bytes) -> Header | int:
    """The header that `data` is, or how many bytes it lacks."""
    if len(data) < _FIXED.size:
        return _FIXED.size - len(data)
    length: int
    _, command, family, length = _FIXED.unpack_from(data)
    if command not in {_LOCAL, _PROXY}:
        raise ProxyError(f"a PROXY header of version {command >> 4} with command {command & 15}, which is not known")
    if command == _PROXY:
        _check_family(family, length)
    size = _FIXED.size + length
    if size > MAX_HEADER_BYTES:
        raise ProxyError(f"a PROXY header of {size} bytes; at most {MAX_HEADER_BYTES} are read")
    if len(data) < size:
        return size - len(data)
    if command == _LOCAL:  # the family must be ignored, and without it the beginning of the TLVs is unknown
        return Header(2, local=True)
    return _parse_addresses(data, family)


def _check_family(family: int, length: int) -> None:
    """Raise ProxyError unless we can serve a connection of this `family`, and `length` has room for its addresses."""
    if family in _DATAGRAMS:
        raise ProxyError("a PROXY header for datagrams; SSH is spoken over streams")
    if family not in _ADDRESSES:
        raise ProxyError(f"a PROXY header with family and protocol 0x{family:02x}, which are not known")
    if length < _ADDRESSES[family].size:
        raise ProxyError(f"a PROXY header with {length} bytes for addresses of {_ADDRESSES[family].size}")


def _parse_addresses(data: bytes, family: int) -> Header:
    """The PROXY command's header. All of it has come, and its length has been checked."""
    if family == _UNSPEC:  # what follows is not specified, and must be ignored
        return Header(2)
    layout = _ADDRESSES[family]
    unique_id = _read_tlvs(data, _FIXED.size + layout.size)
    if family == _UNIX_STREAM:  # treated as UNSPEC, by section 2.2: two paths on the proxy's machine mean nothing here
        return Header(2, unique_id=unique_id)
    source, destination, source_port, destination_port = layout.unpack_from(data, _FIXED.size)
    address = IPv4Address if family == _TCP_OVER_IPV4 else IPv6Address
    return Header(
        2,
        source=(_text(address(source)), source_port),
        destination=(_text(address(destination)), destination_port),
        unique_id=unique_id,
    )


def _read_tlvs(data: bytes, position: int) -> bytes:
    """Check the TLVs from `position` to the end of `data`, and a checksum among them. Returns the unique id, or empty.

    Other TLVs are skipped, including NOOP. The two evaluated ones may come once each: two ids would be ambiguous, and
    two checksums would each have to be zero while the other is computed.
    """
    unique_id = b""
    seen = set()
    while position < len(data):
        start = position + _TLV.size
        kind, length = _TLV.unpack_from(data, position) if start <= len(data) else (-1, 0)
        position = start + length
        if position > len(data):
            raise ProxyError("a PROXY header with a TLV that is cut off")
        if kind in {CRC32C, UNIQUE_ID}:
            if kind in seen:
                raise ProxyError(f"a PROXY header with two TLVs of type 0x{kind:02x}")
            seen.add(kind)
        if kind == CRC32C:
            _verify(data, start, length)
        elif kind == UNIQUE_ID:
            unique_id = data[start:position]
            if length > MAX_UNIQUE_ID_BYTES:
                raise ProxyError(
                    f"a PROXY header with a unique id of {length} bytes; at most {MAX_UNIQUE_ID_BYTES} may be"
                )
    return unique_id


def _verify(data: bytes, start: int, length: int) -> None:
    """Raise ProxyError unless the checksum at `start` is that of `data` with zeros in its place (section 2.2.3)."""
    if length != 4:
        raise ProxyError(f"a PROXY header with a checksum of {length} bytes; it has 4")
    end = start + length
    if crc32c(data[:start] + bytes(length) + data[end:]) != int.from_bytes(data[start:end], "big"):
        raise ProxyError("a PROXY header whose checksum is wrong: it was changed on its way")


# -- both ----------------------------------------------------------------------------------------------------------


def _text(address: IPv4Address | IPv6Address) -> str:
    """`address` as inet_ntop writes it; Python writes mapped addresses like that only since 3.13."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _shown(data: bytes) -> str:
    return f'"{repr(data[:_MAX_SHOWN])[2:-1]}"'
