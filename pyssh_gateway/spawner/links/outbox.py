"""Reports on their way to one asker: sent as fast as it reads, so that the spawner never waits for it.

The monitor or a postauth process may be busy. While it is, the spawner goes on reaping, hearing signals and starting
what has been asked for; one that reads nothing at all for `STUCK_SECONDS` counts as stuck.
"""

import array
import socket
from collections import deque

from pyssh_gateway.system.descriptors import close_all

STUCK_SECONDS = 5.0
"""How long an asker may leave a report unread before it counts as stuck: its loop never blocks on purpose."""

ENOUGH = 256
ENOUGH_BYTES = 1024 * 1024
"""So many reports or bytes wait, and no new request is read: the asker is to read its answers first."""


class Outbox:
    """The reports for one asker, in order, with the descriptors that travel with them. Times are monotonic."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._bytes = 0
        self._since = 0.0

    @property
    def waiting(self) -> bool:
        """Whether anything is to be sent when there is room."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether so much waits that no new request should be read."""
        return len(self._waiting) >= ENOUGH or self._bytes >= ENOUGH_BYTES

    @property
    def stuck_at(self) -> float | None:
        """When the asker counts as stuck, unless it reads something before."""
        return self._since + STUCK_SECONDS if self._waiting else None

    def send(self, packet: bytes, descriptors: list[int], now: float) -> None:
        """Send `packet` with `descriptors`, which are closed afterwards, now or when there is room."""
        if not self._waiting:
            self._since = now
        self._waiting.append((packet, descriptors))
        self._bytes += len(packet)
        self.flush(now)

    def flush(self, now: float) -> None:
        """Send as much as there is room for."""
        while self._waiting:
            packet, descriptors = self._waiting[0]
            if not self._sent(packet, descriptors):
                return
            self._since = now
            self._forget_first()

    def close(self) -> None:
        """Send nothing more, and close what would have travelled."""
        while self._waiting:
            self._forget_first()

    def abandon(self) -> None:
        """In a forked process, which has not got the descriptors that would have travelled: send nothing more."""
        self._waiting.clear()
        self._bytes = 0

    def _forget_first(self) -> None:
        packet, descriptors = self._waiting.popleft()
        self._bytes -= len(packet)
        close_all(descriptors)

    def _sent(self, packet: bytes, descriptors: list[int]) -> bool:
        """Whether it is out of the way: sent, or the asker is gone and needs it no more."""
        try:
            # Not socket.send_fds, which does not pass its flags on.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            self._control.sendmsg([packet], [rights] if descriptors else [], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:  # it is gone, or too many descriptors are on their way (ETOOMANYREFS)
            pass
        return True
