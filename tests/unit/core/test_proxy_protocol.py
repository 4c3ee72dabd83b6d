"""core.proxy_protocol: the examples and limits of haproxy's specification, and faulty headers."""

from itertools import repeat

import pytest

from fuzz.proxy_properties import read
from pyssh_gateway.core import proxy_protocol
from pyssh_gateway.core.proxy_protocol import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    MAX_UNIQUE_ID_BYTES,
    Accepted,
    Header,
    NothingSaid,
    ProxyError,
    Reader,
    is_trusted,
)
from tests.support import proxy_headers
from tests.support.proxy_headers import (
    ALPN,
    AUTHORITY,
    AWS,
    CLIENT,
    CRC32C,
    EDGE,
    LOCAL,
    NETNS,
    NOOP,
    PROXY,
    SSL,
    TCP4,
    TCP6,
    UDP4,
    UDP6,
    UNIQUE_ID,
    UNIX,
    UNIX_DATAGRAM,
    UNSPEC,
    binary,
    frame,
    line,
    tlv,
)

BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"
LONGEST_IPV6 = ":".join(["ffff"] * 8)
ADDRESSES = bytes(12)


def parsed(header: bytes, accepted: Accepted = "any") -> Header:
    """The parsed `header`, which must be read to its last byte, without any byte of the banner after it."""
    outcome = read(header + BANNER, accepted, repeat(MAX_HEADER_BYTES))
    assert outcome.taken == len(header)
    assert outcome.header is not None
    return outcome.header


def refusal(data: bytes, accepted: Accepted = "any") -> str:
    """The reason for a refusal of `data`; until then the reader must want no more bytes, as a proxy sends no more."""
    with pytest.raises(ProxyError) as raised:
        reads(data, accepted)
    return str(raised.value)


def reads(data: bytes, accepted: Accepted) -> int:
    """The number of reads for a header that is all there."""
    reader = Reader(accepted)
    count, done = 0, False
    while not done:
        assert data, "it wants more than there is"
        head, data = data[: reader.wanted], data[reader.wanted :]
        done = reader.feed(head) is not None
        count += 1
    return count


# -- version 1 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source", "destination"),
    [
        # The example of section 2.1, then the longest header of each family.
        ("TCP4 192.168.0.1 192.168.0.11 56324 443", ("192.168.0.1", 56324), ("192.168.0.11", 443)),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        (f"TCP6 {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535", (LONGEST_IPV6, 65535), (LONGEST_IPV6, 65535)),
        ("TCP4 0.0.0.0 1.2.3.4 0 1", ("0.0.0.0", 0), ("1.2.3.4", 1)),
        ("TCP6 :: ::1 0 0", ("::", 0), ("::1", 0)),
        # The specification allows either case, and zeros in front of a group's digits.
        ("TCP6 2001:DB8::00aB 2021:cafe:0:0:0:0:0:0002 1 2", ("2001:db8::ab", 1), ("2021:cafe::2", 2)),
        # nginx's form for a client known from another header, with the proxy's own end of the connection.
        ("TCP6 2001:db8::1 10.0.0.1 50350 22", ("2001:db8::1", 50350), ("10.0.0.1", 22)),
        ("TCP4 203.0.113.9 2001:db8::2 50350 22", ("203.0.113.9", 50350), ("2001:db8::2", 22)),
        ("TCP4 0.0.0.0 :: 0 0", ("0.0.0.0", 0), ("::", 0)),
        # inet_ntop's form for a client that came over IPv4 to an IPv6 socket.
        ("TCP6 ::ffff:192.0.2.7 ::ffff:c000:201 1 2", ("::ffff:192.0.2.7", 1), ("::ffff:192.0.2.1", 2)),
        ("UNKNOWN", None, None),
        (f"UNKNOWN {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535", None, None),
        ("UNKNOWN whatever \r \x00\xff", None, None),
        ("UNKNOWN ", None, None),
    ],
)
def test_a_line_is_read(text: str, source: tuple[str, int] | None, destination: tuple[str, int] | None) -> None:
    """A line gives both ends of the client's connection, and UNKNOWN none, whatever follows it."""
    header = Header(1, source=source, destination=destination)
    data = f"PROXY {text}\r\n".encode("latin-1")
    assert parsed(data) == parsed(data, "v1") == header


