"""What a start has to know of the log so far, so that it need not read the log: `log_state.json` in `audit_dir`.

The monitor opens it while it has the rights to, and writes in place, because later it can't make or rename files there.
A write that was cut off is noticed by its checksum. Then, and if the file is of another log, the current file of the
log is read instead, from its header on: nothing depends on this file but the time that a start takes.
"""

import fcntl
import os
import zlib
from contextlib import suppress
from typing import Annotated

import msgspec

from pyssh_gateway.audit.header import Hash

MAX_BYTES = 16 * 1024
"""More than the largest state has: 64 hashes of 44 characters, and a few numbers."""

CHECKED_BYTES = 4096
"""So many bytes of the log before `offset` are in `check`."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class LogState(msgspec.Struct, frozen=True):
    """The log up to the byte `offset` of the current file, where a line ends.

    `lines` is the index of the next line, `tree` the compact range of those before it (`audit.tree`). `seq` is the
    number of the last event, `connections` that in the name of the last connection. `first` is the index of the first
    line of the current file. `check` is the CRC-32 of the bytes before `offset`: the file is still the same one.
    """

    lines: Count = 0
    tree: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=64)] = ()
    offset: Count = 0
    connections: Count = 0
    seq: Count = 0
    first: Count = 0
    check: Count = 0


class _Kept(msgspec.Struct, frozen=True):
    state: LogState
    crc: int


_decoder = msgspec.json.Decoder(_Kept)


class StateFile:
    """The open file, which belongs to this object; without one, nothing is read, and what is written is dropped."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def read(self) -> LogState | None:
        """The state that was written last; None if there is none, or the write was cut off."""
        if self._descriptor is None:
            return None
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            kept = _decoder.decode(os.pread(self._descriptor, MAX_BYTES, 0))
            if kept.crc == _crc(kept.state) and len(kept.state.tree) == kept.state.lines.bit_count():
                return kept.state
        return None

    def write(self, state: LogState) -> None:
        """Replace what is in the file. Raises OSError."""
        if self._descriptor is None:
            return
        data = memoryview(msgspec.json.encode(_Kept(state, _crc(state))) + b"\n")
        at, size = 0, len(data)
        while at < size:
            at += os.pwrite(self._descriptor, data[at:], at)
        os.ftruncate(self._descriptor, size)

    def lock(self) -> bool:
        """Whether no other server writes to the log: one that drains without its spawner. Locks the file, if so.

        The lock (flock(2)) is the descriptor's, and ends with the process that writes.
        """
        if self._descriptor is None:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the file system has no locks
            return True
        return True

    def sync(self) -> None:
        """Sync it to the disk. Raises OSError."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def replace(self, descriptor: int | None) -> None:
        """Go on with this file, because the one before may be gone; None: there is no other."""
        if descriptor is not None:
            self.close()
            self._descriptor = descriptor
            self.lock()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def check_of(log: int, offset: int) -> int:
    """The checksum of the bytes before `offset` in the log file `log`. Raises OSError."""
    begin = max(0, offset - CHECKED_BYTES)
    return zlib.crc32(os.pread(log, offset - begin, begin))


def _crc(state: LogState) -> int:
    return zlib.crc32(msgspec.json.encode(state))
