"""SFTP packets over two descriptors: requests in, answers out, each through one buffer of fixed size.

Nothing here has a timeout: the connection decides how long a client may be silent, and when it ends, this side reads
an end of file.
"""

import os
import struct

from pyssh_gateway.as_user.sftp.wire import MAX_PACKET, MalformedError

INPUT_BYTES = 2 * MAX_PACKET
"""Room for the largest packet, its length, and a good part of the packets behind it."""

GATHER_BYTES = 64 * 1024
"""Answers are collected up to this size, as long as further requests have arrived, and written at once."""

_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">IBI")
_MIN_PACKET = 5
"""Every packet begins with its type and its id; INIT has its version in the place of the id."""


class PacketReader:
    """Reads packets from `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray(INPUT_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def next(self) -> memoryview | None:
        """The next packet, without its length, or None at the end of the input.

        Waits without a timeout. The packet is valid until the next call.
        """
        while not self.ready():
            if not self._read():
                return None
        start = self._start + _LENGTH.size
        self._start = start + self._length()
        return self._view[start : self._start]

    def ready(self) -> bool:
        """Whether a whole packet is in the buffer already."""
        if self._end - self._start < _LENGTH.size:
            return False
        length = self._length()
        if not _MIN_PACKET <= length <= MAX_PACKET:
            raise MalformedError(f"a packet of {length} bytes; {_MIN_PACKET} to {MAX_PACKET} are allowed")
        return self._end - self._start >= _LENGTH.size + length

    def _length(self) -> int:
        return int(_LENGTH.unpack_from(self._buffer, self._start)[0])

    def _read(self) -> int:
        if self._start:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        count = os.readv(self._descriptor, [self._view[self._end :]])
        self._end += count
        return count


class ReplyWriter:
    """Writes answers to `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gathered = bytearray()

    def put(self, kind: int, number: int, body: bytes | memoryview) -> None:
        """Add the answer of type `kind` to request `number`; `body` may be changed once this has returned."""
        self._gathered += _HEADER.pack(_MIN_PACKET + len(body), kind, number)
        if len(self._gathered) + len(body) < GATHER_BYTES:
            self._gathered += body
        else:
            self._write([self._gathered, body])

    def flush(self) -> None:
        """Write the collected answers."""
        if self._gathered:
            self._write([self._gathered])

    def _write(self, parts: list[bytes | bytearray | memoryview]) -> None:
        done = os.writev(self._descriptor, parts)
        for part in parts:
            skipped = min(done, len(part))
            done -= skipped
            with memoryview(part) as view:
                while skipped < len(part):
                    skipped += os.write(self._descriptor, view[skipped:])
        self._gathered.clear()