@pytest.mark.parametrize(
    "text",
    [
        *("TCP4", "TCP4 ", "TCP5 1.2.3.4 1.2.3.4 1 2", "tcp4 1.2.3.4 1.2.3.4 1 2", "UDP4 1.2.3.4 1.2.3.4 1 2"),
        *("UNKNOWNX", "UNKNOWN\t", "unknown        ", " TCP4 1.2.3.4 1.2.3.4 1 2", "\tTCP4 1.2.3.4 1.2.3.4 1 2"),
        *("TCP4  1.2.3.4 1.2.3.4 1 2", "TCP4 1.2.3.4  1.2.3.4 1 2", "TCP4 1.2.3.4 1.2.3.4 1  2"),
        *("TCP4 1.2.3.4 1.2.3.4 1 2 ", "TCP4 1.2.3.4 1.2.3.4 1 2 3", "TCP4 1.2.3.4 1.2.3.4 1"),
        *("TCP4 1.2.3.4\t1.2.3.4 1 2", "TCP4 1.2.3.4 \n 1.2.3.4 1 2", "TCP4 1.2.3.4 1.2.3.4 1 2\r"),
        *("TCP4 01.2.3.4 1.2.3.4 1 2", "TCP4 1.2.3.256 1.2.3.4 1 2", "TCP4 1.2.3 1.2.3.4 1 2"),
        *("TCP4 ::1 ::1 1 2", "TCP6 1.2.3.4 1.2.3.4 1 2", "TCP6 1.2.3.4 ::1 1 2", "TCP4 ::1 1.2.3.4 1 2"),
        *("TCP6 ::1 1.2.3 1 2", "TCP6 ::1 01.2.3.4 1 2", "TCP4 1.2.3.4 12345678 1 2", "TCP4 1.2.3.4 ::1%eth0 1 2"),
        *("TCP6 1::2::3 ::1 1 2", "TCP6 ::12345 ::1 1 2", "TCP6 ::g ::1 1 2", "TCP6 1:2:3:4:5:6:7 ::1 1 2"),
        *("TCP6 fe80::1%eth0 ::1 1 2", "TCP6 [::1] ::1 1 2", "TCP6 ::1/64 ::1 1 2", "TCP6 : : 1 2"),
        *("TCP4 1.2.3.4 1.2.3.4 65536 2", "TCP4 1.2.3.4 1.2.3.4 1 99999", "TCP4 1.2.3.4 1.2.3.4 100000 2"),
        *("TCP4 1.2.3.4 1.2.3.4 01 2", "TCP4 1.2.3.4 1.2.3.4 1 00", "TCP4 1.2.3.4 1.2.3.4 -1 2"),
        *("TCP4 1.2.3.4 1.2.3.4 a b", "TCP4 1.2.3.4 1.2.3.4 \xb2 2", "TCP4 1.2.3.4 1.2.3.4 1 2\0"),
        *("TCP4 1.2.3.a 1.2.3.4 1 2", "UNKNOWN \n", "UNKNOWN a\nb"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_exactly_one_is_refused(text: str) -> None:
    """A line must have exactly one form, so that no two readers can understand different addresses."""
    assert "malformed PROXY line" in refusal(f"PROXY {text}\r\n".encode("latin-1"))


@pytest.mark.parametrize("kind", ["UNKNOWN", "UNKNOWN 1", "TCP4 1.2.3.4 1.2.3.4 1 2"])
@pytest.mark.parametrize("end", [b"\n", b"\n\r"])
def test_a_line_feed_alone_ends_no_line(kind: str, end: bytes) -> None:
    """A line feed alone is refused before more is read: the next bytes are the client's and not the line's rest."""
    assert "malformed" in refusal(b"PROXY " + kind.encode() + end + BANNER.rstrip())


@pytest.mark.parametrize("start", [b"PROXY TCP5 1.2.3", b"PROXY UDP4 1.2.3", b"PROXY UNKNOWNNN", b"PROXY  TCP4 1.2"])
def test_a_line_of_another_kind_is_refused_at_once(start: bytes) -> None:
    """A line of another kind is refused at once, and not only after the time limit for a header."""
    assert "malformed" in refusal(start[:15])


def test_a_line_has_a_longest() -> None:
    """A line has at most 107 bytes with its end, and a longer one is refused before its last bytes are read."""
    longest = b"PROXY UNKNOWN " + b"*" * (MAX_LINE_BYTES - 16) + b"\r\n"
    assert len(longest) == MAX_LINE_BYTES
    assert parsed(longest) == Header(1)
    too_long = longest.replace(b"*\r\n", b"**\r\n")
    assert "more than 107 bytes" in refusal(too_long[: MAX_LINE_BYTES - 1])
    assert "more than 107 bytes" in refusal(b"PROXY TCP6 " + b"0" * 90)


@pytest.mark.parametrize(
    ("header", "accepted", "count"),
    [
        (line(), "v1", 7),
        (line(("2001:db8:1:2:3:4:5:6", 50350), ("2001:db8::22", 22)), "any", 12),
        (binary(checksum=True, tlvs=tlv(UNIQUE_ID, b"x")), "v2", 2),
        (binary(checksum=True, tlvs=tlv(UNIQUE_ID, b"x")), "any", 3),
        (frame(command=LOCAL), "v2", 1),
    ],
)
def test_a_header_takes_few_reads(header: bytes, accepted: Accepted, count: int) -> None:
    """Though the reader never reads beyond the header, it does not read byte by byte."""
    assert reads(header, accepted) <= count


# -- version 2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (CLIENT, EDGE),
        (("0.0.0.0", 0), ("255.255.255.255", 65535)),
        (("2001:db8::9", 50350), ("::", 0)),
        (("::ffff:192.0.2.7", 1), (LONGEST_IPV6, 65535)),
    ],
)
def test_addresses_are_read(source: tuple[str, int], destination: tuple[str, int], checksum: bool) -> None:
    """Both ends of the client's TCP connection are read, IPv4 or IPv6, and mapped addresses stay mapped."""
    data = binary(source, destination, checksum=checksum)
    header = Header(2, source=source, destination=destination)
    assert parsed(data) == parsed(data, "v2") == header


def test_bytes_of_an_amazon_load_balancer_are_read() -> None:
    """The example of Amazon's documentation is read, with a foreign checksum, a TLV of Amazon's own, and padding."""
    data = bytes.fromhex(
        "0d0a0d0a000d0a515549540a 21110054 ac1f0771 ac1f0a1f c8f20050 030004 e8d6892d"
        "ea001701 767063652d3038643262663135666163353030316339 040024"
    ) + bytes(0x24)
    assert parsed(data) == Header(2, source=("172.31.7.113", 51442), destination=("172.31.10.31", 80))


def test_the_connections_own_ends_count_where_the_proxy_speaks_for_itself() -> None:
    """With LOCAL the connection's own ends count, any family is ignored, and the rest is skipped by its length."""
    for body, family in ((b"", UNSPEC), (b"not a TLV", UNSPEC), (b"\1", TCP4), (bytes(300), UDP6), (b"x", 0xFF)):
        assert parsed(frame(body, command=LOCAL, family=family)) == Header(2, local=True)


def test_a_client_without_an_address_has_none() -> None:
    """UNSPEC and unix sockets give no address; after UNSPEC all is skipped, after a unix socket TLVs are read."""
    assert parsed(frame(b"not a TLV")) == parsed(frame()) == Header(2)
    paths = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
    assert parsed(frame(paths + tlv(UNIQUE_ID, b"7"), family=UNIX)) == Header(2, unique_id=b"7")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(command=0x11), "version 1 with command 1"),
        (frame(command=0x31), "version 3 with command 1"),
        (frame(command=0x22), "version 2 with command 2"),
        (frame(command=0x2F, family=TCP4), "version 2 with command 15"),
        (frame(ADDRESSES, family=UDP4), "datagrams"),
        (frame(bytes(36), family=UDP6), "datagrams"),
        (frame(bytes(216), family=UNIX_DATAGRAM), "datagrams"),
        *((frame(bytes(216), family=kind), f"0x{kind:02x}") for kind in (0x01, 0x10, 0x13, 0x20, 0x30, 0x41, 0xFF)),
        (frame(bytes(11), family=TCP4), "11 bytes for addresses of 12"),
        (frame(bytes(35), family=TCP6), "35 bytes for addresses of 36"),
        (frame(bytes(215), family=UNIX), "215 bytes for addresses of 216"),
        (frame(family=TCP4), "0 bytes for addresses of 12"),
        (frame(ADDRESSES, family=TCP6), "12 bytes for addresses of 36"),
    ],
)  # fmt: skip
def test_what_is_not_specified_is_refused(data: bytes, reason: str) -> None:
    """Anything unspecified is refused after the first 16 bytes, without waiting for the rest."""
    assert reason in refusal(data[:16])


