"""Our ciphers compared with asyncssh's: equal bytes in both directions, and a state that another object continues."""

from typing import NamedTuple

import pytest
from asyncssh.encryption import Encryption, get_encryption, get_encryption_params
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ipc.handover import CipherState
from pyssh_gateway.ssh.ciphers import GcmCipher, PacketCipher, from_state, taking_over

GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CHACHA = "chacha20-poly1305@openssh.com"
CTR = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
PAIRS = [*((name, "") for name in (*GCM, CHACHA)), *((cipher, mac) for cipher in CTR for mac in MACS)]

LENGTH_BYTES = 4


class Direction(NamedTuple):
    """The parameters that a key exchange has negotiated for one direction."""

    cipher: str
    mac: str
    key: bytes
    iv: bytes
    mac_key: bytes

    @property
    def block(self) -> int:
        """The multiple that packets are padded to (RFC 4253 section 6)."""
        return max(8, get_encryption_params(self.cipher.encode(), self.mac.encode())[2])

    @property
    def mac_bytes(self) -> int:
        """The tag's or MAC's length."""
        return get_encryption_params(self.cipher.encode(), self.mac.encode())[4]

    @property
    def etm(self) -> bool:
        """Whether the length field is not counted for the padding."""
        return get_encryption_params(self.cipher.encode(), self.mac.encode())[5]

    def theirs(self) -> Encryption:
        """asyncssh's object, at the start."""
        return get_encryption(
            self.cipher.encode(), self.key, self.iv, self.mac.encode(), self.mac_key, self.etm if self.mac else False
        )

    def ours(self) -> PacketCipher:
        """Our object, made from asyncssh's like in a connection."""
        return taking_over(self.theirs(), self.cipher, self.mac)


@st.composite
def directions(draw: st.DrawFn, pairs: list[tuple[str, str]] = PAIRS) -> Direction:
    """Any negotiated direction; AES counters are often just before their wrap."""
    cipher, mac = draw(st.sampled_from(pairs))
    key_bytes, iv_bytes, _, mac_key_bytes, _, _ = get_encryption_params(cipher.encode(), mac.encode())

    def fixed(size: int) -> bytes:
        return draw(st.binary(min_size=size, max_size=size))

    iv = fixed(iv_bytes)
    if iv_bytes and draw(st.booleans()):
        kept = 4 if cipher in GCM else 0
        iv = iv[:kept] + ((1 << 8 * (iv_bytes - kept)) - draw(st.integers(1, 5))).to_bytes(iv_bytes - kept, "big")
    return Direction(cipher, mac, fixed(key_bytes), iv, fixed(mac_key_bytes))


messages = st.lists(
    st.tuples(st.integers(1, 255), st.lists(st.binary(max_size=70), max_size=3)), min_size=1, max_size=10
)
sequences = st.one_of(st.integers(0, 10), st.integers(2**32 - 20, 2**32 - 11))


def opened(cipher: Encryption, direction: Direction, sequence: int, packet: bytes) -> bytes | None:
    """The packet after its length field, opened like in a connection: first block, rest, tag."""
    block, tag = direction.block, direction.mac_bytes
    first, header = cipher.decrypt_header(sequence, packet[:block], LENGTH_BYTES)
    if int.from_bytes(header, "big") != len(packet) - LENGTH_BYTES - tag:
        return None
    return cipher.decrypt_packet(sequence, first, packet[block:-tag], LENGTH_BYTES, packet[-tag:])


def payload(packet: bytes | None) -> bytes:
    """The payload of an opened packet."""
    assert packet is not None
    return packet[1 : len(packet) - packet[0]]


def framed(direction: Direction, message: bytes) -> tuple[bytes, bytes]:
    """Length field and packet in clear, as asyncssh's sender makes them."""
    counted = 0 if direction.etm else LENGTH_BYTES
    padding = -(counted + 1 + len(message)) % direction.block
    padding += direction.block if padding < LENGTH_BYTES else 0
    body = bytes([padding]) + message + bytes(padding)
    return len(body).to_bytes(4, "big"), body


@given(directions(), messages, sequences)
def test_what_we_seal_asyncssh_opens(direction: Direction, said: list[tuple[int, list[bytes]]], first: int) -> None:
    """asyncssh opens packets of any size, also across a counter's wrap, padded as in RFC 4253 section 6."""
    ours, theirs = direction.ours(), direction.theirs()
    for sequence, (kind, parts) in enumerate(said, first):
        packet = bytes(ours.seal(sequence, kind, tuple(parts)))
        counted = len(packet) - direction.mac_bytes - (LENGTH_BYTES if direction.etm else 0)
        assert counted % direction.block == 0
        clear = opened(theirs, direction, sequence, packet)
        assert payload(clear) == bytes([kind]) + b"".join(parts)
        assert clear is not None
        assert 4 <= clear[0] < 4 + direction.block


@given(directions(), messages, sequences)
def test_what_asyncssh_seals_we_open(direction: Direction, said: list[tuple[int, list[bytes]]], first: int) -> None:
    """We open asyncssh's packets, and seal to the same bytes through asyncssh's own interface."""
    ours, theirs, again = direction.ours(), direction.theirs(), direction.ours()
    for sequence, (kind, parts) in enumerate(said, first):
        message = bytes([kind]) + b"".join(parts)
        header, body = framed(direction, message)
        sealed, tag = theirs.encrypt_packet(sequence, header, body)
        assert again.encrypt_packet(sequence, header, body) == (sealed, tag)
        assert payload(opened(ours, direction, sequence, sealed + tag)) == message


