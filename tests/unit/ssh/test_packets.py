"""Packets in a stream: the same messages however it is split, for every cipher and MAC."""

import struct
from collections.abc import Iterable

import asyncssh
import pytest
from asyncssh.encryption import Encryption, get_encryption, get_encryption_params
from asyncssh.packet import SSHPacket
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ssh.ciphers import taking_over
from pyssh_gateway.ssh.options import CIPHERS, MACS
from pyssh_gateway.ssh.packets import BUFFER_BYTES, MAX_PACKET_BYTES, Message, PacketReader

SUITES = [
    *((cipher, "") for cipher in CIPHERS if "ctr" not in cipher),
    *((cipher, mac) for cipher in CIPHERS if "ctr" in cipher for mac in MACS),
]
"""Every cipher that is offered, with every MAC where it needs one."""

ROLLOVER = 0xFFFFFFFF

payloads = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8)
cuts = st.lists(st.integers(1, 200), max_size=30)


class Keys:
    """Both ends of one direction with the same keys."""

    def __init__(self, cipher: str, mac: str) -> None:
        key_bytes, iv_bytes, block, mac_key_bytes, self.mac_bytes, etm = get_encryption_params(
            cipher.encode(), mac.encode()
        )
        self.block = max(8, block)
        self.padded_header = 1 if etm else 5
        arguments = (cipher.encode(), bytes(range(key_bytes)), bytes(iv_bytes), mac.encode(), bytes(mac_key_bytes), etm)
        self.sender = get_encryption(*arguments)
        receiver: Encryption = get_encryption(*arguments)
        self.receiver = taking_over(receiver, cipher, mac)

    def seal(self, sequence: int, payload: bytes) -> bytes:
        """A complete packet."""
        padding = -(self.padded_header + len(payload)) % self.block
        padding += self.block if padding < 4 else 0
        return self.seal_body(sequence, bytes([padding]) + payload + bytes(padding))

    def seal_body(self, sequence: int, body: bytes, length: int | None = None) -> bytes:
        """A complete packet with any body, which may claim another length."""
        header = struct.pack(">I", len(body) if length is None else length)
        return b"".join(self.sender.encrypt_packet(sequence, header, body))

    def reader(self) -> PacketReader:
        """A reader with these keys."""
        made = PacketReader()
        made.use(self.receiver, self.block, self.mac_bytes)
        return made


