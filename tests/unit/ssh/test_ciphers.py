"""Our AES-GCM against asyncssh's: the same bytes on the wire, and no nonce twice."""

import pytest
from asyncssh.encryption import GCMEncryption, get_encryption
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ssh.ciphers import TAG_BYTES, GcmCipher

ALGORITHMS = {b"aes128-gcm@openssh.com": 16, b"aes256-gcm@openssh.com": 32}
BLOCK = 16

keys = st.sampled_from(sorted(ALGORITHMS)).flatmap(
    lambda name: st.tuples(st.just(name), st.binary(min_size=ALGORITHMS[name], max_size=ALGORITHMS[name]))
)
nonces = st.one_of(
    st.binary(min_size=12, max_size=12), st.integers(0, 3).map(lambda n: bytes(4) + (2**64 - 1 - n).to_bytes(8))
)
messages = st.lists(
    st.tuples(st.integers(1, 255), st.lists(st.binary(max_size=70), max_size=3)), min_size=1, max_size=12
)


def pair(algorithm: bytes, key: bytes, iv: bytes) -> tuple[GcmCipher, GCMEncryption]:
    """Ours and asyncssh's, both at the same place."""
    theirs, other = (get_encryption(algorithm, key, iv) for _ in range(2))
    assert isinstance(theirs, GCMEncryption)
    assert isinstance(other, GCMEncryption)
    return GcmCipher.taking_over(other), theirs


def payload_of(decrypted: bytes | None) -> bytes:
    """The payload of a packet after its length field."""
    assert decrypted is not None
    return decrypted[1 : len(decrypted) - decrypted[0]]


@given(keys, nonces, messages)
def test_what_we_seal_asyncssh_opens(key: tuple[bytes, bytes], iv: bytes, said: list[tuple[int, list[bytes]]]) -> None:
    """Packet after packet, of any size, also where the invocation counter wraps; the form is RFC 5647's."""
    ours, theirs = pair(*key, iv)
    for number, (kind, parts) in enumerate(said):
        packet = bytes(ours.seal(kind, tuple(parts)))
        length = int.from_bytes(packet[:4], "big")
        assert len(packet) == 4 + length + TAG_BYTES
        assert length % BLOCK == 0
        assert 4 <= packet_padding(theirs, number, packet) < 4 + BLOCK * 2
        assert payload_of(decrypt(theirs, number, packet)) == bytes([kind]) + b"".join(parts)


def decrypt(cipher: GCMEncryption, number: int, packet: bytes) -> bytes | None:
    """As the connection does it: the first block, the rest, the tag."""
    first, _ = cipher.decrypt_header(number, packet[:BLOCK], 4)
    return cipher.decrypt_packet(number, first, packet[BLOCK:-TAG_BYTES], 4, packet[-TAG_BYTES:])


def packet_padding(cipher: GCMEncryption, number: int, packet: bytes) -> int:
    """The padding's length, looked at with a copy so that the cipher itself does not go on."""
    inner = cipher._cipher  # noqa: SLF001 - asyncssh has no other way to copy one
    copy = GcmCipher(inner._key, inner._iv)  # noqa: SLF001 - the same
    opened = decrypt(copy, number, packet)
    assert opened is not None
    return opened[0]


@given(keys, nonces, messages)
def test_what_asyncssh_seals_we_open(key: tuple[bytes, bytes], iv: bytes, said: list[tuple[int, list[bytes]]]) -> None:
    """The receiving direction, with asyncssh's own packets; and ours through asyncssh's sending interface."""
    ours, theirs = pair(*key, iv)
    again, _ = pair(*key, iv)
    for number, (kind, parts) in enumerate(said):
        payload = bytes([kind]) + b"".join(parts)
        padding = -(1 + len(payload)) % BLOCK + BLOCK
        body = bytes([padding]) + payload + bytes(padding)
        header = len(body).to_bytes(4, "big")
        sealed, tag = theirs.encrypt_packet(number, header, body)
        assert again.encrypt_packet(number, header, body) == (sealed, tag)
        assert payload_of(decrypt(ours, number, sealed + tag)) == payload


@given(st.binary(min_size=1, max_size=100), st.integers(0), st.integers(0, 7))
def test_one_wrong_bit_and_nothing_is_opened(payload: bytes, position: int, bit: int) -> None:
    """Length, data and tag are all under the tag."""
    sender, receiver = (GcmCipher(bytes(16), bytes(12)) for _ in range(2))
    packet = sender.seal(94, (payload,))
    packet[position % len(packet)] ^= 1 << bit
    assert decrypt(receiver, 0, bytes(packet)) is None


def test_no_nonce_is_used_twice() -> None:
    """The invocation counter goes up by one for each packet (RFC 5647 section 7.1): equal packets never look equal."""
    cipher = GcmCipher(bytes(16), bytes(12))
    nonces = {cipher._next_nonce() for _ in range(1000)}  # noqa: SLF001 - the property itself
    assert len(nonces) == 1000
    assert len({bytes(cipher.seal(2, (b"same",)))[-TAG_BYTES:] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 26, 27, 32768, 262144])
def test_sizes_around_a_block(size: int) -> None:
    """Padding is at least 4 bytes and never a block more than needed (RFC 4253 section 6)."""
    sender, receiver = (GcmCipher(bytes(32), bytes(12)) for _ in range(2))
    packet = bytes(sender.seal(94, (bytes(size),)))
    opened = decrypt(receiver, 0, packet)
    assert opened is not None
    assert 4 <= opened[0] < 4 + BLOCK
    assert payload_of(opened) == b"\x5e" + bytes(size)
