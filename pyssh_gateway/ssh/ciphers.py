"""The ciphers of the transport (RFC 4253 section 6), one object for each direction, with state that can be handed over.

asyncssh's ciphers make a cipher object for every packet, copy the packet several times, and do not expose their
position. Here a packet is put together once, in the buffer that it is encrypted in, and `state` returns all that
another process needs to continue the same direction: algorithm, keys and position.

A position must never be used twice: an object whose state was handed over must not be used any more.
"""

import hashlib
import hmac
import os
from abc import abstractmethod
from typing import cast

from asyncssh.encryption import BasicEncryption, ChachaEncryption, Encryption, ETMEncryption, GCMEncryption
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as Algorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.poly1305 import Poly1305

from pyssh_gateway.ipc.handover import CipherState

TAG_BYTES = 16
_NO_TAG = bytes(TAG_BYTES)
_LENGTH_BYTES = 4
_AES_BLOCK_BYTES = 16
_CHACHA_BLOCK_BYTES = 8
"""For the protocol a stream cipher's block is 8 bytes (RFC 4253 section 6; OpenSSH's cipher.c)."""

_UNENCRYPTED_BLOCK_BYTES = 8

_MIN_PADDING = 4

_DIGESTS = {"hmac-sha2-256": "sha256", "hmac-sha2-512": "sha512"}
ETM_SUFFIX = "-etm@openssh.com"
"""Encrypt-then-MAC (OpenSSH's PROTOCOL section 1.1): the length stays readable and the MAC is over what is sent."""


class PacketCipher(Encryption):
    """One direction of a connection: asyncssh's interface, a faster one for sending, and `state`."""

    length_is_apart = True
    """Whether the length field is left out when a packet is padded to whole blocks."""

    @abstractmethod
    def state(self) -> CipherState:
        """The state of this direction, at the packet that is being received or would be sent next."""

    @abstractmethod
    def seal(self, sequence: int, message_type: int, parts: tuple[bytes, ...]) -> bytearray:
        """The whole binary packet for a message: length, padding length, type, `parts`, padding, and the tag or MAC.

        `sequence` is the packet's number in its direction (RFC 4253 section 6.4).
        """


def from_state(state: CipherState) -> PacketCipher:
    """The cipher of the direction that `state` describes. Raises ValueError for an invalid state."""
    if state.cipher in _GCM_KEY_BYTES:
        return GcmCipher(state)
    if state.cipher == CHACHA:
        return ChachaCipher(state)
    return CtrCipher(state)


def taking_over(other: Encryption, cipher: str, mac: str) -> PacketCipher:
    """A cipher of ours in place of asyncssh's `other`, which must not have been used yet and must not be used any more.

    `cipher` and `mac` are the negotiated names.
    """
    # asyncssh gives no public access to its keys; a contract test covers these attributes.
    if isinstance(other, GCMEncryption):
        gcm = other._cipher  # noqa: SLF001 - see above
        return GcmCipher(CipherState(cipher, gcm._key, gcm._iv))  # noqa: SLF001 - see above
    if isinstance(other, ChachaEncryption):
        chacha = other._cipher  # noqa: SLF001 - see above
        return ChachaCipher(CipherState(cipher, chacha._key + chacha._adkey))  # noqa: SLF001 - see above
    if not isinstance(other, BasicEncryption):
        raise TypeError(f"{cipher} is not offered")
    made, mac_key = other._cipher._cipher, other._mac._key  # noqa: SLF001 - see above
    algorithm, mode = cast(AES, made.algorithm), cast(CTR, made.mode)
    if isinstance(other, ETMEncryption) != mac.endswith(ETM_SUFFIX):
        raise TypeError(f"{mac} is not what asyncssh has made")
    return CtrCipher(CipherState(cipher, bytes(algorithm.key), bytes(mode.nonce), mac, mac_key))


def _frame(length_counts: int, block: int, message_type: int, parts: tuple[bytes, ...], room: bytes = b"") -> bytearray:
    """A packet before encryption: length, padding length, type, `parts`, random padding (RFC 4253 section 6).

    `length_counts`: how many bytes of the length field count towards the multiple of `block`. `room` for a tag follows.
    """
    length = 2 + sum(map(len, parts))
    padding = -(length_counts + length) % block
    if padding < _MIN_PADDING:
        padding += block
    length += padding
    head = length.to_bytes(_LENGTH_BYTES, "big") + bytes((padding, message_type))
    return bytearray(b"".join((head, *parts, os.urandom(padding), room)))


def unencrypted(message_type: int, parts: tuple[bytes, ...]) -> bytearray:
    """A packet before the first keys are in use."""
    return _frame(_LENGTH_BYTES, _UNENCRYPTED_BLOCK_BYTES, message_type, parts)


