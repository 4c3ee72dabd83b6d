"""Our SSH connection: what asyncssh's lacks in protocol behaviour, and the fast path.

This is the one module that overrides asyncssh's private methods; the dependency is pinned to the minor version for its
sake, and tests/wire/test_transport_contract.py fails when one of them goes away. Everything here is measured or cited:
a login costs one delayed ACK less (QUICKACK), a packet one system call and two cipher objects less, and a peer that has
not authenticated can neither make us buffer more than a login needs nor offer us a weak algorithm.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import asyncssh
import msgspec
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_DEBUG,
    MSG_GLOBAL_REQUEST,
    MSG_KEX_LAST,
    MSG_NEWKEYS,
    MSG_SERVICE_ACCEPT,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_LAST,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.misc import map_handler_name
from asyncssh.packet import PacketDecodeError, SSHPacket, UInt32

from pyssh_gateway.config import Config
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.limits import AttemptBudget
from pyssh_gateway.gateway.channel import (
    PACKET_BYTES,
    WINDOW_BYTES,
    AgentChannel,
    SessionChannel,
    TcpChannel,
    UnixChannel,
    X11Channel,
)
from pyssh_gateway.gateway.cipher import GcmCipher
from pyssh_gateway.gateway.forwarding import Forwarding

KEX_ALGORITHMS = (
    # First, so that a client that guesses (dropbear) guesses right; for all others the client's order decides.
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "mlkem768x25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
GCM_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CIPHERS = (*GCM_CIPHERS, "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

EARLY_READ_BYTES = 16 * 1024
"""One read before authentication. asyncssh copies what is left of its input buffer for every packet in it, so a peer
that sends many tiny packets costs time by the square of the read: 9-18 s for other logins with asyncio's 256 KiB."""

EARLY_TOTAL_BYTES = 512 * 1024
"""All that a peer may send before it has authenticated. A login with six certificates and the largest RSA keys needs
a tenth of it."""

READ_BYTES = 256 * 1024
"""One read after authentication: asyncio's own size."""

SEND_HIGH_WATER = 256 * 1024
"""When this much waits for the network, descriptors are not read any more: the kernel then blocks their writers."""

CLOSE_SECONDS = 2.0
"""How long a connection that we close may take to accept its last bytes (the disconnect message) before it is cut."""

EARLY_CLOSE_SECONDS = 0.5
"""The same before authentication, where it is one descriptor more for a peer that does not count any longer."""

MAX_ANSWERS_WAITING = 1024 * 1024
PACKET_OVERHEAD = 64
"""Bytes of answers, each with what a packet adds, that may wait for a peer that does not read. Nobody honest asks for a
thousandth of it while not reading."""

MAX_GLOBAL_REQUESTS = 64
"""Global requests that may wait for an earlier one before the connection is not read any more."""

DATA_MESSAGES = frozenset({MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA})

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


def options(host_keys: list[asyncssh.SSHKey], config: Config) -> SSHServerConnectionOptions:
    """asyncssh's settings for every connection: nothing that is not said here is on."""
    return SSHServerConnectionOptions(
        server_version=config.listen.identification,
        server_host_keys=host_keys,  # of those of one type the first is used, all are announced
        send_server_host_keys=True,
        kex_algs=KEX_ALGORITHMS,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=("none",),  # zlib's output is not bounded by its input
        signature_algs=SIGNATURE_ALGORITHMS,
        x509_trusted_certs=None,
        public_key_auth=True,
        host_based_auth=False,
        password_auth=False,
        kbdint_auth=False,
        gss_host=None,  # the default looks our name up in the DNS
        gss_kex=False,
        gss_auth=False,
        login_timeout=config.limits.login_grace,
        keepalive_interval=config.session.keepalive or 0,
        keepalive_count_max=config.session.keepalive_misses,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        allow_scp=False,
    )


_UNDECODABLE = (PacketDecodeError, UnicodeDecodeError)
"""What a malformed message leads to. Before authentication it may be any ValueError: of a key, or a curve's point."""


