"""Typed messages over one end of a `SOCK_SEQPACKET` socket pair, to a process that is not trusted and may be stuck.

Nothing in here waits for the other side: messages that it does not read are queued, up to a limit; beyond that limit
the other side counts as stuck. This module does not know what the messages say.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.system.descriptors import close_all

MAX_QUEUED_BYTES = 4 * protocol.MAX_MESSAGE
"""Bytes that may be queued for a process that does not read, beside the socket's buffer: with more it is stuck. A login
needs a few KiB, so this is room for hundreds of them."""

STUCK = "it does not read what it is told"
GONE = ""

Message = TypeVar("Message")


class MessageSocket(Generic[Message]):
    """One end. `on_message` gets the messages, one packet in a turn of the loop; `on_end` is called once, with why.

    The reason is empty if the other side closed the socket; otherwise that process has broken the protocol and should
    be ended. A packet with descriptors breaks it, too: neither kind of process has one to send.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        decode: Callable[[bytes], Message],
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._decode = decode
        self._on_message = on_message
        self._on_end = on_end
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._queued_bytes = 0
        self._is_deaf = False
        self.closed = False
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def send(self, packet: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a packet as soon as there is room; the caller keeps the descriptors. Does nothing after the end."""
        if self.closed or self._is_deaf:
            return
        if self._queued_bytes + len(packet) > MAX_QUEUED_BYTES:
            self._fail(STUCK)
            return
        self._queue.append((packet, [os.dup(descriptor) for descriptor in descriptors]))
        self._queued_bytes += len(packet)
        self._flush()

    def pause(self) -> None:
        """Stop reading until `resume`: messages wait in the socket meanwhile."""
        if not self.closed:
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Read again."""
        if not self.closed:
            self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop reading and sending; `on_end` is not called."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()

    def _flush(self) -> None:
        while self._queue:
            packet, descriptors = self._queue[0]
            try:
                socket.send_fds(self._socket, [packet], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                # The other side is gone. Its earlier messages may still be there to be read, followed by the end.
                self._is_deaf = True
                break
            self._queue.popleft()
            self._queued_bytes -= len(packet)
            close_all(descriptors)
        self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            packet, descriptors = self._receive()
        except BlockingIOError:
            return
        except (protocol.DescriptorsLost, ProtocolError) as error:
            self._fail(str(error))
            return
        except OSError:
            packet, descriptors = b"", []
        if descriptors:
            close_all(descriptors)
            self._fail("descriptors came with a message that has none")
            return
        if not packet:
            self._fail(GONE)
            return
        try:
            message = self._decode(packet)
        except ProtocolError as error:
            self._fail(str(error))
            return
        self._on_message(message)

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            return protocol.receive(self._socket)
        except ConnectionResetError:
            # The other side has closed without reading everything. The kernel reports that once, before the rest can be
            # read (unix(7)).
            return protocol.receive(self._socket)

    def _fail(self, reason: str) -> None:
        if self.closed:
            return
        self.close()
        self._on_end(reason)
