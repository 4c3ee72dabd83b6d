"""How far the log has been written, in the memory that a monitor leaves to the next one.

Postauth processes send their reports again to the next monitor, unless they know that these are in the log. So that
none is logged twice, each line is announced here before it is written, with the report that it comes from; afterwards
the report is stored as logged. If the monitor is killed in between, the last line in the file shows whether the
announced one was written (`settle`).

A monitor may be killed at any moment, also in the middle of a write. So everything has two copies, and a write goes to
the one that is not in use. This module does not write the log.
"""

import os
import struct
import zlib

import msgspec

from pyssh_gateway.events import Origin

PROGRESS_BYTES = 64 * 1024
"""Bytes at the beginning of the memory that belong to this module."""

_LINE = struct.Struct("<QQQ")
"""The number of a line of the log, and the process and number of its report; 0 and 0: it comes from none."""

_LINES_AT = (0, 64)

_REPORT = struct.Struct("<QQ")
"""A postauth process, and the number of its last report that is in the log."""

_REPORTS_AT = 128
_COPY_BYTES = 32
PROCESSES = (PROGRESS_BYTES - _REPORTS_AT) // (2 * _COPY_BYTES)
"""The reports of so many processes can be stored: more than a machine has accounts that are logged in. Reports of
others are not lost, but the death of a monitor may lead to a second line for one of them."""

_CHECKSUM = struct.Struct("<I")


class _Place(msgspec.Struct):
    """Where the reports of a process are stored; `copy` is the copy in use, and `number` what is in it."""

    index: int
    copy: int
    number: int


class LogProgress:
    """Reads and writes the file `descriptor`, which the caller keeps."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        lines = (_unpack(_LINE, os.pread(descriptor, _COPY_BYTES, at)) for at in _LINES_AT)
        self._line, *self._reported = max(filter(None, lines), default=(0, 0, 0))
        self._places: dict[int, _Place] = {}
        self._free: list[int] = []
        self._used = 0
        self._read_places()

    # -- what is written ------------------------------------------------------------------------------------------

    def announce(self, line: int, origin: Origin | None) -> None:
        """The line with this number is about to be written."""
        report = (0, 0) if origin is None else (origin.process, origin.number)
        put(self._descriptor, _pack(_LINE, line, *report), _LINES_AT[line % 2])
        self._line = line

    def logged(self, origin: Origin) -> None:
        """The line of this report was written."""
        place = self._places.get(origin.process) or self._new_place(origin.process)
        if place is not None:
            place.copy, place.number = 1 - place.copy, origin.number
            at = _REPORTS_AT + (2 * place.index + place.copy) * _COPY_BYTES
            put(self._descriptor, _pack(_REPORT, origin.process, origin.number), at)

    def forget(self, process: int) -> None:
        """The process has ended."""
        place = self._places.pop(process, None)
        if place is not None:
            self._free.append(place.index)

    def _new_place(self, process: int) -> _Place | None:
        if not self._free and self._used == PROCESSES:
            return None
        if self._free:
            index = self._free.pop()
        else:
            index, self._used = self._used, self._used + 1
        self._places[process] = place = _Place(index, 0, 0)
        return place

    # -- what an earlier monitor has left ---------------------------------------------------------------------------

    @property
    def line(self) -> int:
        """The number of the last line that was written, or was about to be; 0 for none."""
        return self._line

    def settle(self, last: int) -> None:
        """Find out whether the last line that was announced was written: `last` is the last number in the log."""
        origin = Origin(*self._reported)
        if 0 < self._line <= last and origin.number > self.logged_of(origin.process):
            self.logged(origin)

    def logged_of(self, process: int) -> int:
        """The number of the last report of a process for which a line was written; 0 for none."""
        place = self._places.get(process)
        return 0 if place is None else place.number

    def keep(self, processes: set[int]) -> None:
        """No others have survived the earlier monitor."""
        for process in self._places.keys() - processes:
            self.forget(process)

    def _read_places(self) -> None:
        stored = os.pread(self._descriptor, PROGRESS_BYTES - _REPORTS_AT, _REPORTS_AT)
        for index in range(PROCESSES):
            both = [
                stored[at : at + _COPY_BYTES] for at in range(2 * index * _COPY_BYTES, len(stored), _COPY_BYTES)[:2]
            ]
            if not any(map(any, both)):
                return  # places are taken in their order, so the rest was never used
            self._used = index + 1
            # Of two processes, the one with the higher number has been given the place of the other.
            found = max(
                ((_unpack(_REPORT, data), copy) for copy, data in enumerate(both)), key=lambda one: one[0] or ()
            )
            if found[0]:
                (process, number), copy = found
                self._places[process] = _Place(index, copy, number)
            else:
                self._free.append(index)


def put(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _pack(form: struct.Struct, *numbers: int) -> bytes:
    data = form.pack(*numbers)
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _unpack(form: struct.Struct, stored: bytes) -> tuple[int, ...]:
    """The numbers that were stored; empty if there are none, or the write was cut off."""
    data, checksum = stored[: form.size], stored[form.size : form.size + _CHECKSUM.size]
    if len(checksum) < _CHECKSUM.size or not any(data) or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(data):
        return ()
    return form.unpack(data)
