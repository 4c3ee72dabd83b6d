"""One client's connection: authentication (RFC 4252), channels and global requests (RFC 4254).

Decisions are the owner's (`server`); in here is what has to stand in the place of asyncssh's methods, because they do
something else than sshd.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.misc import map_handler_name
from asyncssh.packet import SSHPacket, UInt32

from pyssh_gateway.core.dispatch import CHANNEL_CLOSE, CHANNEL_REQUEST
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.limits import AttemptBudget
from pyssh_gateway.core.windows import Budget, Line
from pyssh_gateway.ipc.handover import ConnectionState
from pyssh_gateway.postauth.channel import AgentChannel, SessionChannel, TcpChannel, UnixChannel, X11Channel
from pyssh_gateway.postauth.forwarding import Forwarding
from pyssh_gateway.ssh.handover import Movable
from pyssh_gateway.ssh.host_key_signing import prove, rsa_signature
from pyssh_gateway.ssh.key_exchange import Services
from pyssh_gateway.ssh.packets import Message
from pyssh_gateway.ssh.windowed import PACKET_BYTES, WINDOW_BYTES

MAX_GLOBAL_REQUESTS = 64
MAX_GLOBAL_REQUEST_BYTES = 256 * 1024
"""What may wait for an earlier global request before the connection is not read any more."""

IN_TURN = frozenset({CHANNEL_REQUEST, CHANNEL_CLOSE})
"""What waits on an open channel; a close comes after the requests before it, or what they start would never run."""

MAX_PROOFS = 32
"""Signatures with host keys that a connection may ask for. Clients ask once for each key that they do not know, and one
of an RSA key holds up everybody for a millisecond."""

CHANNEL_TYPES = frozenset({"session", "direct-tcpip", "direct-streamlocal@openssh.com"})
GLOBAL_REQUESTS = frozenset(
    {
        "cancel-streamlocal-forward@openssh.com",
        "cancel-tcpip-forward",
        "hostkeys-prove-00@openssh.com",
        "keepalive@openssh.com",
        "no-more-sessions@openssh.com",
        "streamlocal-forward@openssh.com",
        "tcpip-forward",
    }
)
"""What is served. asyncssh finds handlers by name, and so finds methods that are none."""


class Owner(Protocol):
    """What a connection asks of its owner, `server.Client`, beside asyncssh's callbacks."""

    forwarding: Forwarding
    budget: Budget

    async def public_key_request(self, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Decide a `publickey` request."""

    def name_refused(self, method: str) -> None:
        """The user name can't be an account's."""


class Connection(Movable):
    """One client's connection: from its first byte to the login, or, with a `state`, from the login on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
        owner: asyncssh.SSHServer,
        state: ConnectionState | None = None,
    ) -> None:
        super().__init__(loop, options, services, state)
        self._protocol_factory = lambda: owner
        self.wire_user = state.user if state is not None else b""
        self.wire_algorithm = ""
        self.no_more_sessions = False
        self.line = Line()
        self._budget = AttemptBudget(services.login_attempts)
        self._method = ""
        self._serving_global = False
        self._slow_global: object = None
        self._proofs_left = MAX_PROOFS

    # -- authentication -----------------------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """asyncssh re-reads its configuration files here, in a thread, for every user name; we have none."""

    def _process_userauth_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> Awaitable[None] | None:
        """Count the request, and hold the client to one account (sshd: "Change of username or service not allowed")."""
        peek = SSHPacket(packet.get_remaining_payload())
        user = peek.get_string()
        peek.get_string()
        self._method = peek.get_string().decode("ascii", "backslashreplace")
        if self._method == "publickey":
            peek.get_boolean()
            self.wire_algorithm = peek.get_string().decode("ascii", "backslashreplace")
        if self._user_of_first_request is None:
            self._user_of_first_request = user
        if user != self._user_of_first_request:
            raise asyncssh.ProtocolError("Change of username not allowed")
        if not self._auth_complete and not self._budget.request():
            raise asyncssh.ProtocolError("Too many authentication requests")
        self.wire_user = user
        if not self._auth_complete and not (user.isascii() and user.decode("ascii").isprintable()):
            # No account has such a name, and asyncssh would disconnect for some of them, without a word in the log.
            self._client.name_refused(self._method)
            self.send_userauth_failure(False)
            return None
        request = super()._process_userauth_request(pkttype, pktid, packet)
        return None if request is None else self._answered(request)

    async def _answered(self, request: Awaitable[None]) -> None:
        """Serve nothing else until the answer is out, as sshd: what was sent ahead may be for after the login.

        asyncssh only waits until a task has been made that will answer.
        """
        await request
        if self._auth is not None and self._auth.task is not None:
            await asyncio.wait({self._auth.task})

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Refuse, or disconnect after the last failure that a connection may have, as sshd does."""
        report = getattr(self._owner, "auth_failed", None)
        if report is not None:
            report(self._method)
        if self._budget.failure(self._method):
            super().send_userauth_failure(partial_success)
        else:
            self._auth = None
            self.disconnect(DISC_PROTOCOL_ERROR, "Too many authentication failures")

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Hand the request to our own decision; asyncssh's certificate and authorized_keys code is not used."""
        return await self._client.public_key_request(key_data, msg, signature)

    @property
    def session_id(self) -> bytes:
        """The exchange hash of the first key exchange, which signatures are bound to (RFC 4252 section 7)."""
        return self._session_id

    # -- channels -----------------------------------------------------------------------------------------------

    @property
    def budget(self) -> Budget:
        """What all channels of the account may hold, on whichever connection."""
        return self._client.budget

    def create_server_channel(self, *_args: object, **_kwargs: object) -> SessionChannel:
        """Our channel, whatever asyncssh would have made."""
        return SessionChannel(self, self._loop)

    def create_tcp_channel(self, *_args: object, **_kwargs: object) -> TcpChannel:
        """The same for a forwarded TCP connection."""
        return TcpChannel(self, self._loop, None, "strict", WINDOW_BYTES, PACKET_BYTES)

    def create_unix_channel(self, *_args: object, **_kwargs: object) -> UnixChannel:
        """The same for a forwarded unix socket."""
        return UnixChannel(self, self._loop, None, "strict", WINDOW_BYTES, PACKET_BYTES)

    def create_x11_channel(self, *_args: object, **_kwargs: object) -> X11Channel:
        """The same for a connection to the client's X server."""
        return X11Channel(self, self._loop, None, "strict", WINDOW_BYTES, PACKET_BYTES)

    def create_agent_channel(self, *_args: object, **_kwargs: object) -> AgentChannel:
        """The same for a connection to the client's agent."""
        return AgentChannel(self, self._loop, None, "strict", WINDOW_BYTES, PACKET_BYTES)

    def _process_channel_open(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Open a channel when everything that was asked for before is there: it may lead to a port of a -R."""
        self._in_turn(partial(self._open_channel, pkttype, pktid), packet)

    def _serve_channel(self, number: int, sequence: int, packet: SSHPacket) -> object:
        """The same for requests on channels: a command may use such a port at once. What else comes does not wait."""
        if number not in IN_TURN or not self._global_request_queue:
            return super()._serve_channel(number, sequence, packet)
        self._in_turn(partial(super()._serve_channel, number, sequence), packet)
        return None

    def _open_channel(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """RFC 4254 section 5.1: an unknown type is refused."""
        peek = SSHPacket(packet.get_remaining_payload())
        kind, channel = peek.get_string().decode("ascii", "replace"), peek.get_uint32()
        if kind in CHANNEL_TYPES:
            super()._process_channel_open(pkttype, pktid, packet)
        else:
            self.send_channel_open_failure(channel, asyncssh.OPEN_UNKNOWN_CHANNEL_TYPE, "Unknown channel type", "en")

    # -- global requests ----------------------------------------------------------------------------------------

    def _process_global_request(self, _pkttype: int, _pktid: int, packet: SSHPacket) -> None:
        """Serve requests in their order (RFC 4254 section 4), and do not listen to a peer that asks ahead too far."""
        name = packet.get_string().decode("ascii", "replace")
        want_reply = packet.get_boolean()
        handler = (
            getattr(self, f"_process_{map_handler_name(name)}_global_request") if name in GLOBAL_REQUESTS else None
        )
        self._queue(handler, packet, want_reply)

    def _in_turn(self, serve: Callable[[SSHPacket], object], packet: SSHPacket) -> None:
        """Serve what is no global request after those that came before it; now, if none is waiting."""

        def served(packet: SSHPacket) -> None:
            serve(packet)
            self._report_global_response(True)

        if self._global_request_queue:
            self._queue(served, packet, want_reply=False)
        else:
            serve(packet)

    def _queue(self, handler: Callable[[SSHPacket], None] | None, packet: SSHPacket, want_reply: bool) -> None:
        """Put something at the end of what is served in its order, and serve it if it is the only thing there."""
        self._global_request_queue.append((handler, packet, want_reply))
        waiting = sum(cast(Message, request).size for _, request, _ in self._global_request_queue)
        if len(self._global_request_queue) > MAX_GLOBAL_REQUESTS or waiting > MAX_GLOBAL_REQUEST_BYTES:
            self.hold_input("global requests")
        if len(self._global_request_queue) == 1:
            self._service_next_global_request()

    def _service_next_global_request(self) -> None:
        """Serve what waits until one needs time. asyncssh's calls itself for each, a thousand deep and no further."""
        if self._serving_global:
            return
        self._serving_global = True
        try:
            while (
                self._transport is not None
                and self._global_request_queue
                and self._global_request_queue[0] is not self._slow_global
            ):
                self._slow_global = self._global_request_queue[0]
                handler, packet, _ = self._slow_global
                if callable(handler):
                    handler(packet)
                else:
                    self._report_global_response(False)
        finally:
            self._serving_global = False
        if not self._global_request_queue:
            self.release_input("global requests")

    def _report_global_response(self, result: bool | bytes) -> None:
        """Answer the request at the head of the queue, and go on with the next."""
        self._slow_global = None
        super()._report_global_response(result)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **Movable._packet_handlers,  # noqa: SLF001 - the same
        MSG_USERAUTH_REQUEST: _process_userauth_request,
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_GLOBAL_REQUEST: _process_global_request,
    }

    # -- requests that asyncssh answers wrongly -----------------------------------------------------------------

    # Forwarding goes to our own code: asyncssh's acts with the server's rights, and disconnects for a listener that it
    # does not know.

    def _process_direct_tcpip_open(self, packet: SSHPacket) -> Any:
        host, port = _text(packet.get_string()), packet.get_uint32()
        packet.get_string()  # the originator, as the client says
        packet.get_uint32()
        packet.check_end()
        return self.create_tcp_channel(), self._forwarding.connect_tcp(host, port)

    def _process_direct_streamlocal_at_openssh_dot_com_open(self, packet: SSHPacket) -> Any:
        path = _text(packet.get_string())
        return self.create_unix_channel(), self._forwarding.connect_unix(path)

    def _process_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        host, port = _text(packet.get_string()), packet.get_uint32()
        packet.check_end()
        self.create_task(self._listen_tcp(host, port))

    async def _listen_tcp(self, host: str, port: int) -> None:
        bound = await self._forwarding.listen_tcp(self, host, port)
        # RFC 4254 section 7.1: the port is told only if any would do.
        self._answer_global(bound is not None if port or bound is None else UInt32(bound))

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        host, port = _text(packet.get_string()), packet.get_uint32()
        packet.check_end()
        self._report_global_response(self._forwarding.cancel((host, port)))

    def _process_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        path = _text(packet.get_string())
        packet.check_end()
        self.create_task(self._listen_unix(path))

    async def _listen_unix(self, path: str) -> None:
        self._answer_global(await self._forwarding.listen_unix(self, path))

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        path = _text(packet.get_string())
        packet.check_end()
        self._report_global_response(self._forwarding.cancel(path))

    def _process_hostkeys_prove_00_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        """OpenSSH's PROTOCOL section 2.5: prove to have the keys that were announced. asyncssh's RSA uses SHA-1."""
        asked = []
        while packet:
            asked.append(packet.get_string())
        self._proofs_left -= len(asked)
        proofs = None
        if self._proofs_left >= 0:
            chosen = self._server_host_key.algorithm if self._server_host_key is not None else b""
            rsa = rsa_signature(chosen, self.client_host_key_algs)
            proofs = prove(self._all_server_host_keys, asked, self._session_id, rsa)
        self._report_global_response(False if proofs is None else proofs)

    def _process_no_more_sessions_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        """OpenSSH's PROTOCOL section 2.2: the client will open no further session, so who has taken it over can't."""
        packet.check_end()
        self.no_more_sessions = True
        self._report_global_response(True)

    async def forward_x11(self, screen: int, protocol: str, cookie: str) -> X11Display | None:
        """The display that leads to the client's, if there may be one."""
        return await self._forwarding.listen_x11(self, screen, protocol, cookie)

    async def forward_agent(self) -> bool:
        """Whether the client's agent can be reached from here now."""
        return await self._forwarding.listen_agent(self)

    def _answer_global(self, response: bool | bytes) -> None:
        """Answer the request that is being served, unless the connection has gone meanwhile."""
        if self._transport is not None:
            self._report_global_response(response)

    @property
    def _client(self) -> Owner:
        return cast(Owner, self._owner)

    @property
    def _forwarding(self) -> Forwarding:
        return self._client.forwarding


def _text(data: bytes) -> str:
    """A host name or path: what is not UTF-8 stays what it was."""
    return data.decode("utf-8", "surrogateescape")
