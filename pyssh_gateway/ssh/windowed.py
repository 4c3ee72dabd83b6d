"""A channel whose window `core.windows` decides, within the memory that its account may use."""

from typing import Any, Protocol, cast

from asyncssh.constants import MSG_CHANNEL_EOF, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import SSHPacket, UInt32

from pyssh_gateway.core.windows import FIRST_BYTES, Budget, Line, Window
from pyssh_gateway.ssh.lenient import LenientChannel

WINDOW_BYTES = FIRST_BYTES
"""The initial window that asyncssh gets; after that `core.windows` decides."""

PACKET_BYTES = 32 * 1024
"""The largest data packet that we ask for: sshd's, so that every client copes with it."""


class FlowFacts(Protocol):
    """The attributes of our connection that windows depend on."""

    line: Line

    @property
    def budget(self) -> Budget:
        """The memory that all channels of the account may hold."""


class WindowedChannel(LenientChannel):
    """A channel that offers its peer the window that the budget allows, when it is worth a packet.

    `hold` counts bytes that are held elsewhere for its process; a negative number gives them back.
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
        """Deliver waiting and further input; the peer may send more."""
        super().resume_reading()
        self._give_window()

    def _give_window(self) -> None:
        """Offer the window that the budget allows, unless the process has not read the last input yet."""
        if self._recv_paused:
            return
        more = self._window.offer()
        if more:
            self._recv_window = self._window.offered
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(more))

    def heard(self) -> None:
        """A message other than data has come; its time of arrival gives the round trip to the peer."""
        self._window.heard()

    def discard_input(self) -> None:
        """Drop waiting input, and no longer count it."""
        self._recv_buf.clear()
        self._window.discard()

    def _process_eof(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """The peer sends no more data, so the window it was offered is free for other channels."""
        self._window.close()
        super()._process_eof(pkttype, pktid, packet)

    def _discard_recv(self) -> None:
        """Discard received and further input."""
        super()._discard_recv()
        self._window.discard()

    def _cleanup(self, exc: Exception | None = None) -> None:
        """The channel is gone: free its buffers now. It is part of reference cycles, which are collected late."""
        self.discard_input()
        self._send_buf.clear()
        super()._cleanup(exc)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **LenientChannel._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_CHANNEL_EOF: _process_eof,
    }
