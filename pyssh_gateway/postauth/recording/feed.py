"""The way to the recorder: what is to be recorded is collected for a moment, and sent without ever waiting.

A packet for each read would double the work for a key that is typed, and a copy would cost as much as the encryption of
what a program floods a terminal with. So entries are joined, and the data goes from the read's own buffer to the
socket. What the recorder does not take in time is kept, up to a bound; beyond it, data is dropped whole, and its
recording says how many bytes are missing. This module does not know what is recorded, nor of which session.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.recorder import Entry, FromRecorder, What
from pyssh_gateway.ipc.spawner import DescriptorsLost, ProtocolError, receive
from pyssh_gateway.system.descriptors import close_all

TOGETHER_SECONDS = 0.05
"""How long an entry waits for others to share its packet. A recording is at most a second behind anyway."""

JOINED_MICROSECONDS = 10_000
"""Data within this time becomes one event of the recording: a fast terminal shows a frame in 16 ms."""

BATCH_BYTES = 160 * 1024
BATCH_CHUNKS = messages.MAX_ENTRIES - 2
"""The size at which a packet is sent at once. An entry adds at most `MAX_CHUNK` bytes, so it stays below the limit of a
message, and below the number of buffers that one system call takes (IOV_MAX, 1024)."""

MAX_CHUNK = 64 * 1024
"""The most data of one entry."""

MAX_WAITING = 8 * 1024 * 1024
"""Bytes that may wait for the recorder: what a program can write to a terminal while the recorder waits for its turn on
a busy machine, or while another one is started."""

MAX_BEGINNINGS = 1024 * 1024
"""Room beyond `MAX_WAITING` for the beginnings and ends of recordings."""

_CONTROL_BYTES = 64
"""The most that an entry without data takes in a packet's head."""


class Feed:
    """One process's end of the socket to the recorder, and to its successors. `connect` gives it the socket of each.

    `on_answer` gets each answer. `on_lost` is called when a recorder has gone, with how many bytes of data of each
    recording were still here; those recordings have ended. While the feed `is_full`, data should be dropped.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_answer: Callable[[FromRecorder], None],
        on_lost: Callable[[dict[int, int]], None],
    ) -> None:
        self._loop = loop
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        # -- the packet that is being collected
        self._entries: list[Entry] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._due: asyncio.TimerHandle | None = None
        # -- the packets that wait for room
        self._packets: deque[tuple[list[bytes], int, list[Entry]]] = deque()
        self._waiting = 0
        self.is_full = False
        self._is_waiting_for_room = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a recorder, as far as this process knows."""
        return self._socket is not None

    @property
    def has_room_for_more(self) -> bool:
        """Whether another recording may begin: beginnings are not dropped as data is, and are small."""
        return self._waiting + self._size < MAX_WAITING + MAX_BEGINNINGS

    def connect(self, sock: socket.socket) -> None:
        """Use the recorder at the other end of `sock` from now on; it gets what has waited for one."""
        if self._socket is not None:
            self._lost()
        self._socket = sock
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)
        self._flush()

    def close(self) -> None:
        """Send as much as the socket takes, and disconnect for good."""
        self.send()
        self._flush()
        self._disconnect()

    # -- what goes out --------------------------------------------------------------------------------------------

    def add(self, recording: int, what: What, at: int, data: bytes = b"") -> None:
        """Send an entry with `data` soon, whether there is room or not (see `is_full`); `at` in microseconds.

        This is done for everything that a program writes, so it does as little as it can.
        """
        entries, chunks, size = self._entries, self._chunks, len(data)
        if size > MAX_CHUNK:
            for start in range(0, size, MAX_CHUNK):
                self.add(recording, what, at, data[start : start + MAX_CHUNK])
            return
        if (
            entries
            and (last := entries[-1]).recording == recording
            and last.what == what == "output"
            and at - last.at < JOINED_MICROSECONDS
        ):
            last.size += size
        else:
            entries.append(Entry(recording, what, at, size))
            size += _CONTROL_BYTES
        chunks.append(data)
        self._size = size = self._size + size
        if size >= BATCH_BYTES or len(chunks) >= BATCH_CHUNKS:
            self.send()
        elif self._due is None:
            self._due = self._loop.call_later(TOGETHER_SECONDS, self.send)

    def send(self) -> None:
        """Send what was collected, or keep it until there is room."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._entries:
            packet = [messages.head(self._entries), *self._chunks]
            self._packets.append((packet, self._size, self._entries))
            self._waiting += self._size
            self._entries, self._chunks, self._size = [], [], 0
        if not self._is_waiting_for_room:
            self._flush()
        self.is_full = self._waiting >= MAX_WAITING

    def _flush(self) -> None:
        if self._socket is None:
            return
        while self._packets:
            packet, size, _ = self._packets[0]
            try:
                self._socket.sendmsg(packet)
            except BlockingIOError:
                self._is_waiting_for_room = True
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                # Not lost at once: whoever adds an entry may be about to add more to a recording of this recorder.
                self._is_waiting_for_room = True
                self._loop.remove_writer(self._socket)
                self._loop.call_soon(self._lost_if, self._socket)
                return
            self._packets.popleft()
            self._waiting -= size
            self.is_full = self._waiting >= MAX_WAITING
        if self._is_waiting_for_room:
            self._is_waiting_for_room = False
            self._loop.remove_writer(self._socket)

    # -- what comes in --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._socket is None:  # a handler of the same turn of the loop has found it gone
            return
        try:
            packet, descriptors = receive(self._socket)
            close_all(descriptors)
            answer = messages.decode(packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, ProtocolError, DescriptorsLost):
            answer = None
        if answer is None:
            self._lost()
        else:
            self._on_answer(answer)

    def _lost_if(self, sock: socket.socket) -> None:
        if self._socket is sock:  # there may be another one meanwhile
            self._lost()

    def _lost(self) -> None:
        """The recorder is gone: what was meant for it can't go to another one, which knows nothing of its beginning."""
        self._disconnect()
        left: dict[int, int] = {}
        for entry in (*(entry for _, _, entries in self._packets for entry in entries), *self._entries):
            is_data = entry.what in {"output", "errors", "input"}
            left[entry.recording] = left.get(entry.recording, 0) + (entry.size if is_data else 0)
        self._packets.clear()
        self._entries, self._chunks, self._size, self._waiting = [], [], 0, 0
        self.is_full = self._is_waiting_for_room = False
        self._on_lost(left)

    def _disconnect(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
