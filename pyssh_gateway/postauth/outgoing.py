"""What waits to be sent to the monitor, and what was sent and may have to be sent again: to the next one.

Reports (events, and messages that lead to one) are numbered from 1, and kept until the monitor says that the log has
them. This module sends nothing.
"""

from collections import deque
from collections.abc import Callable

import msgspec

from pyssh_gateway.events import SessionClosed, SessionExited
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc.postauth import FromPostauth
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, ProtocolError

MAX_WAITING = 4096
"""Packets that may wait for the monitor or its log, mostly events: more than a busy account makes in a minute, and
enough for the time between one monitor's death and the next one's start."""

MORE_ENDS = 1024
"""How many ends of sessions may wait beyond that: a client relies on its own being in the log."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""The same in bytes: an event may be as long as a command."""

MORE_END_BYTES = 1024 * 1024
"""The bytes that ends may have beyond that: each has a few hundred."""

BATCH_BYTES = 32 * 1024
"""Bytes of events in one message: a hundred events or so. The monitor takes one message of each account in turn."""

MAX_EVENT_BYTES = MAX_MESSAGE // 2
KEPT = 4096
"""The largest event, so that it fits into a message. Of a larger one, each long text keeps this many characters from
both its ends, which is more than the log shows. No command is that long: the kernel would not take it."""


class _Lost:
    """How many events were dropped at this place in the queue, because it was full."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0

    def __len__(self) -> int:
        """It takes no room."""
        return 0


class _Event(bytes):
    """A packed event, with the number of its report."""

    number: int


class _Report(bytes):
    """Another message that leads to an event, with its number."""

    number: int


_Numbered = _Event | _Report | _Lost
_Waiting = _Numbered | bytes


class Outgoing:
    """The queue, bounded together with what was sent and is not logged yet: the entries of `unlogged`.

    `last_report` is the number of the last report that was added, `logged` that of the last one that is in the log.
    """

    def __init__(self) -> None:
        self.last_report = 0
        self.logged = 0
        self.unlogged: deque[_Numbered] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._sent = 0
        self._count = 0

    @property
    def waits(self) -> bool:
        """Whether something was not sent yet."""
        return bool(self._waiting)

    def __contains__(self, packet: bytes) -> bool:
        """Whether just this packet was not sent yet."""
        return any(waiting is packet for waiting in self._waiting)

    # -- what is added --------------------------------------------------------------------------------------------

    def add_event(self, event: messages.Told) -> None:
        """Add an event, without the user, whom the monitor knows; or count it as lost."""
        told = msgspec.structs.replace(event, user="", identity=None)
        packed = _Event(messages.pack(told))
        if len(packed) > MAX_EVENT_BYTES:
            packed = _Event(messages.pack(_shortened(told)))
        if self._has_room(len(packed), is_end=isinstance(event, SessionClosed | SessionExited)):
            packed.number = self._next_report()
            self._put(packed)
        else:
            self._lose_one()

    def add_report(self, message: Callable[[int], FromPostauth]) -> None:
        """Add a message that has the number of a report; or count it as lost."""
        packet = _Report(messages.encode(message(self.last_report + 1)))
        if self._has_room(len(packet)):
            packet.number = self._next_report()
            self._put(packet)
        else:
            self._lose_one()

    def add(self, packet: bytes, *, counted: bool = True) -> bool:
        """Add another packet. Returns False if there is no room; then it is lost, and `counted` as such."""
        if self._has_room(len(packet)):
            self._put(packet)
            return True
        if counted:
            self._lose_one()
        return False

    def _has_room(self, size: int, *, is_end: bool = False) -> bool:
        count, total = len(self._waiting) + len(self.unlogged), self._bytes + size
        if is_end:
            return count < MAX_WAITING + MORE_ENDS and total <= MAX_WAITING_BYTES + MORE_END_BYTES
        return count < MAX_WAITING and total <= MAX_WAITING_BYTES

    def _next_report(self) -> int:
        self.last_report += 1
        return self.last_report

    def _put(self, packet: bytes) -> None:
        self._waiting.append(packet)
        self._bytes += len(packet)

    def _lose_one(self) -> None:
        if not self._waiting or not isinstance(self._waiting[-1], _Lost):
            self._waiting.append(_Lost(self._next_report()))
        last = self._waiting[-1]
        if isinstance(last, _Lost):
            last.count += 1

    # -- what is sent ---------------------------------------------------------------------------------------------

    def next(self) -> bytes | None:
        """The next packet to send, with the events that fit into it; None if nothing waits."""
        first = self._waiting[0] if self._waiting else None
        self._count = 1
        if isinstance(first, _Lost):
            return messages.encode(messages.Lost(first.number, first.count))
        if not isinstance(first, _Event):
            return None if first is None else bytes(first)
        events: list[bytes] = []
        size = 0
        for waiting in self._waiting:
            if not isinstance(waiting, _Event) or size + len(waiting) > max(BATCH_BYTES, len(waiting)):
                break
            events.append(bytes(waiting))  # the encoder takes no subclass
            size += len(waiting)
        self._count = len(events)
        return messages.encode(messages.Happened(first.number, tuple(events)))

    def was_sent(self) -> None:
        """The packet of `next` was sent."""
        for _ in range(self._count):
            sent = self._waiting.popleft()
            if isinstance(sent, _Numbered):
                self.unlogged.append(sent)
                self._sent = sent.number
            else:
                self._bytes -= len(sent)

    def are_logged(self, number: int) -> None:
        """The log has all reports up to this number. Raises ProtocolError if that was not sent to this monitor."""
        if number > self._sent:
            raise ProtocolError("a report is said to be logged that was not sent")
        self.logged = max(self.logged, number)
        while self.unlogged and self.unlogged[0].number <= number:
            self._bytes -= len(self.unlogged.popleft())

    def begin_again(self) -> None:
        """There is another monitor, which gets everything that is not logged."""
        self._waiting.extendleft(reversed(self.unlogged))
        self.unlogged.clear()
        self._sent = self.logged


def _shortened(event: messages.Told) -> messages.Told:
    """The event, with long texts cut to their two ends."""
    texts = {name: getattr(event, name) for name in event.__struct_fields__}
    long = {name: text for name, text in texts.items() if isinstance(text, str) and len(text) > 2 * KEPT}
    return msgspec.structs.replace(event, **{name: text[:KEPT] + text[-KEPT:] for name, text in long.items()})
