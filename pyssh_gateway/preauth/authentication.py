"""A connection before login: the authentication dialogue of RFC 4252. The monitor makes every decision in it.

It ends at the hand-over: where USERAUTH_SUCCESS would be sent, the connection's state goes to the monitor, and this
process ends. Methods here override asyncssh's where asyncssh behaves differently from sshd.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from sys import exc_info
from typing import Any, cast

import asyncssh
from asyncssh.auth import MSG_USERAUTH_PK_OK
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import DISC_PROTOCOL_ERROR, MSG_USERAUTH_BANNER, MSG_USERAUTH_REQUEST
from asyncssh.packet import SSHPacket, String

from pyssh_gateway.ipc import preauth as messages
from pyssh_gateway.preauth.monitor_link import MonitorGone, MonitorLink
from pyssh_gateway.ssh.disconnects import end_reason, was_lost
from pyssh_gateway.ssh.handover import Movable
from pyssh_gateway.ssh.key_exchange import Services

_CONNECTION = b"ssh-connection"
"""The service that a client authenticates for (RFC 4252 section 5); there is no other."""


Ask = Callable[[messages.Attempt], Awaitable[messages.Answer]]
"""Asks the monitor to decide an attempt."""


class Authentication(Movable):
    """A connection until its login. `ask` decides every attempt; it raises `MonitorGone`.

    `banner` is sent to the client before the first answer; if it is empty, nothing is sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
        owner: asyncssh.SSHServer,
        ask: Ask,
        *,
        banner: bytes = b"",
    ) -> None:
        super().__init__(loop, options, services)
        self._banner = banner
        self._protocol_factory = lambda: owner
        self._ask = ask
        self.closed = asyncio.Event()
        """Set when the socket is closed. The connection may have ended earlier, with its last packets still unsent."""

    def connection_lost(self, exc: Exception | None = None) -> None:
        """The socket is closed: nothing is received or sent any more."""
        super().connection_lost(exc)
        self.closed.set()

    def _send_version(self) -> None:
        """Only count our identification line: the monitor sent it when it accepted the connection."""
        self._server_version = b"SSH-2.0-" + self._version
        self.bytes_out += len(self._server_version) + len(b"\r\n")
        self.set_extra_info(server_version=self._server_version.decode("ascii"))

    def _process_userauth_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> Awaitable[None]:
        """Have a request (RFC 4252 section 5) judged, and answer it; asyncssh's own authentication is not used.

        No further packet is processed before the answer. As with sshd, a client must keep to one account ("Change of
        username or service not allowed").
        """
        user, service = packet.get_string(), packet.get_string()
        if service != _CONNECTION:
            raise asyncssh.ServiceNotAvailable("Unexpected service in auth request")
        if len(user) > messages.MAX_USER:
            raise asyncssh.IllegalUserName("Username too long")
        if self._user_of_first_request is None:
            self._user_of_first_request = user
            self._tell_banner()
        if user != self._user_of_first_request:
            raise asyncssh.ProtocolError("Change of username not allowed")
        return self._authenticate(_attempt(user, packet))

    def _tell_banner(self) -> None:
        """Send the banner before the answer to the first request (RFC 4252 section 5.4), as sshd does (auth2.c).

        sshd once withheld the banner from clients that failed on it (SSH_BUG_BANNER, OpenSSH up to 2.3.0); none of
        those clients has an algorithm in common with us.
        """
        if self._banner:
            self.send_packet(MSG_USERAUTH_BANNER, String(self._banner), String(""))

    async def _authenticate(self, asked: messages.Attempt) -> None:
        try:
            answer = await self._ask(asked)
        except MonitorGone:
            self.abort()
            return
        if self._transport is None:  # the client has gone meanwhile
            return
        match answer.result:
            case "accepted":
                await self.send_userauth_success()
            case "offered":
                self.send_packet(MSG_USERAUTH_PK_OK, String(asked.algorithm), String(asked.blob))
            case "denied" if answer.last:
                self.disconnect(DISC_PROTOCOL_ERROR, answer.message)
            case "denied":
                self.send_userauth_failure(False)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **Movable._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }


def _attempt(user: bytes, packet: SSHPacket) -> messages.Attempt:
    """Parse the rest of a request, after its user name and service (RFC 4252 sections 5 and 7)."""
    method = _name(packet.get_string())
    if method != "publickey":
        return messages.Attempt(user, method)
    is_signed = packet.get_boolean()
    algorithm, blob = _name(packet.get_string()), packet.get_string()
    signature = packet.get_string() if is_signed else None
    packet.check_end()
    if len(blob) > messages.MAX_KEY or len(signature or b"") > messages.MAX_SIGNATURE:
        raise asyncssh.ProtocolError("Key or signature too long")
    return messages.Attempt(user, method, algorithm, blob, signature)


def _name(data: bytes) -> str:
    """A name (RFC 4251 section 6), cut to `MAX_NAME`: no known name is longer, so a longer one is unknown anyway."""
    return data.decode("ascii", "backslashreplace")[: messages.MAX_NAME]


class Stranger(asyncssh.SSHServer):
    """asyncssh's callbacks for a connection before login.

    `over` is set when the connection has ended; `link` is told how it ended.
    """

    def __init__(self, over: asyncio.Event) -> None:
        self.link: MonitorLink
        self._over = over
        self._connection: Authentication
        self._crash = ""
        self._reason = ""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Keep the connection that asyncssh has made."""
        self._connection = cast(Authentication, conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended without a login."""
        connection = self._connection
        self.link.tell(
            messages.Ended(
                reason=(self._reason or end_reason(exc))[: messages.MAX_REASON],
                goodbye=bool(self._reason) or not was_lost(exc, cut_off=False),
                bytes_in=connection.bytes_in,
                bytes_out=connection.bytes_out,
                crash=self._crash[-messages.MAX_CRASH :],
            )
        )
        self._over.set()

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""
        self._reason = reason
        self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    def begin_auth(self, username: str) -> bool:
        """True: authentication is needed. For any falsy value, asyncssh lets the client in without a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """True: public key is the only method."""
        return True

    def internal_error(self, error: Any = None) -> None:
        """A bug of ours ended the connection."""
        parts = error if error and error[0] is not None else exc_info()
        self._crash = "".join(traceback.format_exception(*parts)) if parts[0] is not None else "unknown"
