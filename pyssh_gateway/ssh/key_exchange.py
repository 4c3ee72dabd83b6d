"""A key exchange (RFC 4253 sections 7 and 8): what is offered, and when; which guesses are right; the signature."""

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
from pyssh_gateway.ssh.dispatch import Dispatch

if TYPE_CHECKING:
    from asyncssh.kex_dh import _KexDHBase

_FIRST_KEX_FOLLOWS = -5
"""Where a KEXINIT has `first_kex_packet_follows`: before its last field, a reserved uint32 (RFC 4253 section 7.1)."""

_TCP_INFO_BYTES = 256
"""What the kernel may write of `struct tcp_info`: more than the part that is looked at."""


class SigningError(Exception):
    """A signature with a host key can't be had. The message is for the log and for the peer."""


class Services(msgspec.Struct, frozen=True):
    """What a connection needs from its listener, and its listener is told; see `core.steering.CipherSteering`.

    `sign` (algorithm, exchange hash) gives the signature with the host key that is offered for the algorithm, or raises
    SigningError. `prove` (public keys, algorithm of RSA keys) gives the answer to a `hostkeys-prove` request, None to
    refuse it.

    `only_gcm` decides by the client's identification line and, if they have come, its ciphers; `wait` how long to wait
    for them, by the line and the seconds of a round trip. `spoke` is told of the first bytes. `is_direct`:
    no proxy has brought the client. `hand_over` gets the state of a connection whose client was accepted, and a socket
    of its own for it: from there on it goes on elsewhere.
    """

    sign: Callable[[bytes, bytes], Awaitable[bytes]]
    prove: Callable[[tuple[bytes, ...], bytes], Awaitable[bytes | None]]
    spoke: Callable[[], None]
    only_gcm: Callable[[bytes, Ciphers | None], bool]
    wait: Callable[[bytes, float | None], float]
    negotiation_failed: Callable[[], None]
    logged_in: Callable[[bytes, Ciphers | None], object]
    is_direct: bool
    hand_over: Callable[[bytes, socket.socket], None]


class KeyExchange(Dispatch):
    """What stands in the place of asyncssh's beginning of a key exchange."""

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
        # OpenSSH's PROTOCOL section 1.9: its clients hide the times of keystrokes only from a server that answers PING.
        self._extensions_to_send[b"ping@openssh.com"] = b"0"

    def _send_kexinit(self) -> None:
        """Send our KEXINIT, the first one after what has come already, or as soon as the client's has if that is near.

        asyncssh sends it when the client's identification has come; what it offers should suit the client.
        """
        if self._session_id:
            self._send_kexinit_now()
            return
        wait = self.services.wait(self._client_version, self._round_trip())
        send = self._send_first_kexinit
        # Without a wait as well: the client's may be in what has been received, and is looked at before this is called.
        self._kexinit_waits = self._loop.call_later(wait, send) if wait else self._loop.call_soon(send)

    def _round_trip(self) -> float | None:
        """The kernel's own measure; None if it measures somebody else."""
        if self._socket is None or not self.services.is_direct:
            return None
        try:
            return round_trip(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES))
        except OSError:  # gone already
            return None

    def _message_arrives(self, number: int, packet: SSHPacket) -> None:
        """Whatever comes first is the end of the wait."""
        if self._kexinit_waits is not None:
            self._send_first_kexinit(ciphers_of(packet.get_remaining_payload()) if number == KEXINIT else None)

    def _send_first_kexinit(self, ciphers: Ciphers | None = None) -> None:
        """Offer the ciphers that suit the client.

        The client's order decides (RFC 4253 section 7.1) and OpenSSH's puts ciphers first that cost us a multiple of
        AES-GCM, so those are not offered to a client that has AES-GCM.
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
        """Somebody has logged in: tell the steering what this client has."""
        self.services.logged_in(self._client_version, self.client_ciphers)

    def _choose_alg(self, alg_type: str, local_algs: Any, remote_algs: Any) -> bytes:
        """RFC 4253 section 7.1; remembers that a client was offered too little, so that its next try gets it all."""
        if alg_type == "key exchange":
            self._same_first_kex = bool(remote_algs) and local_algs[0] == remote_algs[0]
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
        """Compute the keys; what is returned gets the signature over the exchange hash, and sends the reply.

        asyncssh signs at once, with a key that it has. Errors of the peer's are raised at once, as by asyncssh's.
        """
        kex = cast("_KexDHBase", self._kex)
        replies: list[Awaitable[None]] = []

        def perform_reply(_key: SigningKey, key_data: bytes) -> None:
            k = kex._compute_server_shared()  # noqa: SLF001 - what asyncssh's own begins with
            replies.append(self._reply(kex, key_data, k, kex._compute_hash(key_data, k)))  # noqa: SLF001 - the same

        kex._perform_reply = perform_reply  # type: ignore[method-assign,assignment]  # noqa: SLF001 - see above
        kex.process_packet(number, sequence, packet)
        return replies[0] if replies else None

    async def _reply(self, kex: "_KexDHBase", key_data: bytes, k: bytes, h: bytes) -> None:
        host_key = self._server_host_key
        if host_key is None:  # asyncssh fails the exchange if there is none
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
        """Judge a guessed key exchange packet, which asyncssh does by the chosen algorithm alone.

        RFC 4253 section 7: the guess was wrong, and its packet is ignored, unless both sides' lists for key exchange
        and for host keys begin with the same entry. dropbear guesses, and sends the packet again if it was wrong.
        """
        guessed = bool(self._client_kexinit[_FIRST_KEX_FOLLOWS])
        same_first_key = peer_host_key_algs[:1] == list(self._server_host_key_algs or [])[:1]
        self._ignore_first_kex = guessed and not (self._same_first_kex and same_first_key)
        self.client_host_key_algs = tuple(peer_host_key_algs)
        self.client_ciphers = ciphers_of(self._client_kexinit[1:])
        return super().choose_server_host_key(peer_host_key_algs)
