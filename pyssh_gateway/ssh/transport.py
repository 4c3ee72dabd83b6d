"""The transport (RFC 4253): the socket, sending, backpressure and the end of a connection; the fast path.

This module, `receiving`, `sending`, `connection` and `channel` override asyncssh's private methods. So the dependency
is pinned to the minor version, and tests/wire/test_transport_contract.py fails when one of these methods goes away.
Every override is measured or cited: a login costs one delayed ACK less (QUICKACK), a packet one system call and two
cipher objects less, and a peer that has not authenticated can't make us buffer more than a login needs.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_DEBUG,
    MSG_KEX_LAST,
    MSG_NEWKEYS,
    MSG_SERVICE_ACCEPT,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_LAST,
)
from asyncssh.packet import PacketDecodeError

from pyssh_gateway.ssh import turns
from pyssh_gateway.ssh.ciphers import PacketCipher, taking_over, unencrypted
from pyssh_gateway.ssh.disconnects import PeerClosed
from pyssh_gateway.ssh.key_exchange import KeyExchange, Services
from pyssh_gateway.ssh.receiving import READ_BYTES
from pyssh_gateway.ssh.turns import Turns

EARLY_TOTAL_BYTES = 512 * 1024
"""All that a peer may send before it has authenticated. A login with six certificates and the largest RSA keys needs
a tenth of it."""

SEND_HIGH_WATER = 256 * 1024
"""When this much waits for the network, descriptors are no longer read, and the kernel blocks their writers."""

CLOSE_SECONDS = 2.0
"""How long the peer of a connection that we close may take to accept the last bytes (the disconnect message)."""

EARLY_CLOSE_SECONDS = 0.5
"""The same before authentication: a rejected peer must not hold a descriptor for long."""

MAX_ANSWERS_WAITING = 1024 * 1024
PACKET_OVERHEAD = 64
"""Bytes of answers, each with its packet's overhead, that may wait for a peer that does not read. An honest client does
not request a thousandth of that without reading."""

DATA_MESSAGES = frozenset({MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA})

_UNDECODABLE = (PacketDecodeError, UnicodeDecodeError)
"""The errors of a malformed message. Before authentication any ValueError is one: from a key, or a point on a curve."""


class Transport(KeyExchange):
    """One client's transport, the base of `connection.Connection`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        services: Services,
    ) -> None:
        super().__init__(loop, options, services)
        self.bytes_out = 0
        self._bytes_in_at_rekey = 0
        self.writing_paused = False
        self._socket: socket.socket | None = None
        self._outbox = bytearray()
        self._flush_scheduled = False
        self._network_full = False
        self._answers_waiting = 0
        self._data_packets_left = turns.PACKETS
        self._data_turns = Turns(loop, self._next_data_turn)
        self._with_data: dict[Callable[[], None], None] = {}  # in the order of their turns
        self._has_spoken = False
        self._peer_gone = False
        self._on_writable: set[Callable[[bool], None]] = set()

    # -- the socket ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over: immediate ACKs until the peer has authenticated."""
        stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=SEND_HIGH_WATER)
        self._socket = transport.get_extra_info("socket")
        self._acknowledge_at_once()
        super().connection_made(transport)

    def _may_go_on(self) -> bool:
        """Before authentication a peer may send no more than `EARLY_TOTAL_BYTES`."""
        if not self._has_spoken:
            self._has_spoken = True
            self.services.spoke()
        if not self._auth_complete:
            self._acknowledge_at_once()
            if self.bytes_in > EARLY_TOTAL_BYTES:
                self._force_close(asyncssh.ProtocolError("too much data before authentication"))
                return False
        self._make_new_keys_if_due()
        return True

    def _acknowledge_at_once(self) -> None:
        """Acknowledge without delay: the client has Nagle's algorithm on during the handshake and waits for our ACK.

        Linux delays ACKs by 40 ms, and TCP_QUICKACK does not last beyond a read (tcp(7)), so it is set again each time.
        """
        if self._socket is not None:
            with suppress(OSError):  # the peer is gone already
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def authenticated(self) -> None:
        """The client has authenticated: read in large pieces from now on."""
        self.report_ciphers()
        self._read_bytes = READ_BYTES

    # -- sending ------------------------------------------------------------------------------------------------

    def send_packet(self, pkttype: int, *args: bytes, handler: object = None) -> None:
        """Send one packet, as asyncssh's method does, but without an SSH_MSG_IGNORE before each one.

        The IGNORE is a countermeasure for CBC ciphers (RFC 4251 section 9.3.1), which are not offered; it doubles the
        cost of every packet.
        """
        self._make_new_keys_if_due()
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

    def _make_new_keys_if_due(self) -> None:
        if self._auth_complete and self._kex_complete and self._rekey_due():
            self._send_kexinit()
            self._kexinit_sent = True

    def _rekey_due(self) -> bool:
        """Whether either direction has used its keys enough, as in sshd (packet.c, ssh_packet_need_rekeying)."""
        return bool(
            self._rekey_bytes_sent >= self._rekey_bytes
            or self.bytes_in - self._bytes_in_at_rekey >= self._rekey_bytes
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
        if self._send_encryption is None:
            return unencrypted(pkttype, args)
        if not isinstance(self._send_encryption, PacketCipher):  # asyncssh sends deferred packets once it has keys
            self._take_ciphers_over()
        return cast(PacketCipher, self._send_encryption).seal(self._send_seq, pkttype, args)

    def _send(self, data: bytes | bytearray) -> int:  # type: ignore[override]  # asyncssh's returns nothing
        """Queue bytes for the single write at the end of this turn of the loop; returns their number."""
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
        if not self._with_data:
            self._data_packets_left = turns.PACKETS
            self._data_turns.done()

    def may_send_data(self, go_on: Callable[[], None]) -> bool:
        """Whether one more data packet may be sent now; if not, `go_on` is called when its turn comes.

        While the network is full, and while other channels have to take their turn, data waits in its channel, where it
        is bounded.
        """
        if self.writing_paused or not self._data_packets_left:
            self.yield_data(go_on)
            return False
        self._data_packets_left -= 1
        return True

    def yield_data(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called after other channels with data had their turn."""
        self._with_data[go_on] = None
        if not self.writing_paused:
            self._data_turns.used_up()

    def drop_data(self, go_on: Callable[[], None]) -> None:
        """Cancel `yield_data`: the channel has no more data to send."""
        self._with_data.pop(go_on, None)

    def _next_data_turn(self) -> None:
        self._data_packets_left = turns.PACKETS
        self._let_data_go()

    def _let_data_go(self) -> None:
        while self._with_data and self._data_packets_left and not self.writing_paused:
            go_on = next(iter(self._with_data))
            del self._with_data[go_on]
            go_on()
        if self._with_data and not self.writing_paused:
            self._data_turns.used_up()

    def _count_answer(self, size: int) -> None:
        """Cut a peer off that asks and never reads: data sources can be paused, answers can't."""
        self._answers_waiting += size + PACKET_OVERHEAD
        if self._answers_waiting > MAX_ANSWERS_WAITING:
            self._answers_waiting = 0
            self._loop.call_soon(self._force_close, asyncssh.ProtocolError("the client does not read our answers"))

    def pause_writing(self) -> None:
        """The network takes no more data: pause every source of this connection."""
        self._network_full = True
        self._tell_writable()

    def resume_writing(self) -> None:
        """The network has taken the waiting data."""
        self._network_full = False
        self._tell_writable()

    def _tell_writable(self) -> None:
        """Run sources only while the network takes data and no key exchange delays it; the peer may never end one."""
        paused = self._network_full or (self._auth_complete and not self._kex_complete)
        if paused == self.writing_paused:
            return
        self.writing_paused = paused
        self._answers_waiting = 0
        for callback in tuple(self._on_writable):
            callback(not paused)
        self._let_data_go()

    def on_writable(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call `callback` when the network stops (now, if it has already) or resumes taking data.

        Returns a function that cancels this.
        """
        self._on_writable.add(callback)
        if self.writing_paused:
            callback(False)
        return lambda: self._on_writable.discard(callback)

    # -- leaving ------------------------------------------------------------------------------------------------

    def _force_close(self, exc: Exception | None) -> None:
        """Close, but deliver the last message first: asyncssh's method would drop its own disconnect message."""
        transport = self._transport
        if transport is None:
            return
        self._flush()
        self._transport = None
        self._with_data.clear()
        self._data_turns.end()
        transport.resume_reading()  # further input is discarded
        if self._peer_gone or transport.is_closing():
            transport.abort()
        else:
            # Closing with unread input would reset the connection, and the peer would lose our last message.
            with suppress(OSError):  # the peer has reset it already
                transport.write_eof()
            self._loop.call_later(CLOSE_SECONDS if self._auth_complete else EARLY_CLOSE_SECONDS, transport.abort)
        self._loop.call_soon(self._cleanup, exc)

    def cut_off(self, reason: str) -> None:
        """End an unauthenticated connection at once: its descriptor is needed for others."""
        transport = self._transport
        if transport is not None:
            self._force_close(asyncssh.ConnectionLost(reason))
            transport.abort()

    def connection_lost(self, exc: Exception | None = None) -> None:
        """The socket is closed. If it was open until now and there is no error, the peer has closed it."""
        super().connection_lost(PeerClosed() if exc is None and self._transport is not None else exc)

    def eof_received(self) -> None:
        """The peer has closed its side, which ends the connection: SSH is not used on a half-closed one."""
        self._peer_gone = True
        super().eof_received()

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """Report a bug of ours instead of losing it in a debug log. A decoding error is the peer's fault."""
        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if isinstance(error, _UNDECODABLE if self._auth_complete else ValueError):
            self._force_close(asyncssh.ProtocolError(f"malformed data: {error}"))
            return
        report = getattr(self._owner, "internal_error", None)
        if report is not None:
            report(exc_info)
        super().internal_error(exc_info, error_logger)

    # -- key exchange -------------------------------------------------------------------------------------------

    def _send_kexinit_now(self) -> None:
        self._bytes_in_at_rekey = self.bytes_in
        super()._send_kexinit_now()
        self._tell_writable()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Switch to the new keys, with our own ciphers."""
        super().send_newkeys(k, h)
        self._take_ciphers_over()
        self._tell_writable()

    def _take_ciphers_over(self) -> None:
        """Replace the ciphers that asyncssh has just made, and that have not been used yet, by ours."""
        sending, receiving = self._send_encryption, self._next_recv_encryption
        if sending is not None and not isinstance(sending, PacketCipher):
            self._send_encryption = taking_over(sending, self._enc_alg_sc.decode(), self._mac_alg_sc.decode())
        if receiving is not None and not isinstance(receiving, PacketCipher):
            self._next_recv_encryption = taking_over(receiving, self._enc_alg_cs.decode(), self._mac_alg_cs.decode())

    # -- debug logging is off -----------------------------------------------------------------------------------

    def log_sent_packet(self, *args: object, **kwargs: object) -> None:
        """Do nothing: asyncssh would format a description of every packet for a debug log that is off."""

    def log_received_packet(self, *args: object, **kwargs: object) -> None:
        """The same for received packets."""