@given(directions(), messages, sequences, st.data())
def test_another_goes_on_where_one_has_stopped(
    direction: Direction, said: list[tuple[int, list[bytes]]], first: int, data: st.DataObject
) -> None:
    """Before any packet, both objects may be replaced by ones made from their state, without a difference."""
    sender, receiver = direction.ours(), direction.ours()
    for sequence, (kind, parts) in enumerate(said, first):
        if data.draw(st.booleans()):
            sender = from_state(sender.state())
        if data.draw(st.booleans()):
            receiver = from_state(receiver.state())
        packet = bytes(sender.seal(sequence, kind, tuple(parts)))
        if data.draw(st.booleans()):  # the beginning of a packet has arrived, and is handed over as it arrived
            receiver.decrypt_header(sequence, packet[: direction.block], LENGTH_BYTES)
            receiver = from_state(receiver.state())
        assert payload(opened(receiver, direction, sequence, packet)) == bytes([kind]) + b"".join(parts)


@given(directions(), st.binary(min_size=1, max_size=100), st.integers(0), st.integers(0, 7))
def test_one_wrong_bit_and_nothing_is_opened(direction: Direction, message: bytes, position: int, bit: int) -> None:
    """Length, data, padding and tag are authenticated."""
    packet = direction.ours().seal(0, 94, (message,))
    packet[position % len(packet)] ^= 1 << bit
    assert opened(direction.ours(), direction, 0, bytes(packet)) is None


@given(directions(), st.binary(max_size=50), st.integers(1, 2**31))
def test_a_packet_has_its_number(direction: Direction, message: bytes, other: int) -> None:
    """A packet is only opened with its own number, or, with AES-GCM, in its own position (replays, lost packets)."""
    packet = bytes(direction.ours().seal(7, 94, (message,)))
    receiver = direction.ours()
    if direction.cipher in GCM:
        opened(receiver, direction, 0, bytes(direction.ours().seal(0, 2, ())))
        other = 0
    assert opened(receiver, direction, 7 + other, packet) is None


@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 11, 12, 26, 27, 32768, 262144])
@pytest.mark.parametrize(("cipher", "mac"), PAIRS)
def test_sizes_around_a_block(cipher: str, mac: str, size: int) -> None:
    """Padding is at least 4 bytes and never a block more than needed (RFC 4253 section 6)."""
    key_bytes, iv_bytes, _, mac_key_bytes, _, _ = get_encryption_params(cipher.encode(), mac.encode())
    direction = Direction(cipher, mac, bytes(key_bytes), bytes(iv_bytes), bytes(mac_key_bytes))
    clear = opened(direction.ours(), direction, 3, bytes(direction.ours().seal(3, 94, (bytes(size),))))
    assert clear is not None
    assert 4 <= clear[0] < 4 + direction.block
    assert payload(clear) == b"\x5e" + bytes(size)


def test_no_nonce_is_used_twice() -> None:
    """AES-GCM's invocation counter is incremented for each packet (RFC 5647 section 7.1), and so in a copy."""
    cipher = GcmCipher(CipherState(GCM[0], bytes(16), bytes(12)))
    seen = set()
    for _ in range(1000):
        seen.add(cipher.state().position)
        cipher.seal(0, 2, (b"same",))
    assert len(seen) == 1000


@given(directions([(cipher, mac) for cipher in CTR for mac in MACS]), st.integers(1, 300))
def test_a_counter_is_where_its_packets_have_led(direction: Direction, size: int) -> None:
    """AES-CTR's position counts blocks without the MAC; no part of the key stream is used twice."""
    cipher = direction.ours()
    packet = cipher.seal(0, 94, (bytes(size),))
    sealed = len(packet) - direction.mac_bytes - (LENGTH_BYTES if direction.etm else 0)
    expected = (int.from_bytes(direction.iv, "big") + sealed // 16) % (1 << 128)
    assert int.from_bytes(cipher.state().position, "big") == expected


@pytest.mark.parametrize(
    "state",
    [
        CipherState("aes128-gcm@openssh.com", bytes(15), bytes(12)),
        CipherState("aes128-gcm@openssh.com", bytes(16), bytes(16)),
        CipherState("aes256-gcm@openssh.com", bytes(16), bytes(12)),
        CipherState("chacha20-poly1305@openssh.com", bytes(32)),
        CipherState("chacha20-poly1305@openssh.com", bytes(64), bytes(1)),
        CipherState("aes128-ctr", bytes(16), bytes(12), "hmac-sha2-256", bytes(32)),
        CipherState("aes128-ctr", bytes(16), bytes(16), "hmac-md5", bytes(16)),
        CipherState("aes128-ctr", bytes(16), bytes(16)),
        CipherState("aes128-cbc", bytes(16), bytes(16), "hmac-sha2-256", bytes(32)),
        CipherState("aes128-ctr", bytes(16), bytes(16), "hmac-sha2-256", bytes(31)),
        CipherState("", b""),
    ],
)
def test_what_is_no_state_is_refused(state: CipherState) -> None:
    """A state that does not fit its algorithm is refused by the process that gets it."""
    with pytest.raises(ValueError, match="no state"):
        from_state(state)
