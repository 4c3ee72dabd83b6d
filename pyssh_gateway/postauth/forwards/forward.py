"""One forwarded connection: a channel joined to a socket."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncssh
import msgspec

from pyssh_gateway.core.forwarding import ForwardingRules
from pyssh_gateway.events import ForwardClosed, ForwardOpened
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.postauth.channel import PromptClose
from pyssh_gateway.postauth.forwards.sockets import Sockets
from pyssh_gateway.postauth.orders.asleep import Asleep
from pyssh_gateway.postauth.pump import READ_BYTES, Flow, Sink, Source
from pyssh_gateway.system.descriptors import two_more

INPUT_SECONDS = 5.0
"""After the client has closed the channel: how long the socket's peer may read nothing of the data still waiting."""


class ForwardContext(msgspec.Struct, frozen=True):
    """What forwarding needs of its connection. `forbidden`: why nothing may be forwarded, despite the rules.

    `asleep` refuses to forward as long as nobody seems to be there.
    """

    conn: str
    user: str
    rules: ForwardingRules
    sockets: Sockets
    publish: Callable[[Told], None]
    now: Callable[[], float]
    on_network: Callable[[Callable[[bool], None]], Callable[[], None]]
    spawn_task: Callable[[Coroutine[Any, Any, None]], Any]
    is_closed: Callable[[], bool]
    asleep: Asleep
    forbidden: str | None = None


class Forward(asyncssh.SSHTCPSession[bytes]):
    """One channel joined to one connected socket, which it owns. Each direction ends by itself (half-close)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ForwardContext,
        *,
        kind: str,
        target: str,
        on_released: Callable[[], None],
    ) -> None:
        """Take `sock` over. If no descriptors are left, raise `OSError` and leave it to the caller."""
        reading, writing = two_more(sock.fileno())
        self._socket = sock
        self._context = context
        self._kind = kind
        self._target = target
        self._on_released = on_released
        self._channel: PromptClose | None = None
        self._sink = Sink(loop, writing, self._room, self._stop_sending, hold=self._hold)
        self._source = Source(loop, reading, deliver=self._deliver, at_end=self._ended, size=READ_BYTES, is_pty=False)
        self._forget_network: Callable[[], None] = lambda: None
        self._flow = Flow(self._source.set_reading)
        self._opened_at = 0.0
        self._released = False
        self._bytes_in = 0
        self._bytes_out = 0

    def connection_made(self, chan: Any) -> None:
        """The channel is open. While the client's window is full, at most one read is held for it."""
        self._channel = chan
        chan.set_write_buffer_limits(high=0, low=0)
        context = self._context
        self._opened_at = context.now()
        context.publish(ForwardOpened(conn=context.conn, user=context.user, kind=self._kind, target=self._target))

    def session_started(self) -> None:
        """Let the bytes flow."""
        self._forget_network = self._context.on_network(self._flow.network)
        self._source.set_reading(self._flow.is_open)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """From the client to the socket."""
        self._bytes_in += len(data)
        if not self._sink.write(data) and self._channel is not None:
            self._channel.pause_reading()
        self._close_if_over()

    def eof_received(self) -> bool:
        """The client has sent EOF: shut down our sending side of the socket. Its peer may go on sending."""
        self._sink.end()
        self._close_if_over()
        return True

    def pause_writing(self) -> None:
        """The client's window is full."""
        self._flow.channel(full=True)

    def resume_writing(self) -> None:
        """The client's window has room."""
        self._flow.channel(full=False)

    @property
    def bytes_moved(self) -> int:
        """Bytes both ways so far."""
        return self._bytes_in + self._bytes_out

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        self.release()

    def release(self) -> None:
        """Close the socket, whether or not it was ever joined to a channel."""
        if self._released:
            return
        self._released = True
        self._forget_network()
        self._source.close()
        self._sink.end(INPUT_SECONDS)
        self._socket.close()
        self._on_released()
        if self._channel is None:
            return
        context = self._context
        context.publish(
            ForwardClosed(
                conn=context.conn,
                user=context.user,
                kind=self._kind,
                target=self._target,
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
                seconds=round(context.now() - self._opened_at, 3),
            )
        )

    def _deliver(self, data: bytes) -> None:
        if self._channel is not None and self._channel.takes_data:  # else `connection_lost` will follow
            self._bytes_out += len(data)
            self._channel.write(data)

    def _ended(self) -> None:
        """The socket's peer sends no more: send EOF to the client, which may go on sending."""
        if self._channel is not None:
            self._channel.write_eof()
        self._close_if_over()

    def _stop_sending(self) -> None:
        with suppress(OSError):  # closed already, or the peer is gone
            self._socket.shutdown(socket.SHUT_WR)

    def _room(self) -> None:
        if self._channel is not None:
            self._channel.resume_reading()
        self._close_if_over()

    def _hold(self, count: int) -> None:
        if self._channel is not None:  # before there is a channel, nothing waits
            self._channel.hold(count)

    def _close_if_over(self) -> None:
        """Close the channel once both directions have ended."""
        if self._sink.closed and self._source.ended and self._channel is not None:
            self._channel.close()
