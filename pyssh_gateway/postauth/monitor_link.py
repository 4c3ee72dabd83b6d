"""This process's end of the monitor's socket: what has happened goes out, orders come in, signatures are asked for.

Nothing in here waits for the monitor, which may be busy, stopped or gone: what it is to be told waits in a bounded
queue, and goes to the next one if this one is gone. What does not fit is counted, and that is told. This module does
not know what the orders mean.
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
"""Packets that wait for the monitor, events above all: more than a minute's of an account that works hard, and all that
happens while one monitor dies and the next begins."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""The same in bytes: an event may be as long as a command."""

BATCH_BYTES = 32 * 1024
"""Events in one message: a hundred or so. The monitor serves every account in turns of one message each."""

TOGETHER_SECONDS = 0.01
"""How long what was done to a file waits for the next one: a message for each of a thousand small files takes both
processes longer than all else that is done for them."""

MAX_EVENT_BYTES = MAX_MESSAGE // 2
KEPT = 4096
"""An event is no longer than a message has room for. Of a longer one, so many characters are told from both ends of
each text: more than the log shows. Nobody runs a command of that length, as no kernel takes it."""

ANSWER_SECONDS = 30.0
"""How long a rekey may wait for its signature: longer than the start of another monitor takes."""

T = TypeVar("T")


class Unanswered(Exception):
    """The monitor has refused, or there was no answer in time. The text says which."""


class _Lost:
    """So many events belong here, and were more than could be kept."""

    def __init__(self) -> None:
        self.count = 0


class _Event(bytes):
    """A packed event."""


_Answer = Signed | Proved
_Waiting = _Event | bytes | _Lost


class MonitorLink:
    """The way to the monitor, whichever runs. `connect` has to be called for there to be one.

    `on_order` gets each message that answers nothing, with its descriptors, which it owns; for what no monitor says it
    raises `ProtocolError` and leaves them alone. `on_nonsense` is called for that and for what is no message, with why;
    `on_end` when a monitor has gone.
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
        """Whether there is a monitor, as far as is known."""
        return self._socket is not None

    @property
    def has_told_all(self) -> bool:
        """Whether nothing waits for the monitor any more, after a try to send it."""
        self._flush()
        return not self._waiting

    def connect(self, sock: socket.socket) -> None:
        """Talk to the monitor at the other end of `sock` from now on: it gets what waits, and what was not answered."""
        self._disconnect()
        self._socket = sock
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)
        for packet, answer in self._asked.values():
            if not answer.done() and not any(waiting is packet for waiting in self._waiting):
                self._keep(packet)
        self._flush()

    def close(self) -> None:
        """Send what there is room for, and have nothing to do with any monitor any more."""
        self._flush()
        self._disconnect()
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unanswered("the server is gone"))

    # -- what goes out --------------------------------------------------------------------------------------------

    def happened(self, event: messages.Told) -> None:
        """Tell of an event of one of our connections. Whose it is the monitor knows by itself."""
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
        """Tell something else, in its order; too much of it counts as lost events do."""
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
        """Send at the end of this turn, so that what happens in it is told together."""
        if self._flush_due is not None and self._is_flush_late:
            self._flush_due.cancel()
            self._flush_due = None
        if self._flush_due is None:
            self._is_flush_late = False
            self._flush_due = self._loop.call_soon(self._flush)

    def _flush_later(self) -> None:
        """Send together what comes until then, unless something else is sent before."""
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
            except OSError:  # it is gone: what it said last may still be there to be read, and then the end
                return
            for _ in range(count):
                sent = self._waiting.popleft()
                self._waiting_bytes -= 0 if isinstance(sent, _Lost) else len(sent)
        self._loop.remove_writer(sock)

    def _next(self) -> tuple[bytes, int]:
        """The next packet, and how many of those that wait are in it."""
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
        if asked is not None and not asked[1].done():  # else it was given up
            asked[1].set_result(message)

    def _disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()


def _shortened(event: messages.Told) -> messages.Told:
    """The event with nothing but the two ends of its long texts."""
    texts = {name: getattr(event, name) for name in event.__struct_fields__}
    long = {name: text for name, text in texts.items() if isinstance(text, str) and len(text) > 2 * KEPT}
    return msgspec.structs.replace(event, **{name: text[:KEPT] + text[-KEPT:] for name, text in long.items()})


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors; no bytes: it has closed. A message without its descriptors has none."""
    try:
        try:
            return receive(sock)
        except ConnectionResetError:
            # Said once, and before what can still be read (unix(7)): it has closed without reading all that was sent.
            return receive(sock)
    except DescriptorsLost as error:
        return error.packet, []
    except BlockingIOError:
        raise
    except OSError:
        return b"", []
