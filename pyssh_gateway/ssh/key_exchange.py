"""Key exchange (RFC 4253 sections 7 and 8): what we offer and when, whether the client's guess is right, signatures."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import asyncssh
import msgspec
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.packet import SSHPacket
from asyncssh.public_key import SigningKey

from pyssh_gateway.core.dispatch import KEXINIT
from pyssh_gateway.core.steering import GCM_CIPHERS, Ciphers, ciphers_of, round_trip
from pyssh_gateway.core.strangers.hassh import Hassh, hassh
from pyssh_gateway.ssh.dispatch import Dispatch

if TYPE_CHECKING:
    from asyncssh.kex_dh import _KexDHBase

_FIRST_KEX_FOLLOWS = -5
"""Index of `first_kex_packet_follows` in a KEXINIT: before its last field, a reserved uint32 (RFC 4253 section 7.1)."""

_TCP_INFO_BYTES = 256
"""Most bytes of `struct tcp_info` that the kernel may write: more than the part that is used."""


class SigningError(Exception):
    """No signature with a host key could be made. The message is for the log and for the peer."""


class Services(msgspec.Struct, frozen=True):
    """What a connection needs from its listener, and reports to it; see `core.steering.CipherSteering`.

    `sign` (algorithm, exchange hash) returns the signature with the host key that is offered for the algorithm, or
    raises SigningError. `prove` (public keys, algorithm of RSA keys) returns the answer to a `hostkeys-prove` request,
    or None to refuse it.

    `only_gcm` decides whether to offer only AES-GCM, by the client's identification line and, if they have come, its
    ciphers. `wait` decides how long to wait for those (in seconds), by the line and the round-trip time (in seconds).
    `spoke` is called at the first bytes, `greeted` with the identification line and the fingerprints of both KEXINITs
    when the first ones are there. `is_direct`: the client did not come through a proxy. `hand_over` gets the
    state of a connection whose client was accepted, and a duplicate of its socket: another process continues it.
    """

    sign: Callable[[bytes, bytes], Awaitable[bytes]]
    prove: Callable[[tuple[bytes, ...], bytes], Awaitable[bytes | None]]
    spoke: Callable[[], None]
    greeted: Callable[[bytes, Hassh], None]
    only_gcm: Callable[[bytes, Ciphers | None], bool]
    wait: Callable[[bytes, float | None], float]
    negotiation_failed: Callable[[], None]
    logged_in: Callable[[bytes, Ciphers | None], object]
    is_direct: bool
    hand_over: Callable[[bytes, socket.socket], None]


class KeyExchange(Dispatch):
    """Replaces the beginning of asyncssh's key exchange."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, services: Services
    ) -> None:
        super().__init__(loop, options)
        self.services = services
        self._socket: socket.socket | None = None
        self._same_first_kex = False
        self._kexinit_waits: asyncio.Handle | None = None
        self.kex_algorithm = b""
        self.client_host_key_algs: tuple[bytes, ...] = ()
        self.client_ciphers: Ciphers | None = None
        # OpenSSH's PROTOCOL section 1.9: its clients obfuscate keystroke timing only if the server answers PING.
        self._extensions_to_send[b"ping@openssh.com"] = b"0"

    def _send_kexinit(self) -> None:
        """Send our KEXINIT. The first one waits for the client's KEXINIT if that is expected soon.

        asyncssh sends it when the client's identification has come. We wait because our offer should suit the client.
        """
        if self._session_id:
            self._send_kexinit_now()
            return
        wait = self.services.wait(self._client_version, self._round_trip())
        send = self._send_first_kexinit
        # Deferred even without a wait: the client's KEXINIT may have been received already, and is then served first.
        self._kexinit_waits = self._loop.call_later(wait, send) if wait else self._loop.call_soon(send)

    def _round_trip(self) -> float | None:
        """The round-trip time that the kernel has measured; None if it measured the one to a proxy."""
        if self._socket is None or not self.services.is_direct:
            return None
        try:
            return round_trip(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES))
        except OSError:  # gone already
            return None

    def _message_arrives(self, number: int, packet: SSHPacket) -> None:
        """The first message, whatever it is, ends the wait."""
        if self._kexinit_waits is not None:
            self._send_first_kexinit(ciphers_of(packet.get_remaining_payload()) if number == KEXINIT else None)

    def _send_first_kexinit(self, ciphers: Ciphers | None = None) -> None:
        """Offer the ciphers that suit the client.

        The client's order decides (RFC 4253 section 7.1), and OpenSSH's client puts first ciphers that cost us several
        times as much as AES-GCM. Those are not offered to a client that supports AES-GCM.
        """
        if self._kexinit_waits is None or self._transport is None:
            return
        self._kexinit_waits.cancel()
        self._kexinit_waits = None
        if self.services.only_gcm(self._client_version, ciphers):
            self._enc_algs = [cipher.encode() for cipher in GCM_CIPHERS]
        self._send_kexinit_now()

    def _send_kexinit_now(self) -> None:
        super()._send_kexinit()

    def report_ciphers(self) -> None:
        """The client has logged in: tell the cipher steering what this client supports."""
        self.services.logged_in(self._client_version, self.client_ciphers)

    def _choose_alg(self, alg_type: str, local_algs: Any, remote_algs: Any) -> bytes:
        """RFC 4253 section 7.1. Reports that no cipher matched, so that the client's next attempt is offered all."""
        if alg_type == "key exchange":
            self._same_first_kex = bool(remote_algs) and local_algs[0] == remote_algs[0]
            if not self._session_id:
                self.services.greeted(self._client_version, hassh(self._client_kexinit[1:], self._server_kexinit[1:]))
        try:
            chosen = super()._choose_alg(alg_type, local_algs, remote_algs)
        except asyncssh.KeyExchangeFailed:
            if alg_type == "encryption":
                self.services.negotiation_failed()
            raise
        if alg_type == "key exchange":
            self.kex_algorithm = chosen
        return chosen

    def _serve_key_exchange(self, number: int, sequence: int, packet: SSHPacket) -> Awaitable[None] | None:
        """Compute the keys; returns an awaitable that gets the signature over the exchange hash and sends the reply.

        asyncssh's own signs at once, with a key in memory. The peer's errors are raised at once, as in asyncssh.
        """
        kex = cast("_KexDHBase", self._kex)
        replies: list[Awaitable[None]] = []

        def perform_reply(_key: SigningKey, key_data: bytes) -> None:
            k = kex._compute_server_shared()  # noqa: SLF001 - what asyncssh's own begins with
            replies.append(self._reply(kex, key_data, k, kex._compute_hash(key_data, k)))  # noqa: SLF001 - only asyncssh's own method hashes as the key exchange needs it

        kex._perform_reply = perform_reply  # type: ignore[method-assign,assignment]  # noqa: SLF001 - see above
        kex.process_packet(number, sequence, packet)
        return replies[0] if replies else None

    async def _reply(self, kex: "_KexDHBase", key_data: bytes, k: bytes, h: bytes) -> None:
        host_key = self._server_host_key
        if host_key is None:  # asyncssh has failed the exchange already
            return
        try:
            signature = await self.services.sign(host_key.algorithm, h)
        except SigningError as error:
            raise asyncssh.KeyExchangeFailed(str(error)) from None
        if self._transport is None:  # gone meanwhile
            return
        kex._send_reply(key_data, signature)  # noqa: SLF001 - what asyncssh's own ends with
        self.send_newkeys(k, h)

    def choose_server_host_key(self, peer_host_key_algs: Any) -> bool:
        """Judge a guessed key exchange packet; asyncssh looks only at the chosen algorithm.

        RFC 4253 section 7: the guess was wrong, and its packet is ignored, unless both sides' lists for key exchange
        and for host keys begin with the same entry. dropbear guesses, and sends the packet again if it was wrong.
        """
        guessed = bool(self._client_kexinit[_FIRST_KEX_FOLLOWS])
        same_first_key = peer_host_key_algs[:1] == list(self._server_host_key_algs or [])[:1]
        self._ignore_first_kex = guessed and not (self._same_first_kex and same_first_key)
        self.client_host_key_algs = tuple(peer_host_key_algs)
        self.client_ciphers = ciphers_of(self._client_kexinit[1:])
        return super().choose_server_host_key(peer_host_key_algs)
