"""What the monitor is to put into its log, kept until the monitor has room for it.

News must not make the spawner wait: a session's start is worth more than a line of a service's. So they go out only as
fast as they are read, and whoever makes them looks at `full` before taking more from where they come from.
"""

import socket
from collections import deque

from pyssh_gateway.ipc import spawner as protocol

EVENTS_A_MESSAGE = 32
"""The longest line of a service is 4 KB as text; so many of them are half of `protocol.MAX_MESSAGE`."""

MANY = 1000
"""So many events are collected at most: a thousand lines, which a monitor that lives reads in an instant."""


class News:
    """A queue of events for the monitor. It outlives monitors: what one has not been sent, the next one gets."""

    def __init__(self) -> None:
        self._events: deque[protocol.SpawnerEvent] = deque(maxlen=2 * MANY)

    def add(self, event: protocol.SpawnerEvent) -> None:
        """Have `event` told. If nobody has looked at `full` for long, the oldest news goes."""
        self._events.append(event)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to be sent."""
        return bool(self._events)

    @property
    def full(self) -> bool:
        """Whether no more should be collected for now."""
        return len(self._events) >= MANY

    def send(self, control: socket.socket) -> None:
        """Send as much as the monitor has room for."""
        while self._events:
            some = tuple(self._events[index] for index in range(min(EVENTS_A_MESSAGE, len(self._events))))
            try:
                control.send(protocol.encode(protocol.News(some)), socket.MSG_DONTWAIT)
            except OSError:  # no room now; or it is gone, and the next monitor gets them
                return
            for _ in some:
                self._events.popleft()