@pytest.mark.parametrize("command", [LOCAL, PROXY])
def test_a_header_has_a_longest(command: int) -> None:
    """For any command a header has at most 4 KiB, and a longer one is refused before it is read."""
    body = ADDRESSES + tlv(NOOP, bytes(MAX_HEADER_BYTES - 16 - 12 - 3))
    assert parsed(frame(body, command=command, family=TCP4)).version == 2
    too_long = frame(body + b"\0", command=command, family=TCP4)
    assert "4097 bytes; at most 4096" in refusal(too_long[:16])


def test_what_a_proxy_adds_is_read_or_skipped() -> None:
    """The unique id is returned with any bytes, and other well-formed TLVs are skipped."""
    longest = bytes(range(128))
    assert len(longest) == MAX_UNIQUE_ID_BYTES
    ssl = b"\1" + bytes(4) + tlv(0x21, b"TLSv1.3")
    others = tlv(ALPN, b"ssh") + tlv(AUTHORITY, b"my-box.fly.dev") + tlv(SSL, ssl) + tlv(NETNS, b"") + tlv(AWS, b"\1v")
    more = tlv(NOOP, b"") + tlv(NOOP, bytes(9)) + tlv(0xFF, b"experiment") + tlv(ALPN, b"again")
    for checksum in (False, True):
        data = binary(tlvs=others + tlv(UNIQUE_ID, longest) + more, checksum=checksum)
        assert parsed(data) == Header(2, source=CLIENT, destination=EDGE, unique_id=longest)
    assert parsed(binary(tlvs=tlv(UNIQUE_ID, b""))).unique_id == b""


