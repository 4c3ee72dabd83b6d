"""The memory that a monitor leaves to the next one: a block of bytes, behind what `log_progress` keeps.

It is a memfd that the spawner holds and only the monitor writes. A monitor may be killed at any moment, also in the
middle of a write. So everything is stored twice, and a write goes to the copy that is not in use (`Slot`). This module
does not know what the bytes mean.
"""

import os
import struct
import zlib
from contextlib import suppress

import msgspec

from pyssh_gateway.monitor.log.progress import PROGRESS_BYTES, put

SIZE = 1024 * 1024 + PROGRESS_BYTES
"""Bytes of the whole file."""

_HEAD = struct.Struct("<QII")
"""The head of a slot: its sequence number, the length of the block that follows, and the checksum of both and of the
block."""

_SLOTS_AT = PROGRESS_BYTES
SLOT_BYTES = (SIZE - _SLOTS_AT) // 2
MOST_BYTES = SLOT_BYTES - _HEAD.size
"""How long a block may be: 700 connections with an Ed25519 key, 300 with an RSA key of 4096 bits."""


class RegistryFull(Exception):
    """The block is longer than `MOST_BYTES`."""


class Slot(msgspec.Struct, frozen=True):
    """A block that was written completely, and its sequence number."""

    sequence: int
    block: bytes


class RegistryFile:
    """Reads and writes the file `descriptor`, which the caller keeps."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sequence = 0

    def read(self) -> bytes:
        """The block that was written last; empty if there is none. To be called before the first `write`."""
        slots = filter(None, map(self._slot, range(2)))
        latest = max(slots, key=lambda slot: slot.sequence, default=Slot(0, b""))
        self._sequence = latest.sequence
        return latest.block

    def write(self, block: bytes) -> None:
        """Replace the earlier block by `block`. Raises `RegistryFull`, and then nothing has changed."""
        if len(block) > MOST_BYTES:
            raise RegistryFull
        sequence = self._sequence + 1
        head = _HEAD.pack(sequence, len(block), _checksum(sequence, block))
        self._put(head + block, _SLOTS_AT + sequence % 2 * SLOT_BYTES)
        self._sequence = sequence

    def _slot(self, index: int) -> Slot | None:
        offset = _SLOTS_AT + index * SLOT_BYTES
        with suppress(struct.error):
            sequence, length, checksum = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, offset))
            block = os.pread(self._descriptor, min(length, MOST_BYTES), offset + _HEAD.size)
            if sequence and len(block) == length and checksum == _checksum(sequence, block):
                return Slot(sequence, block)
        return None

    def _put(self, data: bytes, offset: int) -> None:
        put(self._descriptor, data, offset)


def _checksum(sequence: int, block: bytes) -> int:
    return zlib.crc32(block, zlib.crc32(struct.pack("<QI", sequence, len(block))))
