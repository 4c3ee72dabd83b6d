"""The recordings of one account, as its postauth process asks for them over a socket of its own.

The process runs as the account, whose user may have taken it over. It can spoil only the recordings of its own account
that are being made, or add others under any session's name: it names no account, no file and no directory, and can't
touch what was written.
"""

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.recorder import Begin, Closed, Entry, Opened
from pyssh_gateway.ipc.spawner import DescriptorsLost, ProtocolError, receive
from pyssh_gateway.recorder.files import Files, Name
from pyssh_gateway.recorder.recording import Recording, Times
from pyssh_gateway.system.descriptors import close_all

MOST_RECORDINGS = 256
"""Recordings of an account at a time, each with a file and up to 200 KiB of memory: four times the sessions that a
connection may have by default."""

MOST_BEGINNINGS = 8
"""Recordings that begin in one turn. Each costs a file and a compressor, so a packet of them would hold up others."""

TOO_MANY = f"{MOST_RECORDINGS} sessions are recorded already"
CROWDED = "too many sessions are recorded"
LEFT = "its process ended"


class DirectoryGone(Exception):
    """The directory of recordings has been removed: only another recorder can make it again."""


class Account:
    """One sender. `bounds` gives those in force when a recording begins.

    `has_place` says whether this account may have another recording, as far as the other accounts are concerned.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        files: Files,
        bounds: Callable[[], Bounds],
        times: Times,
        *,
        has_place: Callable[["Account"], bool],
    ) -> None:
        self.name = name
        self._socket = sock
        self._files = files
        self._bounds = bounds
        self._times = times
        self._has_place = has_place
        self._entries: deque[tuple[Entry, bytes]] = deque()  # of the last packet, for the next turn
        self._last_number = 0
        self._running: dict[int, tuple[Recording, Name]] = {}
        sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def __len__(self) -> int:
        """How many recordings are being made."""
        return len(self._running)

    @property
    def has_entries(self) -> bool:
        """Whether there is something to serve that no poll tells of: the rest of a packet with many beginnings."""
        return bool(self._entries)

    def serve(self) -> bool:
        """Take one packet, if there is one, or the rest of the last one; False: the sender is gone.

        Raises ProtocolError for one that misbehaves, and DirectoryGone.
        """
        if not self._entries and not self._receive():
            return False
        begun = 0
        while self._entries and begun < MOST_BEGINNINGS:
            entry, data = self._entries.popleft()
            begun += entry.what == "begin"
            self._take(entry, data)
        return True

    def _receive(self) -> bool:
        try:
            packet, descriptors = receive(self._socket)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # it has not read all answers; what it has sent before is still there (unix(7))
            return True
        except (OSError, DescriptorsLost):
            return False
        if descriptors:
            close_all(descriptors)
            raise ProtocolError("descriptors came with a packet that has none")
        if not packet:
            return False
        self._entries.extend(messages.unpack(packet))
        return True

    def flush(self) -> bool:
        """Have everything in the files; returns whether there will be more to do later."""
        for number, (recording, name) in tuple(self._running.items()):
            recording.flush()
            self._look_at(number, recording, name)
        return any(not recording.is_at_rest for recording, _ in self._running.values())

    def cut(self, name: Name, reason: str) -> bool:
        """End the recording with this file before its session ends; returns whether it is one of these."""
        for number, (recording, file) in self._running.items():
            if file == name:
                recording.cut(reason)
                self._look_at(number, recording, name)
                return True
        return False

    def cut_newest(self, reason: str) -> None:
        """End the recording that has begun last, before its session ends: the earlier ones have more to lose."""
        number = max(self._running)
        recording, name = self._running[number]
        recording.cut(reason)
        self._look_at(number, recording, name)

    def close(self, reason: str) -> None:
        """The sender is gone, or has to be: end its recordings."""
        for number, (recording, name) in tuple(self._running.items()):
            recording.end(reason, comment=f"the recording ends here: {reason}")
            self._look_at(number, recording, name)
        self._socket.close()

    def _take(self, entry: Entry, data: bytes) -> None:
        number = entry.recording
        if entry.what == "begin":
            if number <= self._last_number:
                raise ProtocolError(f"the recording {number} begins twice")
            self._last_number = number
            self._begin(number, messages.beginning_in(data))
            return
        if number > self._last_number:
            raise ProtocolError(f"the recording {number} has not begun")
        found = self._running.get(number)
        if found is not None:  # it may have ended already, because of a bound
            found[0].take(entry, data)
            self._look_at(number, *found)

    def _begin(self, number: int, begin: Begin) -> None:
        if len(self._running) >= MOST_RECORDINGS:
            self._answer(Closed(number, TOO_MANY, 0))
            return
        if not self._has_place(self):
            self._answer(Closed(number, CROWDED, 0))
            return
        try:
            name, file = self._files.make(self.name, begin.session)
        except FileNotFoundError as error:
            raise DirectoryGone from error
        except OSError as error:
            self._answer(Closed(number, error.strerror or str(error), 0))
            return
        recording = Recording(begin, file, self._bounds(), self._times)
        self._running[number] = recording, name
        self._answer(Opened(number, "/".join(name)))
        self._look_at(number, recording, name)

    def _look_at(self, number: int, recording: Recording, name: Name) -> None:
        self._files.wrote(name, recording.written)
        if recording.over:
            del self._running[number]
            self._files.done(name)
            self._answer(Closed(number, recording.over, recording.recorded))

    def _answer(self, answer: messages.FromRecorder) -> None:
        with suppress(OSError):  # it does not read its answers, or is gone: then it does not need this one
            self._socket.send(messages.encode(answer))