@pytest.mark.parametrize(
    ("tlvs", "reason"),
    [
        *((cut, "cut off") for cut in (b"\1", b"\1\0", b"\1\0\1", b"\1\xff\xff" + bytes(99), tlv(NOOP, b"") + b"\0")),
        (tlv(UNIQUE_ID, bytes(129)), "unique id of 129 bytes"),
        (tlv(UNIQUE_ID, b"1") + tlv(UNIQUE_ID, b"2"), "two TLVs of type 0x05"),
        (tlv(CRC32C, b""), "checksum of 0 bytes"),
        (tlv(CRC32C, bytes(3)), "checksum of 3 bytes"),
        (tlv(CRC32C, bytes(5)), "checksum of 5 bytes"),
        (tlv(CRC32C, bytes(4)), "checksum is wrong"),
    ],
)
def test_malformed_additions_are_refused(tlvs: bytes, reason: str) -> None:
    """A header whose parts do not add up to its length is refused as a whole."""
    assert reason in refusal(binary(tlvs=tlvs))


def test_two_checksums_are_refused() -> None:
    """Two checksums are refused, even if the first is right."""
    assert "two TLVs of type 0x03" in refusal(binary(tlvs=tlv(CRC32C, bytes(4)), checksum=True))


def test_no_bit_changes_under_a_checksum() -> None:
    """With a checksum, a header with any bit changed, also in the checksum, is not believed."""
    data = binary(tlvs=tlv(UNIQUE_ID, b"1F90:2A"), checksum=True)
    kind = 16 + len(ADDRESSES)  # with a bit of it changed, the TLV is no checksum
    for bit in (*range(8 * kind), *range(8 * kind + 8, 8 * len(data))):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        outcome = read(bytes(changed) + BANNER, "any", repeat(MAX_HEADER_BYTES))
        # LOCAL and UNSPEC are one bit away from a TCP connection; they give no address, and their TLVs are not read.
        assert outcome.header in {None, Header(2, local=True), Header(2)}


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720 section B.4, and the usual check value.
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_the_checksum_is_everybodys(data: bytes, checksum: int) -> None:
    """The reader, and the headers that tests send, use CRC32C as in iSCSI and SCTP."""
    assert proxy_protocol.crc32c(data) == proxy_headers.crc32c(data) == checksum


