"""AES-GCM for SSH packets (RFC 5647, OpenSSH's aes*-gcm@openssh.com), one cipher object for each direction.

asyncssh's builds a cipher object for every packet and copies the packet five times. Here a packet is put together once,
in the buffer that it is encrypted in.
"""

import os

from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG_BYTES = 16
_BLOCK_BYTES = 16
_MIN_PADDING = 4
_NO_TAG = bytes(TAG_BYTES)
"""Where the tag will be."""


class GcmCipher(GCMEncryption):
    """One direction of a connection. Takes the place of asyncssh's object after a key exchange."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = iv[:4]
        self._counter = int.from_bytes(iv[4:], "big")

    @classmethod
    def taking_over(cls, other: GCMEncryption) -> "GcmCipher":
        """The same state as `other`, which must not be used any more: a nonce may never be used twice."""
        cipher = other._cipher  # noqa: SLF001 - asyncssh has no public way to the key; held by a contract test
        return cls(cipher._key, cipher._iv)  # noqa: SLF001 - the same

    def _next_nonce(self) -> bytes:
        """The nonce of the next packet: the fixed field and the invocation counter (RFC 5647 section 7.1)."""
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        self._counter = self._counter + 1 & 0xFFFF_FFFF_FFFF_FFFF
        return nonce

    def seal(self, message_type: int, parts: tuple[bytes, ...]) -> bytearray:
        """The whole binary packet for a message: length, padding length, type, `parts`, padding, tag."""
        length = 2 + sum(map(len, parts))
        padding = -length % _BLOCK_BYTES
        if padding < _MIN_PADDING:
            padding += _BLOCK_BYTES
        length += padding
        head = length.to_bytes(4, "big") + bytes((padding, message_type))
        packet = bytearray(b"".join((head, *parts, os.urandom(padding), _NO_TAG)))
        with memoryview(packet) as view:
            self._aead.encrypt_into(self._next_nonce(), view[4:-TAG_BYTES], view[:4], view[4:])
        return packet

    def open(self, packet: memoryview) -> bytes | None:
        """What follows the length field of a whole binary packet, decrypted; None if the tag is wrong.

        Into new bytes, which the message keeps: as fast as `decrypt_into` the same place, and then a copy is due.
        """
        try:
            return self._aead.decrypt(self._next_nonce(), packet[4:], packet[:4])
        except InvalidTag:
            return None

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """asyncssh's interface for sending, for completeness; our connection uses `seal`."""
        sealed = self._aead.encrypt(self._next_nonce(), packet, header)
        return header + sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """asyncssh's interface for receiving: the packet after its length field, None if the tag is wrong."""
        try:
            return self._aead.decrypt(self._next_nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None