class Services(msgspec.Struct, frozen=True):
    """What a connection needs from its listener. `steer_to_gcm` decides by the client's identification line."""

    login_attempts: int
    steer_to_gcm: Callable[[bytes], bool]
    negotiation_failed: Callable[[], None]


class Connection(SSHServerConnection):
    """One client's connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
        owner: asyncssh.SSHServer,
    ) -> None:
        super().__init__(loop, options)
        self._protocol_factory = lambda: owner
        self.bytes_in = 0
        self.bytes_out = 0
        self.wire_user = b""
        self.wire_algorithm = ""
        self.writing_paused = False
        self.no_more_sessions = False
        self._services = services
        self._budget = AttemptBudget(services.login_attempts)
        self._method = ""
        self._user_of_first_request: bytes | None = None
        self._socket: socket.socket | None = None
        self._outbox = bytearray()
        self._flush_scheduled = False
        self._network_full = False
        self._answers_waiting = 0
        self._peer_gone = False
        self._serving_global = False
        self._slow_global: object = None
        self._on_writable: set[Callable[[bool], None]] = set()
        self._close_reason = ""

    # -- the socket ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over: small reads and immediate ACKs until the peer has authenticated."""
        stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=SEND_HIGH_WATER)
        stream.max_size = EARLY_READ_BYTES  # type: ignore[attr-defined]  # of asyncio's selector transports
        self._socket = transport.get_extra_info("socket")
        self._acknowledge_at_once()
        super().connection_made(transport)

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Bytes from the peer; before authentication they are counted against what a login needs."""
        self.bytes_in += len(data)
        if self._transport is None:  # closed: what still comes is only taken so that the peer reads our last words
            return
        if not self._auth_complete:
            self._acknowledge_at_once()
            if self.bytes_in > EARLY_TOTAL_BYTES:
                self._force_close(asyncssh.ProtocolError("too much data before authentication"))
                return
        super().data_received(data, datatype)

    def _acknowledge_at_once(self) -> None:
        """Acknowledge without delay: the client has Nagle's algorithm on during the handshake and waits for our ACK.

        Linux delays that by 40 ms, and falls back to delaying after each read (tcp(7)), so this is set again each time.
        """
        if self._socket is not None:
            with suppress(OSError):  # the peer is gone already
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def authenticated(self) -> None:
        """The peer is known from here on: read as much as there is."""
        if self._transport is not None:
            self._transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's selector transports

    # -- sending ------------------------------------------------------------------------------------------------

    def send_packet(self, pkttype: int, *args: bytes, handler: object = None) -> None:
        """Send one packet, as the method that this replaces does, but without an SSH_MSG_IGNORE before each one.

        That is a countermeasure for CBC ciphers (RFC 4251 section 9.3.1), which are not offered; it doubles the cost
        of every packet.
        """
        if self._auth_complete and self._kex_complete and self._rekey_due():
            self._send_kexinit()
            self._kexinit_sent = True
        if self.writing_paused and pkttype not in DATA_MESSAGES:
            self._count_answer(sum(map(len, args)))
        if self._must_wait(pkttype):
            self._deferred_packets.append((pkttype, args))
            return
        size = self._send(self._seal(pkttype, args))
        if self._send_seq == 0xFFFFFFFF and not self._send_encryption:
            raise asyncssh.ProtocolError("Sequence rollover before kex complete")
        self._send_seq = 0 if pkttype == MSG_NEWKEYS and self._strict_kex else self._send_seq + 1 & 0xFFFFFFFF
        if self._kex_complete:
            self._rekey_bytes_sent += size

    def _rekey_due(self) -> bool:
        return bool(
            self._rekey_bytes_sent >= self._rekey_bytes
            or (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        )

    def _must_wait(self, pkttype: int) -> bool:
        """Whether a packet has to wait for the end of a key exchange or of authentication (RFC 4253 section 7.1)."""
        if not self._kex_complete and (
            pkttype > MSG_KEX_LAST or pkttype in {MSG_DEBUG, MSG_SERVICE_REQUEST, MSG_SERVICE_ACCEPT}
        ):
            return True
        if self._auth_complete:
            return False
        return pkttype > MSG_USERAUTH_LAST or (pkttype == MSG_USERAUTH_BANNER and not self._auth_in_progress)

    def _seal(self, pkttype: int, args: tuple[bytes, ...]) -> bytes | bytearray:
        """The binary packet (RFC 4253 section 6) for a message, encrypted."""
        encryption = self._send_encryption
        if isinstance(encryption, GcmCipher):
            return encryption.seal(pkttype, args)
        payload = bytes((pkttype,)) + b"".join(args)
        padding = -(self._send_enchdrlen + len(payload)) % self._send_blocksize
        if padding < 4:
            padding += self._send_blocksize
        packet = bytes((padding,)) + payload + os.urandom(padding)
        header = len(packet).to_bytes(4, "big")
        if encryption is None:
            return header + packet
        packet, mac = encryption.encrypt_packet(self._send_seq, header, packet)
        return packet + mac

    def _send(self, data: bytes | bytearray) -> int:  # type: ignore[override]  # asyncssh's returns nothing
        """Queue bytes for the one write that ends this turn of the loop; returns how many."""
        if self._transport is not None:
            self._outbox += data
            if not self._flush_scheduled:
                self._flush_scheduled = True
                self._loop.call_soon(self._flush)
        return len(data)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._outbox and self._transport is not None:
            data, self._outbox = self._outbox, bytearray()
            self.bytes_out += len(data)
            self._transport.write(data)

    def _count_answer(self, size: int) -> None:
        """Sources stop when nothing can be sent; answers can't, so a peer that asks and never reads is cut off."""
        self._answers_waiting += size + PACKET_OVERHEAD
        if self._answers_waiting > MAX_ANSWERS_WAITING:
            self._answers_waiting = 0
            self._loop.call_soon(self._force_close, asyncssh.ProtocolError("the client does not read our answers"))

    def pause_writing(self) -> None:
        """The network takes no more: stop every source of this connection."""
        self._network_full = True
        self._tell_writable()

    def resume_writing(self) -> None:
        """The network has taken what was waiting."""
        self._network_full = False
        self._tell_writable()

    def _tell_writable(self) -> None:
        """Sources run while the network takes data and no key exchange holds it back, which the peer may never end."""
        paused = self._network_full or (self._auth_complete and not self._kex_complete)
        if paused == self.writing_paused:
            return
        self.writing_paused = paused
        self._answers_waiting = 0
        for callback in tuple(self._on_writable):
            callback(not paused)

    def on_writable(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Have `callback` told when the network stops (also now, if it has) or starts taking data; returns the end."""
        self._on_writable.add(callback)
        if self.writing_paused:
            callback(False)
        return lambda: self._on_writable.discard(callback)

    # -- leaving ------------------------------------------------------------------------------------------------

    def _force_close(self, exc: Exception | None) -> None:
        """Close, but let the peer have what was said last: asyncssh's would drop its own disconnect message."""
        transport = self._transport
        if transport is None:
            return
        self._flush()
        self._transport = None
        if self._peer_gone or transport.is_closing():
            transport.abort()
        else:
            # Closing with input unread would reset the connection and take our last words out of the peer's hands.
            with suppress(OSError):  # reset already
                transport.write_eof()
            self._loop.call_later(CLOSE_SECONDS if self._auth_complete else EARLY_CLOSE_SECONDS, transport.abort)
        self._loop.call_soon(self._cleanup, exc)

    def eof_received(self) -> None:
        """The peer has closed its side; nobody speaks SSH into one half of a connection."""
        self._peer_gone = True
        super().eof_received()

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """A bug of ours: say so instead of losing it in a debug log. What can't be decoded is the peer's fault."""
        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if isinstance(error, _UNDECODABLE if self._auth_complete else ValueError):
            self._force_close(asyncssh.ProtocolError(f"malformed data: {error}"))
            return
        report = getattr(self._owner, "internal_error", None)
        if report is not None:
            report(exc_info)
        super().internal_error(exc_info, error_logger)

    # -- key exchange -------------------------------------------------------------------------------------------

    def _send_kexinit(self) -> None:
        """Offer the ciphers that suit the client.

        The client's order decides (RFC 4253 section 7.1) and OpenSSH's puts ciphers first that cost us a multiple of
        AES-GCM, so those are not offered to a client that surely has AES-GCM.
        """
        if not self._session_id and self._services.steer_to_gcm(self._client_version):
            self._enc_algs = [cipher.encode() for cipher in GCM_CIPHERS]
        super()._send_kexinit()
        self._tell_writable()

    def _choose_alg(self, alg_type: str, local_algs: Any, remote_algs: Any) -> bytes:
        """RFC 4253 section 7.1; remembers that a client was offered too little, so that its next try gets it all."""
        try:
            return super()._choose_alg(alg_type, local_algs, remote_algs)
        except asyncssh.KeyExchangeFailed:
            if alg_type == "encryption":
                self._services.negotiation_failed()
            raise

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Switch to the new keys, with our own cipher where we have one."""
        super().send_newkeys(k, h)
        self._send_encryption = _own_cipher(self._send_encryption)
        self._next_recv_encryption = _own_cipher(self._next_recv_encryption)
        self._tell_writable()

    # -- authentication -----------------------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """asyncssh re-reads its configuration files here, in a thread, for every user name; we have none."""

    def _process_userauth_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
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
            self._owner.name_refused(self._method)  # type: ignore[attr-defined]  # of our own owner
            self.send_userauth_failure(False)
            return None
        return super()._process_userauth_request(pkttype, pktid, packet)

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
        return bool(self._owner.public_key_request(key_data, msg, signature))  # type: ignore[attr-defined]

    @property
    def session_id(self) -> bytes:
        """The exchange hash of the first key exchange, which signatures are bound to (RFC 4252 section 7)."""
        return self._session_id

    # -- channels -----------------------------------------------------------------------------------------------

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
        self._global_request_queue.append((handler, packet, want_reply))
        if len(self._global_request_queue) > MAX_GLOBAL_REQUESTS and self._transport is not None:
            self._transport.pause_reading()
        if len(self._global_request_queue) == 1:
            self._service_next_global_request()

    def _service_next_global_request(self) -> None:
        """Serve what waits until one needs time. asyncssh's calls itself for each, a thousand deep and no further."""
        if self._serving_global:
            return
        self._serving_global = True
        try:
            while self._global_request_queue and self._global_request_queue[0] is not self._slow_global:
                self._slow_global = self._global_request_queue[0]
                handler, packet, _ = self._slow_global
                if callable(handler):
                    handler(packet)
                else:
                    self._report_global_response(False)
        finally:
            self._peer_gone = False
        self._serving_global = False
        if not self._global_request_queue and self._transport is not None:
            self._transport.resume_reading()

    def _report_global_response(self, result: bool | bytes) -> None:
        """Answer the request at the head of the queue, and go on with the next."""
        self._slow_global = None
        super()._report_global_response(result)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **SSHServerConnection._packet_handlers,  # noqa: SLF001 - the same
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
    def _forwarding(self) -> Forwarding:
        return cast(Forwarding, self._owner.forwarding)  # type: ignore[attr-defined]  # of our own owner

    # -- logging that nobody reads ------------------------------------------------------------------------------

    def log_sent_packet(self, *args: object, **kwargs: object) -> None:
        """asyncssh formats a description of every packet for a debug log that is off."""

    def log_received_packet(self, *args: object, **kwargs: object) -> None:
        """The same for what arrives."""


def _text(data: bytes) -> str:
    """A host name or path: what is not UTF-8 stays what it was."""
    return data.decode("utf-8", "surrogateescape")


def _own_cipher(encryption: Encryption | None) -> Encryption | None:
    return GcmCipher.taking_over(encryption) if isinstance(encryption, GCMEncryption) else encryption
