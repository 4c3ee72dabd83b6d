"""This process's end of the monitor's socket: events go out, orders come in, signatures are requested.

Nothing here blocks on the monitor, which may be busy, stopped or gone: messages wait in a bounded queue, and go to the
next monitor if this one is gone. Events that do not fit are counted, and the count is sent. This module does not know
what the orders mean.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import msgspec

from pyssh_gateway.events import FileOperation
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc.postauth import FromMonitor, FromPostauth, Proved, Signed
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, DescriptorsLost, ProtocolError, receive
from pyssh_gateway.system.descriptors import close_all

MAX_WAITING = 4096
"""Packets that may wait for the monitor, mostly events: more than a busy account makes in a minute, and enough for the
time between one monitor's death and the next one's start."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""The same in bytes: an event may be as long as a command."""

BATCH_BYTES = 32 * 1024
"""Bytes of events in one message: a hundred events or so. The monitor takes one message of each account in turn."""

TOGETHER_SECONDS = 0.01
"""How long a file operation waits so that others can share its message: with a thousand small files, one message each
would cost both processes more than everything else that is done for the files."""

MAX_EVENT_BYTES = MAX_MESSAGE // 2
KEPT = 4096
"""The largest event, so that it fits into a message. Of a larger one, each long text keeps this many characters from
both its ends, which is more than the log shows. No command is that long: the kernel would not take it."""

ANSWER_SECONDS = 30.0
"""How long a rekey may wait for its signature: longer than another monitor takes to start."""

T = TypeVar("T")


class Unanswered(Exception):
    """The monitor refused, or did not answer in time. The text says which."""


class _Lost:
    """How many events were dropped at this place in the queue, because it was full."""

    def __init__(self) -> None:
        self.count = 0


class _Event(bytes):
    """A packed event."""


_Answer = Signed | Proved
_Waiting = _Event | bytes | _Lost


