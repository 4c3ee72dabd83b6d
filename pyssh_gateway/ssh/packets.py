"""Packets from a stream of bytes (RFC 4253 section 6): one buffer, read by offsets, and each packet copied out once.

The socket is read straight into the buffer. A packet is decrypted from it into the `bytes` that its message keeps,
without a copy before. Decrypting in place would cost one copy more, since messages outlive the buffer.

Sans-io: it knows neither the socket nor what messages mean. Its errors are asyncssh's, which carry the disconnect code.
"""

import asyncssh
from asyncssh.packet import SSHPacket

from pyssh_gateway.ssh.ciphers import GcmCipher, PacketCipher

MAX_PACKET_BYTES = 256 * 1024
"""The longest packet, after its length field: PACKET_MAX_SIZE of OpenSSH's packet.c."""

MIN_PACKET_BYTES = 5
"""The shortest packet, as in packet.c: the padding length and four bytes of padding (section 6)."""

MIN_PADDING_BYTES = 4

BUFFER_BYTES = MAX_PACKET_BYTES + 64 * 1024
"""A full-sized buffer: the longest packet fits, with room left for a read of a useful size."""

SMALL_BUFFER_BYTES = 16 * 1024
"""A buffer for a peer that sends little: the size of a read before authentication."""

MIN_ROOM_BYTES = 4 * 1024
"""With less room than this, bytes are moved or the buffer is replaced: a smaller read is not worth its system call."""

SPARE_BUFFERS = 2
"""Full-sized buffers kept for the next connection that sends. Usually only one is in use at a time, since a buffer is
given back once it is empty; a new one costs the kernel eighty pages."""

_HEADER_BYTES = 4

_spare: list[bytearray] = []


class Message(SSHPacket):
    """A packet's payload, which lies between the padding length and the padding and is not copied out."""

    def __init__(self, packet: bytes) -> None:
        """`packet` is what follows the length field, in the clear."""
        super().__init__(packet)
        padding = packet[0]
        self._len -= padding
        if padding < MIN_PADDING_BYTES or self._len < 2:
            raise asyncssh.ProtocolError("Bad packet padding")
        self.number = packet[1]
        self._idx = 2

    @property
    def size(self) -> int:
        """How many bytes of memory the message holds."""
        return len(self._packet)

    def get_consumed_payload(self) -> bytes:
        """The payload up to the read position."""
        return self._packet[1 : self._idx]

    def get_remaining_payload(self) -> bytes:
        """The payload from the read position on."""
        return self._packet[self._idx : self._len]

    def get_full_payload(self) -> bytes:
        """All of the payload, from its message number on."""
        return self._packet[1 : self._len]


