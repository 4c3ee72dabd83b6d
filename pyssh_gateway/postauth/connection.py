"""A connection whose client has logged in: channels and global requests (RFC 4254).

The owner (`client`) makes the decisions. This module overrides those of asyncssh's methods that behave differently from
sshd. The connection is taken over as a state (`ssh.handover`), and first its client is told that its login succeeded.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import MSG_CHANNEL_OPEN, MSG_GLOBAL_REQUEST
from asyncssh.misc import map_handler_name
from asyncssh.packet import SSHPacket, UInt32

from pyssh_gateway.core.compat import rsa_signature
from pyssh_gateway.core.dispatch import CHANNEL_CLOSE, CHANNEL_REQUEST
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.windows import Budget, Line
from pyssh_gateway.ipc.handover import ConnectionState
from pyssh_gateway.ipc.postauth import MAX_PROOFS, Negotiated
from pyssh_gateway.postauth.channel import AgentChannel, SessionChannel, TcpChannel, UnixChannel, X11Channel
from pyssh_gateway.postauth.forwards.forwarding import Forwarding
from pyssh_gateway.ssh.handover import Movable
from pyssh_gateway.ssh.key_exchange import Services
from pyssh_gateway.ssh.packets import Message
from pyssh_gateway.ssh.windowed import PACKET_BYTES, WINDOW_BYTES

MAX_GLOBAL_REQUESTS = 64
MAX_GLOBAL_REQUEST_BYTES = 256 * 1024
"""How much may wait behind an earlier global request. Beyond that, reading from the connection is paused."""

IN_TURN = frozenset({CHANNEL_REQUEST, CHANNEL_CLOSE})
"""Messages on an open channel that wait their turn. A close waits, too: otherwise it would overtake earlier requests,
and the commands they start would never run."""

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
"""The types and requests that are served. asyncssh looks handlers up by name, and so finds methods that are not
handlers."""


class Owner(Protocol):
    """What a connection needs of its owner, `client.Client`, besides asyncssh's callbacks."""

    forwarding: Forwarding
    budget: Budget


class Connection(Movable):
    """One client's connection, from its login on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
        owner: asyncssh.SSHServer,
        state: ConnectionState,
    ) -> None:
        super().__init__(loop, options, services, state)
        self._protocol_factory = lambda: owner
        self.negotiated = Negotiated(
            kex=state.kex,
            host_key=state.host_key,
            cipher_in=state.receiving.cipher,
            cipher_out=state.sending.cipher,
            mac_in=state.receiving.mac,
            mac_out=state.sending.mac,
            compression_in=state.receive_compression,
            compression_out=state.send_compression,
        )
        self.no_more_sessions = False
        self.line = Line()
        self._serving_global = False
        self._slow_global: object = None
        self._proofs_left = MAX_PROOFS

    # -- channels -----------------------------------------------------------------------------------------------

    @property
    def budget(self) -> Budget:
        """The memory that all channels of the account may hold, over all its connections."""
        return self._client.budget

    def create_server_channel(self, *_args: object, **_kwargs: object) -> SessionChannel:
        """Our own channel class instead of asyncssh's."""
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
        """Open a channel after all earlier global requests: it may lead to a port that one of them (-R) opens."""
        self._in_turn(partial(self._open_channel, pkttype, pktid), packet)

    def _serve_channel(self, number: int, sequence: int, packet: SSHPacket) -> object:
        """The same for channel requests: a command may use such a port at once. Other messages do not wait."""
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
        """Serve requests in order (RFC 4254 section 4); stop reading from a peer that has too many of them waiting."""
        name = packet.get_string().decode("ascii", "replace")
        want_reply = packet.get_boolean()
        handler = (
            getattr(self, f"_process_{map_handler_name(name)}_global_request") if name in GLOBAL_REQUESTS else None
        )
        self._queue(handler, packet, want_reply)

    def _in_turn(self, serve: Callable[[SSHPacket], object], packet: SSHPacket) -> None:
        """Serve another message after the global requests that came before it; at once if none is waiting."""

        def served(packet: SSHPacket) -> None:
            serve(packet)
            self._report_global_response(True)

        if self._global_request_queue:
            self._queue(served, packet, want_reply=False)
        else:
            serve(packet)

    def _queue(self, handler: Callable[[SSHPacket], None] | None, packet: SSHPacket, want_reply: bool) -> None:
        """Append to the queue of global requests, and start serving if the queue was empty."""
        self._global_request_queue.append((handler, packet, want_reply))
        waiting = sum(cast(Message, request).size for _, request, _ in self._global_request_queue)
        if len(self._global_request_queue) > MAX_GLOBAL_REQUESTS or waiting > MAX_GLOBAL_REQUEST_BYTES:
            self.hold_input("global requests")
        if len(self._global_request_queue) == 1:
            self._service_next_global_request()

    def _service_next_global_request(self) -> None:
        """Serve waiting requests until one needs time.

        asyncssh's method calls itself for each request, and so fails at Python's recursion limit of a thousand.
        """
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
        """Answer the request at the head of the queue, and continue with the next."""
        self._slow_global = None
        super()._report_global_response(result)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **Movable._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_GLOBAL_REQUEST: _process_global_request,
    }

    # -- requests that asyncssh answers wrongly -----------------------------------------------------------------

    # Forwarding is done by our own code: asyncssh's would act with the server's rights, and it disconnects when the
    # client cancels a listener that does not exist.

    def _process_direct_tcpip_open(self, packet: SSHPacket) -> Any:
        host, port = _text(packet.get_string()), packet.get_uint32()
        packet.get_string()  # the originator, as claimed by the client
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
        # RFC 4254 section 7.1: the reply carries the port only if the client asked for port 0 (any).
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
        """OpenSSH's PROTOCOL section 2.5: prove that we hold the announced keys. asyncssh's RSA proof uses SHA-1."""
        asked = []
        while packet:
            asked.append(packet.get_string())
        self._proofs_left -= len(asked)
        if self._proofs_left < 0 or len(set(asked)) != len(asked) or not set(asked) <= set(self._all_server_host_keys):
            self._report_global_response(False)
            return
        chosen = self._server_host_key.algorithm if self._server_host_key is not None else b""
        self.create_task(self._prove(tuple(asked), rsa_signature(chosen, self.client_host_key_algs)))

    async def _prove(self, asked: tuple[bytes, ...], rsa: bytes) -> None:
        proofs = await self.services.prove(asked, rsa)
        self._answer_global(False if proofs is None else proofs)

    def _process_no_more_sessions_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        """OpenSSH's PROTOCOL section 2.2: no further sessions, so an attacker who takes the client over gets none."""
        packet.check_end()
        self.no_more_sessions = True
        self._report_global_response(True)

    async def forward_x11(self, screen: int, protocol: str, cookie: str) -> X11Display | None:
        """A display here that is connected to the client's display; None if it is refused."""
        return await self._forwarding.listen_x11(self, screen, protocol, cookie)

    async def forward_agent(self) -> bool:
        """Whether the client's agent can be reached from here now."""
        return await self._forwarding.listen_agent(self)

    def _answer_global(self, response: bool | bytes) -> None:
        """Answer the request that is being served, unless the connection has ended meanwhile."""
        if self._transport is not None:
            self._report_global_response(response)

    @property
    def _client(self) -> Owner:
        return cast(Owner, self._owner)

    @property
    def _forwarding(self) -> Forwarding:
        return self._client.forwarding


def _text(data: bytes) -> str:
    """A host name or path; bytes that are not UTF-8 are preserved."""
    return data.decode("utf-8", "surrogateescape")
