"""This process's end of the monitor's socket: events go out, orders come in, signatures are requested.

Nothing here blocks on the monitor, which may be busy, stopped or gone: messages wait in a bounded queue, and go to the
next monitor if this one is gone. Reports (events, and messages that lead to one) are numbered, and kept until a monitor
has written them to the log: one that dies before that has taken none with it. Events that do not fit are counted, and
the count is sent. This module does not know what the orders mean.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from pyssh_gateway.events import FileOperation
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc.postauth import FromMonitor, Logged, Proved, Signed
from pyssh_gateway.ipc.spawner import DescriptorsLost, ProtocolError, receive
from pyssh_gateway.postauth.outgoing import Outgoing
from pyssh_gateway.system.descriptors import close_all

TOGETHER_SECONDS = 0.01
"""How long a file operation waits so that others can share its message: with a thousand small files, one message each
would cost both processes more than everything else that is done for the files."""

LOGGED_SECONDS = 1.0
"""How long a client may wait for its exit status because the log does not have it yet. The monitor usually needs less
than a millisecond, and one that is busy, or has just been started, a tenth of a second. One that takes longer is
stopped or stuck, and a person should not have to wait for that. Then nobody waits any more until it answers."""

ANSWER_SECONDS = 30.0
"""How long a rekey may wait for its signature: longer than another monitor takes to start."""

T = TypeVar("T")


class Unanswered(Exception):
    """The monitor refused, or did not answer in time. The text says which."""


class _Waiter(msgspec.Struct):
    """A function to call when the log has the report with this number, or at the time `until` of the loop."""

    number: int
    done: Callable[[], None]
    until: float


_Answer = Signed | Proved


class MonitorLink:
    """The connection to the monitor, and to its successors. `connect` gives it the socket of each.

    `on_order` gets each message that is not an answer, with its descriptors, which it then owns. For an invalid order
    it raises `ProtocolError`, and does not touch the descriptors. `on_nonsense` is called with the reason for such an
    order, and for a packet that is no message; `on_end` is called when a monitor has gone. `is_last` is set when no
    other monitor will come.
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
        self._queue = Outgoing()
        self._waiters: deque[_Waiter] = deque()
        self._deadline: asyncio.TimerHandle | None = None
        self._is_silent = False
        self.is_last = False
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
        """Whether all was sent, after an attempt to do that, and all reports are logged."""
        self._flush()
        return not self._queue.waits and not self._queue.unlogged

    def connect(self, sock: socket.socket) -> None:
        """Use the monitor at the other end of `sock` from now on.

        It gets what was not logged, the queue, and the unanswered requests.
        """
        self._disconnect()
        self._queue.begin_again()
        self._socket = sock
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)
        for packet, answer in self._asked.values():
            if not answer.done() and packet not in self._queue:
                self._queue.add(packet)
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
        self._queue.add_event(event)
        if isinstance(event, FileOperation):
            self._flush_later()
        else:
            self._flush_soon()

    def took(self, conn: str, client: str, algorithms: messages.Negotiated) -> None:
        """Report that a connection is served, and that its client was told that it has logged in."""
        taken = partial(messages.Taken, conn=conn, client=client, cipher=algorithms.cipher_out, algorithms=algorithms)
        self._queue.add_report(taken)
        self._flush_soon()

    def crashed(self, conn: str, text: str) -> None:
        """Report a bug of ours."""
        self._queue.add_report(lambda number: messages.Crashed(number, conn, text))
        self._flush_soon()

    def tell(self, message: messages.Reported | messages.Busy) -> None:
        """Send another message, in order with the reports; one that finds the queue full counts as a lost event."""
        self._queue.add(messages.encode(message))
        self._flush_soon()

    def once_logged(self, done: Callable[[], None]) -> None:
        """Call `done` when the log has all that was reported so far; perhaps at once.

        It is called, too, when the reports wait for the next monitor, or after `LOGGED_SECONDS`. It is not called if
        there will be no other monitor to write them down.
        """
        self._flush()
        number = self._queue.last_report
        if self._queue.logged >= number or self._is_silent:
            done()
        elif self._socket is None:
            if not self.is_last:
                done()
        else:
            until = self._loop.time() + LOGGED_SECONDS
            self._waiters.append(_Waiter(number, done, until))
            if self._deadline is None:
                self._deadline = self._loop.call_at(until, self._waited_too_long)

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
        if not self._queue.add(packet, counted=False):
            raise Unanswered("too much waits for the monitor")
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        self._asked[number] = packet, answer
        self._flush_soon()
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

    # -- sending --------------------------------------------------------------------------------------------------

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
        while (packet := self._queue.next()) is not None:
            try:
                sock.send(packet)
            except BlockingIOError:
                self._loop.add_writer(sock, self._flush)
                return
            except OSError:  # it is gone: `_read` takes its last messages, and then the end
                return
            self._queue.was_sent()
        self._loop.remove_writer(sock)

    # -- what is in the log ---------------------------------------------------------------------------------------

    def _has_logged(self, number: int) -> None:
        self._queue.are_logged(number)
        self._is_silent = False
        self._call_waiters(lambda waiter: waiter.number <= number)

    def _waited_too_long(self) -> None:
        self._deadline = None
        self._is_silent = True
        self._call_waiters(lambda _: True)

    def _call_waiters(self, which: Callable[[_Waiter], bool]) -> None:
        """Call those at the beginning of the queue for which `which` is true."""
        due: list[_Waiter] = []
        while self._waiters and which(self._waiters[0]):
            due.append(self._waiters.popleft())
        if due and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._waiters and self._deadline is None:
            self._deadline = self._loop.call_at(self._waiters[0].until, self._waited_too_long)
        for waiter in due:
            waiter.done()

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
        if not isinstance(message, Signed | Proved | Logged):
            self._on_order(message, descriptors)
            return
        if descriptors:
            raise ProtocolError("an answer came with descriptors")
        if isinstance(message, Logged):
            self._has_logged(message.number)
            return
        asked = self._asked.get(message.id)
        if asked is not None and not asked[1].done():  # else the request was given up
            asked[1].set_result(message)

    def _disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()
        self._is_silent = False
        if self.is_last:
            self._waiters.clear()
        self._call_waiters(lambda _: True)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


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
