"""Hand-over of a connection at login: one process gives its state away, and another process takes it up.

The process that has served the unauthenticated client never sends USERAUTH_SUCCESS. It sends the state that another
process needs (`ipc.handover.ConnectionState`), and forgets the connection without ending it. The other process first
sends SUCCESS, and then serves what the client had sent ahead. The client notices nothing.
"""

import asyncio
import socket
import time
from collections.abc import Iterable

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.encryption import get_encryption_params

from pyssh_gateway.core.steering import Ciphers
from pyssh_gateway.ipc.handover import ConnectionState, encode
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.ssh.ciphers import PacketCipher, from_state
from pyssh_gateway.ssh.key_exchange import Services
from pyssh_gateway.ssh.options import CIPHERS, SIGNATURE_ALGORITHMS
from pyssh_gateway.ssh.transport import Transport

_UNTIL_SUCCESS = "hand-over"
"""The reason to hold input that the client has sent ahead."""


class NotAtBoundary(Exception):
    """The connection can't be handed over at this point; the text says why."""


class Movable(Transport):
    """A transport that hands its connection over at login, or continues one from its `state`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
        state: ConnectionState | None = None,
    ) -> None:
        super().__init__(loop, options, services)
        self._goes_on = state is not None
        self._user_of_first_request: bytes | None = None
        if state is not None:
            self._take_up(state)

    # -- giving it away -----------------------------------------------------------------------------------------

    async def send_userauth_success(self) -> None:
        """Hand the connection over instead: the process that takes it over sends the message."""
        self._flush()
        try:
            state = encode(state_of(self))
            sock = self._let_go()
        except (NotAtBoundary, ProtocolError, OSError) as error:
            raise asyncssh.ServiceNotAvailable(f"the connection can't be handed over: {error}") from None
        self.services.hand_over(state, sock)

    def state(self) -> ConnectionState:
        """All that another process needs to continue after the packet that is being served. Raises NotAtBoundary."""
        sending, receiving = self._send_encryption, self._recv_encryption
        if self._transport is None or self._transport.is_closing():
            raise NotAtBoundary("it is closed")
        if not isinstance(sending, PacketCipher) or not isinstance(receiving, PacketCipher):
            raise NotAtBoundary("there are no keys yet")
        if self._kex is not None or self._next_recv_encryption is not None or not self._kex_complete:
            raise NotAtBoundary("a key exchange is under way")
        if self._kexinit_sent or self._kexinit_waits is not None:
            raise NotAtBoundary("a KEXINIT is outstanding")
        if self._deferred_packets:
            raise NotAtBoundary("packets wait to be sent")
        if self._outbox or self._transport.get_write_buffer_size():
            raise NotAtBoundary("not all that was sent has been written")
        if self._auth_complete or not self._auth_in_progress or self._user_of_first_request is None:
            raise NotAtBoundary("nobody is logging in")
        ciphers, host_key = self.client_ciphers, self._server_host_key
        return ConnectionState(
            client_version=self._client_version,
            server_version=self._server_version,
            session_id=self._session_id,
            strict_kex=self._strict_kex,
            send_sequence=self._send_seq,
            # A packet's number counts as used when it has been served.
            receive_sequence=self._recv_seq + (self._handler is not None) & 0xFFFFFFFF,
            sending=sending.state(),
            receiving=receiving.state(),
            kex=self.kex_algorithm.decode("ascii"),
            host_key=host_key.algorithm.decode("ascii") if host_key is not None else "",
            send_compression=self._cmp_alg_sc.decode("ascii"),
            receive_compression=self._cmp_alg_cs.decode("ascii"),
            offered_ciphers=tuple(cipher.decode("ascii") for cipher in self._enc_algs),
            client_ciphers=(_ours(ciphers.to_server), _ours(ciphers.to_client)) if ciphers is not None else None,
            client_host_keys=tuple(
                name for name in SIGNATURE_ALGORITHMS if name.encode("ascii") in self.client_host_key_algs
            ),
            user=self._user_of_first_request,
            can_send_ext_info=self._can_send_ext_info,
            rekey_bytes=self._rekey_bytes_sent,
            rekey_seconds=max(0.0, self._rekey_time - time.monotonic()),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            unparsed=self._reader.peek(self._reader.waiting_bytes),
        )

    def _let_go(self) -> socket.socket:
        """Forget the connection without reporting its end; returns a duplicate of its socket. Raises OSError."""
        transport, own = self._transport, self._socket
        assert transport is not None  # noqa: S101 - `state` has checked
        assert own is not None  # noqa: S101 - it comes with the transport
        sock = own.dup()
        self._transport = None
        # Detach both, so that they are not ended: the owner goes on, and the authentication is this method's caller.
        self._auth = None
        self._owner = None  # type: ignore[assignment]  # as in asyncssh's own _cleanup
        transport.abort()  # nothing waits to be written, and the duplicate keeps the socket open
        self._data_turns.end()
        self._cleanup(None)
        return sock

    # -- taking it up -------------------------------------------------------------------------------------------

    def _take_up(self, state: ConnectionState) -> None:
        """Continue from `state`. Raises ValueError for invalid ciphers."""
        self._client_version, self._server_version = state.client_version, state.server_version
        self._session_id, self._strict_kex = state.session_id, state.strict_kex
        self._send_seq, self._recv_seq = state.send_sequence, state.receive_sequence
        self._send_encryption = from_state(state.sending)
        self._recv_encryption = receiving = from_state(state.receiving)
        recv_mac = state.receiving.mac or state.receiving.cipher
        _, _, block, _, self._recv_macsize, _ = get_encryption_params(
            state.receiving.cipher.encode("ascii"), recv_mac.encode("ascii")
        )
        self._recv_blocksize = max(8, block)
        self._reader.use(receiving, self._recv_blocksize, self._recv_macsize)
        self._reader.put(state.unparsed)
        self.set_extra_info(
            client_version=state.client_version.decode("ascii"),
            server_version=state.server_version.decode("ascii"),
            send_cipher=state.sending.cipher,
            send_mac=state.sending.mac or state.sending.cipher,
            send_compression=state.send_compression,
            recv_cipher=state.receiving.cipher,
            recv_mac=recv_mac,
            recv_compression=state.receive_compression,
        )
        self.kex_algorithm = state.kex.encode("ascii")
        self._cmp_alg_sc = state.send_compression.encode("ascii")
        self._cmp_alg_cs = state.receive_compression.encode("ascii")
        self._server_host_key = self._server_host_keys.get(state.host_key.encode("ascii"))
        self._enc_algs = [cipher.encode("ascii") for cipher in state.offered_ciphers]
        if state.client_ciphers is not None:
            self.client_ciphers = Ciphers(*map(frozenset, state.client_ciphers))
        self.client_host_key_algs = tuple(name.encode("ascii") for name in state.client_host_keys)
        self._user_of_first_request, self._username = state.user, state.user.decode("ascii")
        self._can_send_ext_info = state.can_send_ext_info
        self._rekey_bytes_sent, self._bytes_in_at_rekey = state.rekey_bytes, 0
        left = min(state.rekey_seconds, self._rekey_seconds or state.rekey_seconds)
        self._rekey_time = time.monotonic() + left
        self.bytes_in, self.bytes_out = state.bytes_in, state.bytes_out
        self._identified = self._has_spoken = self._kex_complete = self._auth_in_progress = True
        self.hold_input(_UNTIL_SUCCESS)

    def _send_version(self) -> None:
        """Send the first message: the identification line, or USERAUTH_SUCCESS after a hand-over."""
        if self._goes_on:
            self.create_task(self._succeed())
        else:
            super()._send_version()

    async def _succeed(self) -> None:
        if self._transport is None:  # the connection ended before this task began
            return
        await super().send_userauth_success()
        self.release_input(_UNTIL_SUCCESS)


def state_of(connection: Movable) -> ConnectionState:
    """All that another process needs to go on with `connection`. Raises NotAtBoundary."""
    return connection.state()


def _ours(ciphers: Iterable[str]) -> tuple[str, ...]:
    """The ciphers among `ciphers` that we know: a client may name thousands."""
    return tuple(name for name in CIPHERS if name in ciphers)
