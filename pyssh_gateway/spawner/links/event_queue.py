"""Events for the monitor's log, queued until the monitor reads them.

Events must not make the spawner wait: the start of a session matters more than a service's line of output. So they are
sent only as fast as the monitor reads them, and a producer checks `full` before it reads more from its own source.
"""

import socket
from collections import deque

from pyssh_gateway.ipc import spawner as protocol

EVENTS_A_MESSAGE = 32
"""How many events a message has. A service's line has at most 4 KB of text; 32 take half of `protocol.MAX_MESSAGE`."""

MANY = 1000
"""How many events are queued before the queue counts as full: a working monitor reads so many in an instant."""


class News:
    """A queue of events for the monitor. It outlives monitors: events that one was not sent go to the next one."""

    def __init__(self) -> None:
        self._events: deque[protocol.SpawnerEvent] = deque(maxlen=2 * MANY)

    def add(self, event: protocol.SpawnerEvent) -> None:
        """Queue `event`. If producers have ignored `full` for long, the oldest event is dropped."""
        self._events.append(event)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def waiting(self) -> bool:
        """Whether there is an event to send."""
        return bool(self._events)

    @property
    def full(self) -> bool:
        """Whether no more events should be added for now."""
        return len(self._events) >= MANY

    def send(self, control: socket.socket) -> None:
        """Send as much as the monitor has room for."""
        while self._events:
            some = tuple(self._events[index] for index in range(min(EVENTS_A_MESSAGE, len(self._events))))
            try:
                control.send(protocol.encode(protocol.News(some)), socket.MSG_DONTWAIT)
            except OSError:  # no room now; or the monitor is gone, and the next one gets the events
                return
            for _ in some:
                self._events.popleft()
