"""Passes every message to its handler, or treats it as sshd would (`core.dispatch`).

asyncssh ends the connection for a message that comes at the wrong time. sshd tolerates many of those, and clients in
the field rely on that.
"""

import inspect
from abc import abstractmethod

import asyncssh
from asyncssh.constants import MSG_REQUEST_FAILURE, MSG_REQUEST_SUCCESS, MSG_SERVICE_REQUEST, MSG_UNIMPLEMENTED
from asyncssh.packet import PacketDecodeError, SSHPacket, String, UInt32

from pyssh_gateway.core.dispatch import AUTHENTICATED, CHANNEL_WINDOW_ADJUST, PONG, Moment, Route, route
from pyssh_gateway.ssh.packets import Message
from pyssh_gateway.ssh.receiving import Receiving

_USERAUTH = b"ssh-userauth"


class Dispatch(Receiving):
    """Replaces asyncssh's choice of a message's handler."""

    def dispatch(self, message: Message) -> None:
        """Have a message served. Raises `DisconnectError`."""
        number, sequence = message.number, self._recv_seq
        try:
            self._message_arrives(number, message)
            where = AUTHENTICATED.get(number) if self._auth_complete else None
            if where is Route.CHANNEL:
                result = self._serve_channel(number, sequence, message)
            else:
                result = self._serve_message(where or route(number, self._moment), number, sequence, message)
        except PacketDecodeError as error:
            raise asyncssh.ProtocolError(str(error)) from None
        if result is not True and inspect.isawaitable(result):
            self.await_handler(result, number, sequence)
        else:
            self.message_served(number, sequence)

    def _message_arrives(self, number: int, packet: SSHPacket) -> None:
        """A message has come, and is about to be served; for a subclass."""

    @property
    def _moment(self) -> Moment:
        return Moment(
            has_keys=self._recv_encryption is not None,
            strict=self._strict_kex,
            exchanging=self._kex is not None or self._next_recv_encryption is not None,
            awaits_kex_init=self._kex is not None,
            awaits_newkeys=self._next_recv_encryption is not None,
            awaits_ext_info=self._can_recv_ext_info,
            serves_authentication=self._auth_in_progress,
            authenticated=self._auth_complete,
        )

    def _serve_message(self, where: Route, number: int, sequence: int, packet: SSHPacket) -> object:
        """Serve a message by its route; returns what the handler returns, which may have to be awaited."""
        if where is Route.CONNECTION:
            return self.process_packet(number, sequence, packet)
        if where is Route.KEY_EXCHANGE and self._kex is not None:
            if not self._ignore_first_kex:
                return self._serve_key_exchange(number, sequence, packet)
            self._ignore_first_kex = False  # a wrong guess (RFC 4253 section 7)
            return None
        if where is Route.PING:
            self._answer_ping(packet.get_string())
        elif where is Route.REFUSE:
            self.send_packet(MSG_UNIMPLEMENTED, UInt32(sequence))
        elif where is Route.VIOLATION:
            strict = "Strict key exchange violation: " if self._strict_kex and not self._recv_encryption else ""
            raise asyncssh.ProtocolError(f"{strict}unexpected packet type {number} received")
        return None

    @abstractmethod
    def _serve_key_exchange(self, number: int, sequence: int, packet: SSHPacket) -> object:
        """The same for a message of the key exchange in progress."""

    def _serve_channel(self, number: int, sequence: int, packet: SSHPacket) -> object:
        channel_number = packet.get_uint32()
        channel = self._channels.get(channel_number)
        if channel is not None:
            return channel.process_packet(number, sequence, packet)
        if number != CHANNEL_WINDOW_ADJUST:  # may cross with the channel's end: channels.c ignores it
            raise asyncssh.ProtocolError(f"Invalid channel number {channel_number} received")
        return None

    def _answer_ping(self, data: bytes) -> None:
        """As packet.c: answer neither before authentication nor during a key exchange."""
        if self._auth_complete and self._kex_complete:
            self.send_packet(PONG, String(data))

    def _process_service_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """sshd grants ssh-userauth again to a client that asks again before it has authenticated."""
        if SSHPacket(packet.get_remaining_payload()).get_string() == _USERAUTH:
            self._next_service = _USERAUTH
        super()._process_service_request(pkttype, pktid, packet)

    def _process_global_response(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Ignore an unasked answer, as sshd does: phpseclib answers `hostkeys-00@openssh.com`, which wants none."""
        if self._global_request_waiters:
            super()._process_global_response(pkttype, pktid, packet)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **Receiving._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_SERVICE_REQUEST: _process_service_request,
        MSG_REQUEST_SUCCESS: _process_global_response,
        MSG_REQUEST_FAILURE: _process_global_response,
    }