class MonitorLink:
    """The connection to the monitor, and to its successors. `connect` gives it the socket of each.

    `on_order` gets each message that is not an answer, with its descriptors, which it then owns. For an invalid order
    it raises `ProtocolError`, and does not touch the descriptors. `on_nonsense` is called with the reason for such an
    order, and for a packet that is no message; `on_end` is called when a monitor has gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_order: Callable[[FromMonitor, list[int]], None],
        on_end: Callable[[], None],
        on_nonsense: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_order = on_order
        self._on_end = on_end
        self._on_nonsense = on_nonsense
        self._socket: socket.socket | None = None
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._flush_due: asyncio.Handle | None = None
        self._is_flush_late = False
        self._last_number = 0
        self._asked: dict[int, tuple[bytes, asyncio.Future[_Answer]]] = {}

    @property
    def is_connected(self) -> bool:
        """Whether there is a monitor, as far as this process knows."""
        return self._socket is not None

    @property
    def has_told_all(self) -> bool:
        """Whether the queue is empty, after an attempt to send it."""
        self._flush()
        return not self._waiting

    def connect(self, sock: socket.socket) -> None:
        """Use the monitor at the other end of `sock` from now on: it gets the queue, and the unanswered requests."""
        self._disconnect()
        self._socket = sock
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)
        for packet, answer in self._asked.values():
            if not answer.done() and not any(waiting is packet for waiting in self._waiting):
                self._keep(packet)
        self._flush()

    def close(self) -> None:
        """Send as much as the socket takes, and disconnect for good."""
        self._flush()
        self._disconnect()
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unanswered("the server is gone"))

    # -- what goes out --------------------------------------------------------------------------------------------

    def happened(self, event: messages.Told) -> None:
        """Report an event of one of our connections, without the user, whom the monitor knows."""
        told = msgspec.structs.replace(event, user="", identity=None)
        packed = _Event(messages.pack(told))
        if len(packed) > MAX_EVENT_BYTES:
            packed = _Event(messages.pack(_shortened(told)))
        if not self._has_room(len(packed)):
            self._lose_one()
        elif isinstance(event, FileOperation):
            self._waiting.append(packed)
            self._waiting_bytes += len(packed)
            self._flush_later()
        else:
            self._keep(packed)

    def tell(self, message: FromPostauth) -> None:
        """Send another message, in order with the events; one that finds the queue full counts as a lost event."""
        packet = messages.encode(message)
        if self._has_room(len(packet)):
            self._keep(packet)
        else:
            self._lose_one()

    async def sign(self, conn: str, algorithm: bytes, exchange_hash: bytes) -> bytes:
        """The signature over the exchange hash of a rekey. Raises `Unanswered`."""
        answer = await self._ask(lambda number: messages.Sign(number, conn, algorithm, exchange_hash), Signed)
        if answer.signature is None:
            raise Unanswered("the monitor does not sign any more")
        return answer.signature

    async def prove(self, conn: str, blobs: tuple[bytes, ...], rsa: bytes) -> bytes | None:
        """The answer to `hostkeys-prove`; None if it is refused. Raises `Unanswered`."""
        answer = await self._ask(lambda number: messages.Prove(number, conn, blobs, rsa), Proved)
        return answer.proofs

    async def _ask(self, request: Callable[[int], messages.Sign | messages.Prove], kind: type[T]) -> T:
        self._last_number += 1
        number = self._last_number
        packet = messages.encode(request(number))
        if not self._has_room(len(packet)):
            raise Unanswered("too much waits for the monitor")
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        self._asked[number] = packet, answer
        self._keep(packet)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answered = await answer
        except TimeoutError:
            raise Unanswered(f"no answer of the monitor within {ANSWER_SECONDS:.0f} s") from None
        finally:
            del self._asked[number]
        if not isinstance(answered, kind):
            raise Unanswered("the monitor gave an unexpected answer")
        return answered

    # -- the queue ------------------------------------------------------------------------------------------------

    def _has_room(self, size: int) -> bool:
        return len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES

    def _keep(self, packet: _Event | bytes) -> None:
        self._waiting.append(packet)
        self._waiting_bytes += len(packet)
        self._flush_soon()

    def _lose_one(self) -> None:
        if not self._waiting or not isinstance(self._waiting[-1], _Lost):
            self._waiting.append(_Lost())
        last = self._waiting[-1]
        if isinstance(last, _Lost):
            last.count += 1
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Send at the end of this turn of the loop, so that its events share a message."""
        if self._flush_due is not None and self._is_flush_late:
            self._flush_due.cancel()
            self._flush_due = None
        if self._flush_due is None:
            self._is_flush_late = False
            self._flush_due = self._loop.call_soon(self._flush)

    def _flush_later(self) -> None:
        """Send after `TOGETHER_SECONDS`, or with the next other message, so that file operations share a message."""
        if self._flush_due is None:
            self._is_flush_late = True
            self._flush_due = self._loop.call_later(TOGETHER_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        sock = self._socket
        if sock is None:
            return
        while self._waiting:
            packet, count = self._next()
            try:
                sock.send(packet)
            except BlockingIOError:
                self._loop.add_writer(sock, self._flush)
                return
            except OSError:  # it is gone: `_read` takes its last messages, and then the end
                return
            for _ in range(count):
                sent = self._waiting.popleft()
                self._waiting_bytes -= 0 if isinstance(sent, _Lost) else len(sent)
        self._loop.remove_writer(sock)

    def _next(self) -> tuple[bytes, int]:
        """The next packet, and how many entries of the queue are in it."""
        first = self._waiting[0]
        if not isinstance(first, _Event | _Lost):
            return first, 1
        events: list[bytes] = []
        size, lost, count = 0, 0, 0
        for waiting in self._waiting:
            if isinstance(waiting, _Lost) and not events:
                lost += waiting.count
            elif isinstance(waiting, _Event) and size + len(waiting) <= max(BATCH_BYTES, len(waiting)):
                events.append(bytes(waiting))  # the encoder takes no subclass
                size += len(waiting)
            else:
                break
            count += 1
        return messages.encode(messages.Happened(tuple(events), lost)), count

    # -- what comes in --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        sock = self._socket
        if sock is None:
            return
        descriptors: list[int] = []
        try:
            packet, descriptors = _receive(sock)
            if not packet:
                self._disconnect()
                self._on_end()
                return
            self._take(messages.decode_from_monitor(packet), descriptors)
        except BlockingIOError:
            return
        except ProtocolError as error:
            close_all(descriptors)
            self._disconnect()
            self._on_nonsense(str(error))

    def _take(self, message: FromMonitor, descriptors: list[int]) -> None:
        if not isinstance(message, Signed | Proved):
            self._on_order(message, descriptors)
            return
        if descriptors:
            raise ProtocolError("an answer came with descriptors")
        asked = self._asked.get(message.id)
        if asked is not None and not asked[1].done():  # else the request was given up
            asked[1].set_result(message)

    def _disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()


def _shortened(event: messages.Told) -> messages.Told:
    """The event, with long texts cut to their two ends."""
    texts = {name: getattr(event, name) for name in event.__struct_fields__}
    long = {name: text for name, text in texts.items() if isinstance(text, str) and len(text) > 2 * KEPT}
    return msgspec.structs.replace(event, **{name: text[:KEPT] + text[-KEPT:] for name, text in long.items()})


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors; empty if the monitor has closed. Lost descriptors are left out."""
    try:
        try:
            return receive(sock)
        except ConnectionResetError:
            # The monitor has closed without reading everything that was sent. The kernel reports this once, before the
            # data that can still be read (unix(7)), so try again.
            return receive(sock)
    except DescriptorsLost as error:
        return error.packet, []
    except BlockingIOError:
        raise
    except OSError:
        return b"", []
