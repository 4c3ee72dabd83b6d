"""core.proxy_protocol: properties of any header and any bytes, in any pieces."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain, repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.proxy_properties import check_header, read
from pyssh_gateway.core.proxy_protocol import MAX_UNIQUE_ID_BYTES
from tests.support.proxy_headers import (
    ALPN,
    AWS,
    CRC32C,
    NOOP,
    SIGNATURE,
    SSL,
    UNIQUE_ID,
    binary,
    line,
    tlv,
)

BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"

ENDS = st.one_of(
    *(
        st.tuples(*(st.tuples(addresses.map(str), st.integers(0, 65535)) for _ in range(2)))
        for addresses in (st.ip_addresses(v=4), st.ip_addresses(v=6))
    )
)
MIXED_ENDS = st.tuples(
    *(st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)) for _ in range(2)),
)
"""Version 1 has the family of the source; the other end may be of another one, as nginx writes it."""

TLVS = st.lists(
    st.tuples(st.sampled_from([ALPN, NOOP, SSL, AWS, 0, 0xFF]), st.binary(max_size=40)).map(lambda it: tlv(*it))
).map(b"".join)
PIECES = st.lists(st.integers(1, 9))


def same(ends: Iterable[tuple[str, int] | None]) -> list[tuple[IPv4Address | IPv6Address, int]]:
    """The ends as numbers, since an address can be written in several ways."""
    return [(ip_address(end[0]), end[1]) for end in ends if end is not None]


@given(MIXED_ENDS, PIECES)
def test_any_line_is_read_in_any_pieces(ends: tuple[tuple[str, int], tuple[str, int]], pieces: list[int]) -> None:
    """A header of version 1 that is written is read again, in any pieces."""
    data = line(*ends)
    header, taken = read(data + BANNER, "v1", chain(pieces, repeat(1)))
    assert header is not None
    assert (same((header.source, header.destination)), taken) == (same(ends), len(data))


@given(ENDS, st.tuples(TLVS, TLVS), st.binary(max_size=MAX_UNIQUE_ID_BYTES), st.booleans(), PIECES)
def test_any_binary_header_is_read_in_any_pieces(
    ends: tuple[tuple[str, int], tuple[str, int]],
    around: tuple[bytes, bytes],
    unique_id: bytes,
    checksum: bool,
    pieces: list[int],
) -> None:
    """A header of version 2 that is written is read again, in any pieces."""
    data = binary(*ends, tlvs=tlv(UNIQUE_ID, unique_id).join(around), checksum=checksum)
    header, taken = read(data + BANNER, "v2", chain(pieces, repeat(1)))
    assert header is not None
    assert (same((header.source, header.destination)), taken) == (same(ends), len(data))
    assert header.unique_id == unique_id


SENT = st.lists(
    st.one_of(
        st.sampled_from([
            *(b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"203.0.113.9 ", b"2001:db8::9 ", b"22 ", b"50350", b"\r\n"),
            *(b"\r", b"\n", b" ", SIGNATURE, b"\x21\x11\x00\x0c", b"\x21\x21\x00\x24", b"\x20\x00\x00\x00", BANNER),
            *(bytes(12), tlv(UNIQUE_ID, b"7"), tlv(CRC32C, bytes(4)), line(), binary(), binary(checksum=True)),
        ]),
        st.binary(max_size=30),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(SENT, st.binary(max_size=20))
@settings(max_examples=300)
def test_the_promises_hold_for_anything_that_is_sent(data: bytes, pieces: bytes) -> None:
    """Only ProxyError, the same result in any pieces, and no byte beyond a header: see fuzz.proxy_properties."""
    check_header(bytes([len(pieces)]) + pieces + data)


@given(st.binary(max_size=300))
def test_the_promises_hold_for_any_bytes(data: bytes) -> None:
    """The same properties for arbitrary bytes, with which atheris begins."""
    check_header(data)
