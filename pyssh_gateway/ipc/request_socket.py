"""Requests and answers over a `SOCK_SEQPACKET` socket: shared by the clients of the spawner and of its processes."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.system.descriptors import close_all

MAX_QUEUED = 256
"""Requests that may wait for room in the socket; with more, the other side is stuck."""

Report = TypeVar("Report")
Answer = tuple[Report, list[int]]


class Unanswered(Exception):
    """There was no answer; the text says why."""


class RequestSocket(Generic[Report]):
    """One end of a socket pair. `number_of` gives the id of the request that a report answers, None for news.

    `on_news` gets the reports that answer no request, and owns their descriptors; `on_lost` is called once when the
    other side is gone. Numbers of requests begin above `above`.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        decode: Callable[[bytes], Report],
        number_of: Callable[[Report], int | None],
        on_news: Callable[[Report, list[int]], None],
        on_lost: Callable[[], None],
        above: int = 0,
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._decode = decode
        self._number_of = number_of
        self._on_news = on_news
        self._on_lost = on_lost
        self._last_number = above
        self._answers: dict[int, asyncio.Future[Answer[Report]]] = {}
        self._queue: deque[tuple[bytes, Hashable]] = deque()
        self._keys: set[Hashable] = set()
        self.closed = False
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def close(self) -> None:
        """Stop listening; open requests fail."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(Unanswered("the process that was asked is gone"))

    def new_number(self) -> int:
        """An id for a request."""
        self._last_number += 1
        return self._last_number

    def begin_above(self, number: int) -> None:
        """Use only numbers above this one from now on."""
        self._last_number = max(self._last_number, number)

    async def ask(self, number: int, packet: bytes, seconds: float) -> Answer[Report]:
        """Send the request `number` and wait for its answer; the descriptors in it are the caller's to close."""
        future: asyncio.Future[Answer[Report]] = self._loop.create_future()
        self._answers[number] = future
        try:
            self.send(packet)
            async with asyncio.timeout(seconds):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            # Answered, but cancelled before the caller took the answer.
            if future.done() and not future.cancelled() and future.exception() is None:
                close_all(future.result()[1])
            if isinstance(error, TimeoutError):
                raise Unanswered(f"no answer within {seconds:.0f} s") from None
            raise
        finally:
            del self._answers[number]

    def send(self, packet: bytes, key: Hashable = None) -> None:
        """Send a request that has no answer.

        Of those with the same `key` only one waits for room, because the others would say the same. So there are at
        most as many as there are keys, and they don't count towards the limit of waiting requests.
        """
        if self.closed:
            raise Unanswered("the process that is asked is gone")
        if key is None:
            if len(self._queue) - len(self._keys) >= MAX_QUEUED:
                raise Unanswered("too many requests are waiting")
        elif key in self._keys:
            return
        else:
            self._keys.add(key)
        self._queue.append((packet, key))
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            packet, key = self._queue[0]
            try:
                self._socket.send(packet)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._queue.popleft()
            self._keys.discard(key)
        self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        lost = False
        try:
            packet, descriptors = protocol.receive(self._socket)
        except BlockingIOError:
            return
        except protocol.DescriptorsLost as error:
            packet, descriptors, lost = error.packet, [], True
        except (OSError, protocol.ProtocolError):
            packet, descriptors = b"", []
        if not packet:
            self._lost()
            return
        try:
            report = self._decode(packet)
        except protocol.ProtocolError:
            close_all(descriptors)
            self._lost()
            return
        number = self._number_of(report)
        if number is None:
            self._on_news(report, descriptors)
            return
        future = self._answers.get(number)
        if future is None or future.done():  # the caller gave up
            close_all(descriptors)
            return
        if lost:
            future.set_exception(Unanswered("no descriptors are left for the answer"))
            return
        future.set_result((report, descriptors))

    def _lost(self) -> None:
        self.close()
        self._on_lost()
