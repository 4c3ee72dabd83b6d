"""A channel that tolerates the same messages in a wrong state as OpenSSH's channels.c.

asyncssh ends the connection, and with it every other channel, for an EOF that is sent twice. What sshd does not
tolerate ends the connection here, too: any message but a window adjustment for a channel that both sides have closed.
"""

from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket

from pyssh_gateway.ssh.sending import FairChannel

_ENDED = frozenset({"eof_pending", "eof", "close_pending"})
"""The states after the client's EOF or close. Data that it sends after that is ignored."""


class LenientChannel(FairChannel):
    """Any channel of a server, which never expects extended data."""

    def _process_data(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if self._recv_state not in _ENDED:
            super()._process_data(pkttype, pktid, packet)

    def _process_extended_data(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """sshd logs "bad ext data" and goes on, but not after an EOF."""
        if self._recv_state not in {"open", "close_pending"}:
            super()._process_extended_data(pkttype, pktid, packet)

    def _process_eof(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if self._recv_state not in _ENDED:
            super()._process_eof(pkttype, pktid, packet)

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if self._recv_state != "close_pending":
            super()._process_close(pkttype, pktid, packet)

    def _process_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if self._recv_state != "close_pending":
            super()._process_request(pkttype, pktid, packet)

    def _process_window_adjust(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Ignore one that has crossed with our close: the client could not know of it."""
        if self._recv_state not in {"closed", "close_pending"}:
            super()._process_window_adjust(pkttype, pktid, packet)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **FairChannel._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_CHANNEL_DATA: _process_data,
        MSG_CHANNEL_EXTENDED_DATA: _process_extended_data,
        MSG_CHANNEL_EOF: _process_eof,
        MSG_CHANNEL_CLOSE: _process_close,
        MSG_CHANNEL_REQUEST: _process_request,
        MSG_CHANNEL_WINDOW_ADJUST: _process_window_adjust,
    }
