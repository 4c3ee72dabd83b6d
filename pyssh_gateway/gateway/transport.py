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
    MSG_DEBUG,
    MSG_KEX_LAST,
    MSG_NEWKEYS,
    MSG_SERVICE_ACCEPT,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_LAST,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import SSHPacket

from pyssh_gateway import __version__
from pyssh_gateway.core.limits import AttemptBudget
from pyssh_gateway.gateway.channel import SessionChannel
from pyssh_gateway.gateway.cipher import GcmCipher

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

IDENTIFICATION = f"pyssh-gateway_{__version__}"
"""The software version in our identification line (RFC 4253 section 4.2)."""

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

KEEPALIVE_SECONDS = 30
KEEPALIVE_MISSES = 10
"""A client that has not answered for five minutes is gone; a shorter time would drop laptops that sleep."""

CLOSE_SECONDS = 2.0
"""How long a connection that we close may take to accept its last bytes (the disconnect message) before it is cut."""


def options(host_key: asyncssh.SSHKey, login_grace: float) -> SSHServerConnectionOptions:
    """asyncssh's settings for every connection: nothing that is not said here is on."""
    return SSHServerConnectionOptions(
        server_version=IDENTIFICATION,
        server_host_keys=[host_key],
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
        login_timeout=login_grace,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=KEEPALIVE_MISSES,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        allow_scp=False,
    )


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
        self._services = services
        self._budget = AttemptBudget(services.login_attempts)
        self._method = ""
        self._user_of_first_request: bytes | None = None
        self._socket: socket.socket | None = None
        self._outbox = bytearray()
        self._flush_scheduled = False
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

    def pause_writing(self) -> None:
        """The network takes no more: stop every source of this connection."""
        self._set_writable(False)

    def resume_writing(self) -> None:
        """The network has taken what was waiting."""
        self._set_writable(True)

    def _set_writable(self, writable: bool) -> None:
        self.writing_paused = not writable
        for callback in tuple(self._on_writable):
            callback(writable)

    def on_writable(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Have `callback` told whenever the network stops or starts taking data; returns how to end that."""
        self._on_writable.add(callback)
        return lambda: self._on_writable.discard(callback)

    # -- leaving ------------------------------------------------------------------------------------------------

    def _force_close(self, exc: Exception | None) -> None:
        """Close, but let the peer have what was said last: asyncssh's would drop its own disconnect message."""
        transport = self._transport
        if transport is None:
            return
        self._flush()
        self._transport = None
        transport.close()
        if transport.get_write_buffer_size():
            self._loop.call_later(CLOSE_SECONDS, transport.abort)
        self._loop.call_soon(self._cleanup, exc)

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """A bug of ours: say so instead of losing it in a debug log. What can't be decoded is the peer's fault."""
        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if isinstance(error, UnicodeDecodeError):
            self._force_close(asyncssh.ProtocolError(f"text that is not {error.encoding}"))
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

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **SSHServerConnection._packet_handlers,  # noqa: SLF001 - the same
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }

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

    # -- requests that asyncssh answers wrongly -----------------------------------------------------------------

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        """Nothing is forwarded yet, so there is nothing to cancel; asyncssh's would disconnect the client."""
        self._report_global_response(False)

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        """The same for unix sockets."""
        self._report_global_response(False)

    # -- logging that nobody reads ------------------------------------------------------------------------------

    def log_sent_packet(self, *args: object, **kwargs: object) -> None:
        """asyncssh formats a description of every packet for a debug log that is off."""

    def log_received_packet(self, *args: object, **kwargs: object) -> None:
        """The same for what arrives."""


def _own_cipher(encryption: Encryption | None) -> Encryption | None:
    return GcmCipher.taking_over(encryption) if isinstance(encryption, GCMEncryption) else encryption