# -- AES-GCM --------------------------------------------------------------------------------------------------------

_GCM_KEY_BYTES = {"aes128-gcm@openssh.com": 16, "aes256-gcm@openssh.com": 32}
_GCM_NONCE_BYTES = 12


class GcmCipher(PacketCipher):
    """AES-GCM (RFC 5647, OpenSSH's aes*-gcm@openssh.com)."""

    def __init__(self, state: CipherState) -> None:
        if len(state.key) != _GCM_KEY_BYTES.get(state.cipher) or len(state.position) != _GCM_NONCE_BYTES:
            raise ValueError(f"no state of {state.cipher}")
        self._name = state.cipher
        self._key = state.key
        self._aead = AESGCM(state.key)
        self._fixed = state.position[:4]
        self._counter = int.from_bytes(state.position[4:], "big")

    def state(self) -> CipherState:
        """As `PacketCipher`."""
        return CipherState(self._name, self._key, self._fixed + self._counter.to_bytes(8, "big"))

    def _next_nonce(self) -> bytes:
        """The nonce of the next packet: the fixed field and the invocation counter (RFC 5647 section 7.1)."""
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        self._counter = self._counter + 1 & 0xFFFF_FFFF_FFFF_FFFF
        return nonce

    def seal(self, sequence: int, message_type: int, parts: tuple[bytes, ...]) -> bytearray:
        """As `PacketCipher`; the nonce is a counter of its own, whatever `sequence` is."""
        packet = _frame(0, _AES_BLOCK_BYTES, message_type, parts, _NO_TAG)
        with memoryview(packet) as view:
            self._aead.encrypt_into(self._next_nonce(), view[4:-TAG_BYTES], view[:4], view[4:])
        return packet

    def open(self, packet: memoryview) -> bytes | None:
        """The decrypted part of a whole binary packet after its length field; None if the tag is wrong.

        It is decrypted into new bytes, which the message keeps. `decrypt_into` the same place is no faster and would
        need a copy afterwards.
        """
        try:
            return self._aead.decrypt(self._next_nonce(), packet[_LENGTH_BYTES:], packet[:_LENGTH_BYTES])
        except InvalidTag:
            return None

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """asyncssh's interface for sending, for completeness; our connection uses `seal`."""
        sealed = self._aead.encrypt(self._next_nonce(), packet, header)
        return header + sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """The length field, which is not encrypted."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """asyncssh's interface for receiving: the packet after its length field, None if the tag is wrong."""
        try:
            return self._aead.decrypt(self._next_nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None


# -- chacha20-poly1305 ----------------------------------------------------------------------------------------------

CHACHA = "chacha20-poly1305@openssh.com"
_CHACHA_KEY_BYTES = 64
_FIRST_BLOCK = bytes(8)
_SECOND_BLOCK = (1).to_bytes(8, "little")


class ChachaCipher(PacketCipher):
    """chacha20-poly1305@openssh.com (OpenSSH's PROTOCOL.chacha20poly1305): two keys, the nonce is the packet's number.

    The first half of the key is for the data and its tag, the second for the length.
    """

    def __init__(self, state: CipherState) -> None:
        if state.cipher != CHACHA or len(state.key) != _CHACHA_KEY_BYTES or state.position:
            raise ValueError(f"no state of {CHACHA}")
        self._data_key, self._length_key = state.key[:32], state.key[32:]

    def state(self) -> CipherState:
        """As `PacketCipher`."""
        return CipherState(CHACHA, self._data_key + self._length_key)

    def seal(self, sequence: int, message_type: int, parts: tuple[bytes, ...]) -> bytearray:
        """As `PacketCipher`."""
        packet = _frame(0, _CHACHA_BLOCK_BYTES, message_type, parts)
        return self._protect(sequence, packet)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """asyncssh's interface for sending, for completeness; our connection uses `seal`."""
        sealed = bytes(self._protect(seq, bytearray(header + packet)))
        return sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def _protect(self, sequence: int, packet: bytearray) -> bytearray:
        nonce = sequence.to_bytes(8, "big")
        packet[:_LENGTH_BYTES] = _chacha20(self._length_key, _FIRST_BLOCK + nonce, packet[:_LENGTH_BYTES])
        packet[_LENGTH_BYTES:] = _chacha20(self._data_key, _SECOND_BLOCK + nonce, packet[_LENGTH_BYTES:])
        packet += Poly1305.generate_tag(self._tag_key(nonce), packet)
        return packet

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """The packet's first block as it came, and the length field in clear."""
        nonce = _FIRST_BLOCK + seq.to_bytes(8, "big")
        return first_block, _chacha20(self._length_key, nonce, first_block[:header_len])

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """asyncssh's interface for receiving: the packet after its length field, None if the tag is wrong."""
        nonce = seq.to_bytes(8, "big")
        sealed = first + rest
        try:
            Poly1305.verify_tag(self._tag_key(nonce), sealed, mac)
        except InvalidSignature:
            return None
        return _chacha20(self._data_key, _SECOND_BLOCK + nonce, sealed[header_len:])

    def _tag_key(self, nonce: bytes) -> bytes:
        """Each packet has its own Poly1305 key: the beginning of the key stream of its data."""
        return _chacha20(self._data_key, _FIRST_BLOCK + nonce, bytes(32))


def _chacha20(key: bytes, nonce: bytes, data: bytes | bytearray) -> bytes:
    return Algorithm(ChaCha20(key, nonce), mode=None).encryptor().update(data)


# -- AES-CTR with a MAC ---------------------------------------------------------------------------------------------

_CTR_KEY_BYTES = {"aes128-ctr": 16, "aes192-ctr": 24, "aes256-ctr": 32}


class CtrCipher(PacketCipher):
    """AES-CTR (RFC 4344 section 4) with HMAC-SHA-2 (RFC 6668), encrypt-then-MAC or plain.

    Old libssh2 supports nothing else. A packet is a whole number of blocks, so between packets the position is just the
    block counter.
    """

    def __init__(self, state: CipherState) -> None:
        digest = _DIGESTS.get(state.mac.removesuffix(ETM_SUFFIX))
        if len(state.key) != _CTR_KEY_BYTES.get(state.cipher) or len(state.position) != _AES_BLOCK_BYTES:
            raise ValueError(f"no state of {state.cipher}")
        if digest is None or len(state.mac_key) != hashlib.new(digest).digest_size:
            raise ValueError(f"no state of {state.mac or 'a MAC'}")
        self._name, self._key = state.cipher, state.key
        self._mac, self._mac_key, self._digest = state.mac, state.mac_key, digest
        self._etm = self.length_is_apart = state.mac.endswith(ETM_SUFFIX)
        self._start = int.from_bytes(state.position, "big")
        self._stream = Algorithm(AES(state.key), CTR(state.position)).encryptor()
        self._blocks = 0
        self._packet_at = 0

    def state(self) -> CipherState:
        """As `PacketCipher`. A packet that has only been received in part counts as not begun."""
        position = (self._start + self._packet_at) % (1 << 8 * _AES_BLOCK_BYTES)
        return CipherState(self._name, self._key, position.to_bytes(_AES_BLOCK_BYTES, "big"), self._mac, self._mac_key)

    def _apply(self, data: bytes | bytearray) -> bytes:
        """Encrypt or decrypt whole blocks, which is the same operation in counter mode."""
        self._blocks += len(data) // _AES_BLOCK_BYTES
        return self._stream.update(data)

    def _sign(self, sequence: int, data: bytes | bytearray) -> bytes:
        return hmac.digest(self._mac_key, sequence.to_bytes(4, "big") + data, self._digest)

    def seal(self, sequence: int, message_type: int, parts: tuple[bytes, ...]) -> bytearray:
        """As `PacketCipher`."""
        packet = _frame(0 if self._etm else _LENGTH_BYTES, _AES_BLOCK_BYTES, message_type, parts)
        return self._protect(sequence, packet)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """asyncssh's interface for sending, for completeness; our connection uses `seal`."""
        size = len(header) + len(packet)
        sealed = bytes(self._protect(seq, bytearray(header + packet)))
        return sealed[:size], sealed[size:]

    def _protect(self, sequence: int, packet: bytearray) -> bytearray:
        if self._etm:
            packet[_LENGTH_BYTES:] = self._apply(packet[_LENGTH_BYTES:])
            packet += self._sign(sequence, packet)
        else:
            mac = self._sign(sequence, packet)
            packet[:] = self._apply(packet)
            packet += mac
        self._packet_at = self._blocks
        return packet

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """The packet's first block, decrypted if the length is encrypted, and the length field."""
        if not self._etm:
            first_block = self._apply(first_block)
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """asyncssh's interface for receiving: the packet after its length field, None if the MAC is wrong."""
        if self._etm:
            sealed = first + rest
            if not hmac.compare_digest(self._sign(seq, sealed), mac):
                return None
            packet = self._apply(sealed[header_len:])
        else:
            clear = first + self._apply(rest)
            if not hmac.compare_digest(self._sign(seq, clear), mac):
                return None
            packet = clear[header_len:]
        self._packet_at = self._blocks
        return packet
