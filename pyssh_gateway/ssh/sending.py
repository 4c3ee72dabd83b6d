"""The sending half of a channel (RFC 4254 section 5.2): data in packets of the size that the peer takes, in turns.

asyncssh sends until the peer's window is full. A peer may limit packets to one byte: one read of 64 KiB became 65,536
packets in one turn of the loop, and those of a hundred channels blocked all connections for 15 s.
"""

from collections.abc import Callable
from typing import Protocol, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, UInt32

TURN_PACKETS = 16
"""Data packets of one channel before the other channels of its connection have a turn. Usually one is enough; there are
only more for a client that limits packets to less than one read. sshd sends one (channels.c, channel_output_poll)."""

MAX_WINDOW = 0xFFFFFFFF
"""The largest window (RFC 4254 section 5.2)."""


class DataTurns(Protocol):
    """How a connection shares its turns of the loop among its channels; see `transport.Transport`."""

    def may_send_data(self, go_on: Callable[[], None]) -> bool:
        """Whether one more data packet may be sent now; else `go_on` is called later."""

    def yield_data(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called after the other channels had their turn."""

    def drop_data(self, go_on: Callable[[], None]) -> None:
        """Do not call `go_on` any more."""


class FairChannel(SSHChannel[bytes]):
    """A channel that sends its data in turns. Waiting data is bounded, because its source is paused meanwhile."""

    def _flush_send_buf(self) -> None:
        """Send what the peer's window and this turn have room for, in packets of the size that the peer takes.

        asyncssh's method goes on until the window is full (see above).
        """
        turns = cast(DataTurns, self._conn)
        left = TURN_PACKETS
        while self._send_buf and self._send_window:
            if not left:
                turns.yield_data(self._go_on_sending)
                break
            if not turns.may_send_data(self._go_on_sending):
                break
            left -= 1
            self._send_data(*self._next_data())
        self._pause_resume_writing()
        if not self._send_buf:
            if self._send_state == "eof_pending":
                self.send_packet(MSG_CHANNEL_EOF)
                self._send_state = "eof"
            elif self._send_state == "close_pending":
                self._close_send()

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """Send data that fits into one packet, the usual case, without the copy that asyncssh makes of all data."""
        if (
            0 < len(data) <= min(self._send_window, self._send_pktsize)
            and not self._send_buf
            and self._send_state == "open"
            and (datatype is None or datatype in self._write_datatypes)
            and cast(DataTurns, self._conn).may_send_data(self._go_on_sending)
        ):
            self._send_window -= len(data)
            self._send_data(data, datatype)
        else:
            super().write(data, datatype)

    def _send_data(self, data: bytes, datatype: int | None) -> None:
        """Send one packet of data; its parts are only joined for encryption."""
        conn, number = self._conn, self._send_chan
        if conn is None or number is None:
            return
        if datatype is None:
            conn.send_packet(MSG_CHANNEL_DATA, UInt32(number) + UInt32(len(data)), data, handler=self)
        else:
            header = UInt32(number) + UInt32(datatype) + UInt32(len(data))
            conn.send_packet(MSG_CHANNEL_EXTENDED_DATA, header, data, handler=self)

    def _next_data(self) -> tuple[bytes, int | None]:
        """Take as much waiting data as fits into one packet."""
        size = min(self._send_window, self._send_pktsize)
        waiting, datatype = self._send_buf[0]
        if len(waiting) > size:
            data = waiting[:size]
            del waiting[:size]
        else:
            data = waiting
            del self._send_buf[0]
        self._send_buf_len -= len(data)
        self._send_window -= len(data)
        return cast(bytes, data), datatype  # may be a bytearray, which can be joined, too

    def _go_on_sending(self) -> None:
        if self._send_buf:  # else it has been dropped meanwhile
            self._flush_send_buf()

    def _cleanup(self, exc: Exception | None = None) -> None:
        if self._conn is not None:
            cast(DataTurns, self._conn).drop_data(self._go_on_sending)
        super()._cleanup(exc)

    def _process_window_adjust(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """More room to send. An overflow ends the connection, as in sshd (channels.c, "overflows remote window")."""
        if self._recv_state not in {"open", "eof_pending", "eof"}:
            raise asyncssh.ProtocolError("Channel not open")
        self._send_window += packet.get_uint32()
        packet.check_end()
        if self._send_window > MAX_WINDOW:
            raise asyncssh.ProtocolError("Window adjust overflows the window")
        if self._send_buf:
            self._flush_send_buf()

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **SSHChannel._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_CHANNEL_WINDOW_ADJUST: _process_window_adjust,
    }
