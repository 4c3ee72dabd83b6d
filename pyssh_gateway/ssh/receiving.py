"""The receiving half of a transport: bytes from the socket, packets in turns, each to its handler.

asyncssh keeps what it has read in `bytes` that it copies twice for every packet, and serves all packets of a read
before any other connection has a turn: 100,000 tiny packets blocked all connections for seconds. Here the cost of a
packet depends only on its size, and a connection has a budget for each turn of the loop.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable
from functools import partial
from typing import cast

import asyncssh
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_NEWKEYS,
    MSG_USERAUTH_LAST,
)

from pyssh_gateway.ssh import turns
from pyssh_gateway.ssh.ciphers import PacketCipher
from pyssh_gateway.ssh.packets import Message, PacketReader
from pyssh_gateway.ssh.turns import Turns

EARLY_READ_BYTES = 16 * 1024
"""Size of one read before authentication: what an unauthenticated client can make us hold besides an unfinished
packet."""

READ_BYTES = 256 * 1024
"""Size of one read after authentication, and so the bytes of a turn: asyncio's own size. Full packets take 0.3 ms."""

COSTS = {MSG_CHANNEL_OPEN: 8}
"""Messages that count as several packets in a turn's budget. Opening a channel takes tasks and maybe a socket, mostly
after its packet has been served."""

KEEPALIVE_SLACK_SECONDS = 0.1
"""How much earlier than configured a keepalive may be sent, so that a transfer does not reset its timer every read."""

_LONGEST_GREETING = 8192
"""How far asyncssh looks for the end of an identification line (RFC 4253 section 4.2 allows 255 bytes)."""


_THROWN_AWAY = memoryview(bytearray(EARLY_READ_BYTES))
"""The buffer that all closed connections read into. Their input is only read so that the peer gets our last message."""


class Receiving(SSHServerConnection, asyncio.BufferedProtocol):
    """A connection's input. Packets are served in order, one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions) -> None:
        super().__init__(loop, options)
        self.bytes_in = 0
        self._reader = PacketReader()
        self._read_bytes = EARLY_READ_BYTES
        self._identified = False
        self._handler: asyncio.Task[None] | None = None
        self._input_turns = Turns(loop, self._take_turn)
        self._held: set[str] = set()
        self._reading_paused = False
        self._keepalive_set_at = float("-inf")

    # -- the socket ---------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio is to read to."""
        if self._transport is None:
            return _THROWN_AWAY
        return self._reader.room(self._read_bytes)

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the peer."""
        self.bytes_in += nbytes
        if self._transport is None:
            return
        self._reader.received(nbytes)
        if not self._may_go_on():
            return
        self._reset_keepalive_timer()
        if not self._input_turns.is_due:
            self._take_turn()

    def _may_go_on(self) -> bool:
        """Whether to go on after the bytes received so far; a subclass sets limits here."""
        return True

    def _reset_keepalive_timer(self) -> None:
        now = self._loop.time()
        if self._auth_complete and now - self._keepalive_set_at >= KEEPALIVE_SLACK_SECONDS:
            self._keepalive_set_at = now
            super()._reset_keepalive_timer()

    def hold_input(self, reason: str) -> None:
        """Serve no more packets, and stop reading, until `release_input` has been called for each reason."""
        self._held.add(reason)
        self._pause_or_resume_reading()

    def release_input(self, reason: str) -> None:
        """Continue where `hold_input` stopped, in a later turn."""
        if reason in self._held:
            self._held.discard(reason)
            if not self._held:
                self._input_turns.next()
                self._pause_or_resume_reading()

    def _pause_or_resume_reading(self) -> None:
        """Read only while no received packet could be served instead, which bounds what is held."""
        if self._transport is None:
            return
        waiting = self._reader.waiting_bytes
        paused = bool(
            self._held or self._input_turns.is_due or (self._handler is not None and waiting >= self._read_bytes)
        )
        if paused != self._reading_paused:
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # -- turns --------------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        """Serve packets until this turn's budget is used up; the rest follows after the other connections' turns."""
        try:
            self._serve()
        except asyncssh.DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:  # noqa: BLE001 - whatever a handler raises ends this connection, and is reported
            self.internal_error()
        if self._transport is None:
            self._input_is_over()
        else:
            self._reader.rest()
            self._pause_or_resume_reading()

    def _serve(self) -> None:
        reader = self._reader
        deadline = self._loop.time() + turns.SECONDS
        left = turns.PACKETS
        while left > 0:
            if self._transport is None or self._handler is not None or self._held:
                return
            message = reader.next(self._recv_seq) if self._identified or self._take_identification() else None
            if message is None:
                self._input_turns.done()
                return
            self.dispatch(message)
            left -= COSTS.get(message.number, 1)
            if self._loop.time() > deadline:
                self._input_turns.next()
                return
        if reader.waiting_bytes:
            self._input_turns.used_up()

    def _take_identification(self) -> bool:
        """The identification line (RFC 4253 section 4.2), which asyncssh judges and answers; whether to go on."""
        self._inpbuf = self._reader.peek(_LONGEST_GREETING)
        if not self._inpbuf:
            return False
        before = len(self._inpbuf)
        self._identified = self._recv_version() and self._transport is not None
        self._reader.skip(before - len(self._inpbuf))
        self._inpbuf = b""
        return self._identified

    # -- messages -----------------------------------------------------------------------------------------------

    @abstractmethod
    def dispatch(self, message: Message) -> None:
        """Hand a message to its handler, and then to `await_handler` or `message_served`. Raises `DisconnectError`."""

    def await_handler(self, result: Awaitable[None], number: int, sequence: int) -> None:
        """Serve no further packet until the asynchronous handler of this one has finished."""
        self._handler = self.create_task(result)
        self._handler.add_done_callback(partial(self._handler_is_done, number, sequence))

    def _handler_is_done(self, number: int, sequence: int, _task: "asyncio.Task[None]") -> None:
        self._handler = None
        self.message_served(number, sequence)
        self._take_turn()

    def message_served(self, number: int, sequence: int) -> None:
        """Count the packet, and switch to new keys after NEWKEYS."""
        if number > MSG_USERAUTH_LAST:
            self._auth_final = True
        if self._transport is None:
            return
        if sequence == 0xFFFFFFFF and not self._recv_encryption:
            raise asyncssh.ProtocolError("Sequence rollover before kex complete")
        self._recv_seq = sequence + 1 & 0xFFFFFFFF
        if number == MSG_NEWKEYS:
            encryption = cast("PacketCipher | None", self._recv_encryption)  # made by `Transport.send_newkeys`
            self._reader.use(encryption, self._recv_blocksize, self._recv_macsize)
            if self._strict_kex:
                self._recv_seq = 0

    def _cleanup(self, exc: Exception | None) -> None:
        """The connection is over: drop its input, and cancel the handler that still runs."""
        if self._handler is not None:
            self._handler.cancel()
        super()._cleanup(exc)
        self._input_is_over()

    def _input_is_over(self) -> None:
        self._input_turns.end()
        self._reader.clear()
