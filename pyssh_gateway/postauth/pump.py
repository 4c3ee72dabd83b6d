"""Bytes between a descriptor and a channel, with backpressure both ways.

From a descriptor: one read for each turn of the loop, passed on at once; while the channel takes no more, the
descriptor is not read, and the kernel blocks its writer. To a descriptor: written at once; data that the kernel does
not take is kept (never more than the channel's window, since reading of the channel is paused meanwhile) and written
when there is room. Kept data counts against the account's budget, which outlives the channel.
"""

import asyncio
import os
from collections.abc import Callable

READ_BYTES = 32 * 1024
"""Size of one read: the largest data packet that clients take, so that one read is one packet."""


class Source:
    """Reads a descriptor that it owns. `deliver` gets the data, `at_end` is called once, at the end of the data."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        *,
        deliver: Callable[[bytes], None],
        at_end: Callable[[], None],
        size: int,
        is_pty: bool,
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._deliver = deliver
        self._at_end = at_end
        self._size = min(size, READ_BYTES)
        self._is_pty = is_pty
        self._reading = False
        self.ended = False
        os.set_blocking(descriptor, False)

    def set_reading(self, reading: bool) -> None:
        """Start or stop reading."""
        if self.ended or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._loop.add_reader(self._descriptor, self._read)
        else:
            self._loop.remove_reader(self._descriptor)

    def read_now(self) -> int:
        """Read once without waiting; returns how many bytes were there."""
        if self.ended:
            return 0
        data = self._take()
        if data:
            self._deliver(data)
            return len(data)
        if data is not None:
            self._end()
        return 0

    def close(self) -> None:
        """Close the descriptor without calling `at_end`."""
        self.set_reading(False)
        if not self.ended:
            self.ended = True
            os.close(self._descriptor)

    def leave(self) -> int | None:
        """Stop reading, and return the descriptor, which the caller then owns; None if it is closed already."""
        self.set_reading(False)
        left, self.ended = None if self.ended else self._descriptor, True
        return left

    def _read(self) -> None:
        self.read_now()

    def _take(self) -> bytes | None:
        """The next bytes; empty at the end, None if there are none yet.

        A pty gives at most a line discipline buffer (4 KiB) at a time, so it is read until it would block.
        """
        chunks: list[bytes] = []
        room = self._size
        try:
            while room > 0:
                chunk = os.read(self._descriptor, room)
                if not chunk:
                    break
                chunks.append(chunk)
                room -= len(chunk)
                if not self._is_pty:
                    break
        except BlockingIOError:
            if not chunks:
                return None
        except OSError:
            pass  # EIO: no process has the pty open any more; ECONNRESET and similar: the peer is gone
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _end(self) -> None:
        self.close()
        self._at_end()


class Flow:
    """Whether sources may be read: the client's window has room and the network takes data. `apply` gets the result."""

    def __init__(self, apply: Callable[[bool], None]) -> None:
        self._apply = apply
        self._channel_full = False
        self._network_full = False

    @property
    def is_open(self) -> bool:
        """Whether data may be sent now."""
        return not self._channel_full and not self._network_full

    def channel(self, *, full: bool) -> None:
        """The client's window is full, or has room again."""
        self._channel_full = full
        self._apply(self.is_open)

    def network(self, writable: bool) -> None:
        """The network takes data, or does not."""
        self._network_full = not writable
        self._apply(self.is_open)


class Sink:
    """Writes a descriptor that it owns.

    `on_room` is called when all waiting data has been written, `at_end` before the descriptor is closed, and
    `on_refused` once, if the reader is gone. `hold` gets how many bytes more (or fewer, if negative) wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        on_room: Callable[[], None],
        at_end: Callable[[], None] = lambda: None,
        *,
        on_refused: Callable[[], None] = lambda: None,
        hold: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._hold = hold
        self._on_room = on_room
        self._at_end = at_end
        self._on_refused = on_refused
        self._waiting = bytearray()
        self._ending = False
        self._deadline: asyncio.TimerHandle | None = None
        self._patience = 0.0
        self.closed = False
        os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> bool:
        """Write `data`; False if some of it has to wait, and the caller should pause until `on_room`.

        Once the reader is gone, data is discarded: a process that has closed its input is not an error.
        """
        if self.closed or self._ending:
            return True
        if not self._waiting:
            written = self._try(data)
            if written == len(data):
                return True
            data = data[written:]
            self._loop.add_writer(self._descriptor, self._flush)
        self._waiting += data
        self._hold(len(data))
        return False

    def end(self, seconds: float | None = None) -> None:
        """Close the descriptor when all is written, or after `seconds` in which nothing was (None: no such limit)."""
        self._ending = True
        if not self._waiting or seconds == 0:
            self.close()
        elif seconds is not None and not self.closed:
            self._on_room = lambda: None  # a caller that sets a limit no longer sends
            self._patience = seconds
            self._deadline = self._loop.call_later(seconds, self.close)

    def refuse(self) -> None:
        """Close the descriptor now, as if its reader had gone: waiting and later data is discarded."""
        if not self.closed:
            waited = bool(self._waiting)
            self.close()
            self._on_refused()
            if waited:
                self._on_room()

    def close(self) -> None:
        """Close the descriptor now."""
        if not self.closed:
            self.closed = True
            self._loop.remove_writer(self._descriptor)
            self._hold(-len(self._waiting))
            self._waiting.clear()
            if self._deadline is not None:
                self._deadline.cancel()
            self._at_end()
            os.close(self._descriptor)

    def _try(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:  # EPIPE, EIO: the reader is gone
            self.close()
            self._on_refused()
            return len(data)

    def _flush(self) -> None:
        written = self._try(self._waiting)
        if self.closed:
            self._on_room()
            return
        del self._waiting[:written]
        self._hold(-written)
        if self._deadline is not None and written:
            self._deadline.cancel()
            self._deadline = self._loop.call_later(self._patience, self.close)
        if not self._waiting:
            self._loop.remove_writer(self._descriptor)
            if self._ending:
                self.close()
            self._on_room()
