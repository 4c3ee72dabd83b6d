"""The queue of reports for one peer: they are sent as fast as the peer reads, so that the spawner never waits for it.

The peer, the monitor or a postauth process, may be busy. Meanwhile the spawner goes on reaping, handling signals and
starting processes. A peer that reads nothing at all for `STUCK_SECONDS` counts as stuck.
"""

import array
import socket
from collections import deque

from pyssh_gateway.system.descriptors import close_all

STUCK_SECONDS = 5.0
"""How long a peer may leave a report unread before it counts as stuck: its event loop never blocks on purpose."""

ENOUGH = 256
ENOUGH_BYTES = 1024 * 1024
"""With so many reports or bytes queued, no new request is read: the peer has to read its answers first."""


class Outbox:
    """The reports for one peer, in order, with the descriptors that are sent with them. Times are monotonic."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._bytes = 0
        self._since = 0.0

    @property
    def waiting(self) -> bool:
        """Whether any report is queued."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether so much is queued that no new request should be read."""
        return len(self._waiting) >= ENOUGH or self._bytes >= ENOUGH_BYTES

    @property
    def stuck_at(self) -> float | None:
        """When the peer counts as stuck, unless it reads something before."""
        return self._since + STUCK_SECONDS if self._waiting else None

    def send(self, packet: bytes, descriptors: list[int], now: float) -> None:
        """Send `packet` with `descriptors`, now or when there is room, and close them afterwards."""
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
        """Send nothing more, and close the queued descriptors."""
        while self._waiting:
            self._forget_first()

    def abandon(self) -> None:
        """In a forked process, which has not got the queued descriptors: send nothing more, and close none."""
        self._waiting.clear()
        self._bytes = 0

    def _forget_first(self) -> None:
        packet, descriptors = self._waiting.popleft()
        self._bytes -= len(packet)
        close_all(descriptors)

    def _sent(self, packet: bytes, descriptors: list[int]) -> bool:
        """Whether the report is done with: it was sent, or it can't be (the peer is gone)."""
        try:
            # Not socket.send_fds, which ignores its flags.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            self._control.sendmsg([packet], [rights] if descriptors else [], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:  # the peer is gone, or too many descriptors are in flight (ETOOMANYREFS)
            pass
        return True