def plain(payload: bytes) -> bytes:
    """A packet without keys."""
    padding = -(5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def feed(reader: PacketReader, data: bytes, limit: int = 1 << 18) -> None:
    """Give data to the reader like a socket."""
    while data:
        room = reader.room(limit)
        part = data[: len(room)]
        room[: len(part)] = part
        reader.received(len(part))
        data = data[len(part) :]


def take(reader: PacketReader, sequence: int = 0, most: int = 1 << 30) -> list[bytes]:
    """The payloads of the packets that are complete."""
    taken: list[bytes] = []
    while len(taken) < most and (message := reader.next(sequence + len(taken) & ROLLOVER)) is not None:
        taken.append(message.get_full_payload())
    reader.rest()
    return taken


def pieces(stream: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The stream cut into pieces of these sizes, and the rest."""
    cut, start = [], 0
    for size in sizes:
        cut.append(stream[start : start + size])
        start += size
    return [piece for piece in (*cut, stream[start:]) if piece]


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
@given(said=payloads, sizes=cuts, first=st.sampled_from([0, 7, ROLLOVER - 2]))
def test_any_split_gives_the_same_messages(
    cipher: str, mac: str, said: list[bytes], sizes: list[int], first: int
) -> None:
    """No split of the stream loses, doubles or alters a message, also when sequence numbers wrap."""
    keys = Keys(cipher, mac)
    stream = b"".join(keys.seal(first + number & ROLLOVER, payload) for number, payload in enumerate(said))
    reader = keys.reader()
    heard: list[bytes] = []
    for piece in pieces(stream, sizes):
        feed(reader, piece)
        heard += take(reader, first + len(heard))
    assert heard == said
    assert reader.waiting_bytes == 0


@given(said=payloads, sizes=cuts, most=st.integers(1, 3))
def test_a_budget_changes_no_message(said: list[bytes], sizes: list[int], most: int) -> None:
    """Packets left for a later turn are not lost, also when more arrive in between."""
    reader = PacketReader()
    heard: list[bytes] = []
    for piece in pieces(b"".join(map(plain, said)), sizes):
        feed(reader, piece)
        heard += take(reader, most=most)
    while more := take(reader, most=most):
        heard += more
    assert heard == said


@given(line=st.binary(max_size=300), said=payloads, sizes=cuts)
def test_an_identification_line_goes_before(line: bytes, said: list[bytes], sizes: list[int]) -> None:
    """Bytes before the packets can be looked at and skipped, and the packets after them are complete."""
    reader = PacketReader()
    for piece in pieces(line + b"".join(map(plain, said)), sizes):
        feed(reader, piece)
    assert reader.peek(len(line)) == line
    assert reader.peek(8192).startswith(line)
    reader.skip(len(line))
    assert take(reader) == said


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
def test_new_keys_count_from_the_next_packet(cipher: str, mac: str) -> None:
    """Data already read, after NEWKEYS, is decrypted with the new keys."""
    keys = Keys(cipher, mac)
    reader = PacketReader()
    feed(reader, plain(b"\x15") + keys.seal(1, b"after"))
    assert take(reader, most=1) == [b"\x15"]
    reader.use(keys.receiver, keys.block, keys.mac_bytes)
    assert take(reader, 1) == [b"after"]


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
@pytest.mark.parametrize("size", [1, 32768, MAX_PACKET_BYTES - 40])
def test_the_longest_packet_comes_in_small_pieces(cipher: str, mac: str, size: int) -> None:
    """A packet of up to 256 KiB arrives whole, in small reads, with another one after it."""
    keys = Keys(cipher, mac)
    long = bytes([94]) + bytes(size)
    reader = keys.reader()
    feed(reader, keys.seal(0, long) + keys.seal(1, b"next"), 1000)
    assert take(reader) == [long, b"next"]


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
@pytest.mark.parametrize("place", [4, 5, 17, -1])
def test_what_was_altered_is_not_opened(cipher: str, mac: str, place: int) -> None:
    """A wrong bit in body or tag is an error, and the packet gives no message."""
    keys = Keys(cipher, mac)
    sealed = bytearray(keys.seal(0, b"a payload of some bytes"))
    sealed[place] ^= 1
    reader = keys.reader()
    feed(reader, bytes(sealed))
    with pytest.raises(asyncssh.MACError):
        reader.next(0)


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
@pytest.mark.parametrize("length", [0, 1, 4, 0x7FFFFFFF, 0xFFFFFFFF])
def test_no_packet_has_this_length(cipher: str, mac: str, length: int) -> None:
    """RFC 4253 section 6 and packet.c allow 5 bytes to 256 KiB; any other length ends the connection at once."""
    keys = Keys(cipher, mac)
    reader = keys.reader()
    feed(reader, keys.seal_body(0, bytes(64), length))
    with pytest.raises(asyncssh.ProtocolError):
        reader.next(0)


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
def test_a_packet_is_whole_blocks(cipher: str, mac: str) -> None:
    """packet.c, "padding error": a length that is no multiple of the cipher's block is refused before decryption."""
    keys = Keys(cipher, mac)
    reader = keys.reader()
    feed(reader, keys.seal_body(0, bytes(64), 47))
    with pytest.raises(asyncssh.ProtocolError, match="length"):
        reader.next(0)


@pytest.mark.parametrize("length", [0, 4, 7, 13, MAX_PACKET_BYTES + 1, 0xFFFFFFFF])
def test_lengths_before_there_are_keys(length: int) -> None:
    """The same limits hold before there are keys."""
    reader = PacketReader()
    feed(reader, struct.pack(">I", length) + bytes(60))
    with pytest.raises(asyncssh.ProtocolError):
        reader.next(0)


@pytest.mark.parametrize("padding", [0, 3, 11, 12, 255])
def test_padding_leaves_a_message(padding: int) -> None:
    """A packet needs at least four bytes of padding, and a message number beside it."""
    reader = PacketReader()
    feed(reader, struct.pack(">IB", 12, padding) + bytes(11))
    with pytest.raises(asyncssh.ProtocolError, match="padding"):
        reader.next(0)


@pytest.mark.parametrize("look", ["get_full_payload", "get_consumed_payload", "get_remaining_payload", "__bool__"])
def test_a_message_reads_as_the_packet_that_asyncssh_makes(look: str) -> None:
    """Handlers get the same values as from asyncssh's packets, although the padding is still in the buffer."""
    payload = b"\x5a" + struct.pack(">I", 3) + b"abc" + struct.pack(">I", 7)
    ours, theirs = Message(b"\4" + payload + bytes(4)), SSHPacket(payload)
    assert ours.number == theirs.get_byte() == 0x5A
    for step in ("get_string", "get_uint32"):
        assert getattr(ours, look)() == getattr(theirs, look)()
        assert getattr(ours, step)() == getattr(theirs, step)()
    assert getattr(ours, look)() == getattr(theirs, look)()
    ours.check_end()
    with pytest.raises(asyncssh.packet.PacketDecodeError):
        ours.get_byte()


class Counting(PacketReader):
    """Counts the bytes that are copied within its buffers."""

    moved = 0

    def _move(self, target: bytearray) -> None:
        self.moved += self.waiting_bytes
        super()._move(target)


@pytest.mark.parametrize("limit", [16 * 1024, 256 * 1024])
def test_tiny_packets_are_not_copied_again_and_again(limit: int) -> None:
    """A flood's cost is proportional to its bytes: waiting data is moved at most once for each read."""
    reader = Counting()
    stream = plain(b"\2" + bytes(4)) * 40_000
    taken = 0
    for start in range(0, len(stream), limit - 7):
        feed(reader, stream[start : start + limit - 7], limit)
        while some := len(take(reader, most=64)):
            taken += some
    assert taken == 40_000
    assert reader.moved < len(stream)


def test_a_long_packet_in_tiny_pieces_is_not_copied_again_and_again() -> None:
    """The same for the longest packets, in pieces of a hundred bytes."""
    reader = Counting()
    stream = plain(bytes(MAX_PACKET_BYTES - 20)) * 3
    for piece in pieces(stream, [100] * (len(stream) // 100)):
        feed(reader, piece)
        take(reader)
    assert reader.waiting_bytes == 0
    assert reader.moved < len(stream)


def test_an_idle_connection_holds_no_buffer() -> None:
    """A buffer is returned when all its data has been taken, so that idle connections hold none."""
    reader = PacketReader()
    feed(reader, plain(b"one") + plain(b"two")[:3])
    assert take(reader) == [b"one"]
    assert reader.waiting_bytes == 3
    feed(reader, plain(b"two")[3:])
    assert take(reader) == [b"two"]
    assert len(reader._data) == 0  # noqa: SLF001 - the property itself


def test_a_stranger_gets_a_small_buffer() -> None:
    """Before authentication reads are of 16 KiB, and do not take a full-sized buffer for each connection."""
    reader = PacketReader()
    feed(reader, plain(b"x")[:5], 16 * 1024)
    assert len(reader._data) < BUFFER_BYTES / 10  # noqa: SLF001 - the property itself


def test_buffers_are_shared_and_never_mixed() -> None:
    """A returned buffer serves another connection, which sees nothing of the earlier data."""
    for _ in range(5):
        readers = [PacketReader() for _ in range(4)]
        for number, reader in enumerate(readers):
            feed(reader, plain(b"%d" % number * 2000)[:-1])
        for number, reader in enumerate(readers):
            feed(reader, b"\0")
            assert take(reader) == [b"%d" % number * 2000]


def test_room_is_never_empty() -> None:
    """There is always room for a read, as asyncio ends a connection that returns an empty buffer."""
    reader = PacketReader()
    for _ in range(40):
        feed(reader, bytes(len(reader.room(1 << 18))))
    reader.clear()
    assert reader.waiting_bytes == 0