class PacketReader:
    """The bytes that a peer has sent and that have not been taken yet.

    `room` and `received` put bytes in, `peek` and `skip` take the identification line out, `next` takes packets, and
    `rest` is called when no more is taken for now. A buffer is only held while there is something in it.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._view = memoryview(self._data)
        self._start = 0
        self._end = 0
        self._length = 0
        """Length of the packet that is being received; 0 while it is not known."""
        self._first = b""
        """The packet's first block, which had to be decrypted to learn the length."""
        self._encryption: PacketCipher | None = None
        self._block_bytes = 8
        self._mac_bytes = 0
        self._length_is_apart = False

    def use(self, encryption: PacketCipher | None, block_bytes: int, mac_bytes: int) -> None:
        """Use these keys from the next packet on."""
        self._encryption = encryption
        self._block_bytes = block_bytes
        self._mac_bytes = mac_bytes
        self._length_is_apart = encryption is not None and encryption.length_is_apart

    @property
    def waiting_bytes(self) -> int:
        """How many bytes have been received and not been taken yet."""
        return self._end - self._start

    # -- what comes in ------------------------------------------------------------------------------------------

    def room(self, limit: int) -> memoryview:
        """Where to read up to `limit` bytes to; never empty. Call `received` with the number of bytes read."""
        waiting = self._end - self._start
        # Bytes are only moved once at least as many before them have been taken: moving costs no more than taking.
        if self._start and self._start >= waiting:
            self._move(self._data)
        if len(self._data) - self._end < MIN_ROOM_BYTES:
            if waiting + MIN_ROOM_BYTES > BUFFER_BYTES:
                self._move(bytearray(waiting + limit))
            elif len(self._data) >= BUFFER_BYTES:
                self._move(self._data)
            elif waiting + limit <= SMALL_BUFFER_BYTES:
                self._move(bytearray(SMALL_BUFFER_BYTES))
            else:
                self._move(_spare.pop() if _spare else bytearray(BUFFER_BYTES))
        return self._view[self._end : self._end + limit]

    def _move(self, target: bytearray) -> None:
        """Move waiting bytes to the front of `target`. No buffer is resized: asyncio still holds a view of it."""
        waiting = self._end - self._start
        target[:waiting] = self._view[self._start : self._end]
        if target is not self._data:
            self._data, self._view = target, memoryview(target)
        self._start, self._end = 0, waiting

    def received(self, count: int) -> None:
        """`count` bytes have been read into the view that `room` returned."""
        self._end += count

    def put(self, data: bytes) -> None:
        """Append `data`, at most a full buffer: bytes that another reader received and did not take."""
        if data:
            self.room(len(data))[:] = data
            self.received(len(data))

    def rest(self) -> None:
        """Give the buffer back if nothing is in it: an idle connection holds none."""
        if self._start == self._end and self._data:
            if len(self._data) == BUFFER_BYTES and len(_spare) < SPARE_BUFFERS:
                _spare.append(self._data)
            self._data = bytearray()
            self._view = memoryview(self._data)
            self._start = self._end = 0

    def clear(self) -> None:
        """Forget everything."""
        self._start = self._end
        self.rest()

    # -- what goes out ------------------------------------------------------------------------------------------

    def peek(self, limit: int) -> bytes:
        """The next bytes, at most `limit`, without taking them."""
        return bytes(self._view[self._start : min(self._end, self._start + limit)])

    def skip(self, count: int) -> None:
        """Take `count` bytes and discard them."""
        self._start += count

    def next(self, sequence: int) -> Message | None:
        """The next packet, whose number is `sequence`; None until all of it has come.

        Raises `asyncssh.ProtocolError` if its length or padding is invalid, `asyncssh.MACError` if it was altered.
        """
        if not self._length and not self._begin(sequence):
            return None
        start, length = self._start, self._length
        end = start + _HEADER_BYTES + length + self._mac_bytes
        if end > self._end:
            return None
        encryption = self._encryption
        if encryption is None:
            packet: bytes | None = bytes(self._view[start + _HEADER_BYTES : end])
        elif isinstance(encryption, GcmCipher):
            packet = encryption.open(self._view[start:end])
        else:
            sealed_end = end - self._mac_bytes
            packet = encryption.decrypt_packet(
                sequence,
                self._first,
                bytes(self._view[start + self._block_bytes : sealed_end]),
                _HEADER_BYTES,
                bytes(self._view[sealed_end:end]),
            )
        if not packet:
            raise asyncssh.MACError("MAC verification failed")
        self._start = end
        self._length = 0
        return Message(packet)

    def _begin(self, sequence: int) -> bool:
        """Learn the length of the next packet; False until enough of it has come."""
        start, block = self._start, self._block_bytes
        if self._end - start < block:
            return False
        encryption = self._encryption
        if encryption is None or isinstance(encryption, GcmCipher):
            header = bytes(self._view[start : start + _HEADER_BYTES])
        else:
            first = bytes(self._view[start : start + block])
            self._first, header = encryption.decrypt_header(sequence, first, _HEADER_BYTES)
        length = int.from_bytes(header, "big")
        if length > MAX_PACKET_BYTES:
            raise asyncssh.ProtocolError("Max packet size exceeded")
        # As packet.c: whole blocks; the length field counts if it is encrypted together with the rest.
        enciphered = length if self._length_is_apart else length + _HEADER_BYTES
        if length < MIN_PACKET_BYTES or enciphered % block:
            raise asyncssh.ProtocolError("Bad packet length")
        self._length = length
        return True
