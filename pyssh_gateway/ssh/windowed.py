"""A channel whose window `core.windows` decides about, within what its account may have us hold."""

from typing import Any, Protocol, cast

from asyncssh.constants import MSG_CHANNEL_EOF, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import SSHPacket, UInt32

from pyssh_gateway.core.windows import FIRST_BYTES, Budget, Line, Window
from pyssh_gateway.ssh.lenient import LenientChannel

WINDOW_BYTES = FIRST_BYTES
"""What asyncssh is told of a channel's window, which `core.windows` decides about."""

PACKET_BYTES = 32 * 1024
"""The largest data packet that we ask for: sshd's, which every client is used to."""


class FlowFacts(Protocol):
    """What our connection knows that windows depend on."""

    line: Line

    @property
    def budget(self) -> Budget:
        """What all channels of the account may hold."""


class WindowedChannel(LenientChannel):
    """A channel that offers its peer what there is for it, and when it is worth a packet.

    `hold` counts bytes (negative: no more) that are held for its process elsewhere.
    """

    def __init__(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(conn, *args, **kwargs)
        facts = cast(FlowFacts, conn)
        self.hold = facts.budget.hold
        self._window = Window(facts.budget, facts.line, PACKET_BYTES, self._loop.time)
        self._recv_window = self._window.offered

    async def _finish_open_request(self, result: Any) -> None:
        await super()._finish_open_request(result)
        self._window.confirmed()

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        if not data or self._send_state in {"close_pending", "closed"}:
            return
        self._window.received(len(data))
        self._recv_window = self._window.offered
        if self._recv_paused:
            self._recv_buf.append((data, datatype))
        else:
            self._deliver_data(data, datatype)

    def _deliver_data(self, data: bytes, datatype: int | None) -> None:
        if self._session is not None:
            self._session.data_received(data, datatype)
        self._window.taken(len(data))
        self._give_window()

    def resume_reading(self) -> None:
        """Deliver what waits, and what comes; the peer may send more."""
        super().resume_reading()
        self._give_window()

    def _give_window(self) -> None:
        """Offer what the account has for this channel, unless its process has not taken what came last."""
        if self._recv_paused:
            return
        more = self._window.offer()
        if more:
            self._recv_window = self._window.offered
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(more))

    def heard(self) -> None:
        """Something other than data came: it tells how far the peer is."""
        self._window.heard()

    def discard_input(self) -> None:
        """What has come and waits is not ours to hold any more."""
        self._recv_buf.clear()
        self._window.discard()

    def _process_eof(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """The peer sends no more, so what it was offered is free for others."""
        self._window.close()
        super()._process_eof(pkttype, pktid, packet)

    def _discard_recv(self) -> None:
        """Nobody wants what has come, or would come."""
        super()._discard_recv()
        self._window.discard()

    def _cleanup(self, exc: Exception | None = None) -> None:
        """The channel is gone, and what it held at once: it is part of cycles, which the collector finds late."""
        self.discard_input()
        self._send_buf.clear()
        super()._cleanup(exc)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **LenientChannel._packet_handlers,  # noqa: SLF001 - the same
        MSG_CHANNEL_EOF: _process_eof,
    }