# -- both versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "data", "reason"),
    [
        ("v1", binary(), "a PROXY header of version 2, and only v1 is accepted"),
        ("v2", line(), "a PROXY header of version 1, and only v2 is accepted"),
        *((accepted, BANNER, "an SSH client without a PROXY header") for accepted in ("v1", "v2", "any")),
        ("any", b"GET / HTTP/1.1\r\n\r\n", 'no PROXY header, but "GET / HTTP/1.1'),
        ("any", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x1b[2J", r'no PROXY header, but "\x16\x03\x01'),
        ("any", b"\r\n\r\n\0\r\nQUIP\n", "no PROXY header"),
        ("any", b"PROXZ", "no PROXY header"),
        ("any", b"NOTPROX TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "no PROXY header"),
        ("v1", b"\r\n\r\n", "no PROXY header"),
        ("v2", b"PROX", "no PROXY header"),
    ],
)
def test_what_is_not_the_header_that_was_agreed_on_is_refused(accepted: Accepted, data: bytes, reason: str) -> None:
    """Presence and version of the header are configured, not guessed, and the reason says which end is wrong."""
    assert reason in refusal(data, accepted)
    assert refusal(data[:1] if data[:1] not in b"P\r" else data, accepted)


@pytest.mark.parametrize("accepted", ["v1", "v2", "any"])
def test_a_peer_that_says_nothing_is_told_from_one_that_breaks_off(accepted: Accepted) -> None:
    """A peer that sends nothing, such as a probe, is told apart from half a header, which is worth a log line."""
    with pytest.raises(NothingSaid):
        Reader(accepted).feed(b"")
    header = line() if accepted == "v1" else binary()
    for cut in range(1, len(header)):
        reader = Reader(accepted)
        for byte in header[:cut]:
            assert reader.feed(bytes([byte])) is None
        with pytest.raises(ProxyError, match="closed in the middle") as raised:
            reader.feed(b"")
        assert not isinstance(raised.value, NothingSaid)


def test_more_than_was_wanted_is_a_mistake_of_the_callers() -> None:
    """Bytes beyond `wanted` are an error of the caller's, as they may be the client's and would be lost."""
    for header in (line(), binary()):
        with pytest.raises(ValueError, match="may be the client's"):
            Reader("any").feed(header)
    reader = Reader("v1")
    assert reader.feed(b"PROXY UNKNOWN\r\n") == Header(1)
    with pytest.raises(ValueError, match="1 bytes were read where 0 were wanted"):
        reader.feed(b"S")


# -- trusted proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("::ffff:172.19.0.2", True),
        ("172.32.0.1", False),
        ("10.0.0.7", True),
        ("10.0.0.8", False),
        ("fdaa:0:1::3", True),
        ("fdab::1", False),
        ("fe80::1%eth0", True),
        ("", False),
        ("/run/proxy.sock", False),
        ("not an address", False),
    ],
)
def test_only_a_proxy_that_is_listed_is_believed(peer: str, trusted: bool) -> None:
    """Only a listed proxy is trusted, since any other peer could claim any address."""
    assert is_trusted(peer, ("172.16.0.0/12", "10.0.0.7", "fdaa::/16", "fe80::/10")) is trusted


@pytest.mark.parametrize(
    "networks", [(), ("172.16.0.1/12",), ("",), ("172.16.0.0/12", "10.0.0.0/33"), ("proxy.example",)]
)
def test_nobody_is_believed_without_a_list_that_makes_sense(networks: tuple[str, ...]) -> None:
    """An empty or a faulty list trusts nobody."""
    assert not is_trusted("172.16.0.1", networks)
