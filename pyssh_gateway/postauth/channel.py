"""A session channel (RFC 4254 section 6) as sshd's clients expect it.

It replaces asyncssh's handling of those requests that asyncssh refuses, alters or queues without a bound.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import (
    SSHAgentChannel,
    SSHServerChannel,
    SSHTCPChannel,
    SSHUNIXChannel,
    SSHX11Channel,
)
from asyncssh.packet import SSHPacket, UInt32

from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.launch import MAX_ENV_TOTAL, MAX_ENV_VARIABLES, NOLOGIN_EXIT_STATUS, Terminal, accepts_env
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ssh.packets import Message
from pyssh_gateway.ssh.windowed import PACKET_BYTES, WINDOW_BYTES, WindowedChannel
from pyssh_gateway.system.signals import ssh_name

MAX_WAITING_REQUESTS = 64
"""Requests that may wait while a process is being started. A client sends about four ahead."""

MAX_WAITING_REQUEST_BYTES = 256 * 1024
"""Limit on the bytes of requests that already wait when one more comes: one packet may be as long as this, and no
budget counts these requests."""

SERVED_REQUESTS = frozenset(
    {
        "auth-agent-req@openssh.com",
        "break",
        "env",
        "eow@openssh.com",
        "exec",
        "keepalive@openssh.com",
        "pty-req",
        "shell",
        "signal",
        "subsystem",
        "window-change",
        "x11-req",
    }
)
"""The channel requests that are handled. All others are answered with a failure."""

_MODE_END = 0
_MODE_RESERVED = 160
"""RFC 4254 section 8: opcodes from here on have no defined argument, so parsing stops there."""


class SessionEvents(Protocol):
    """What a session does for its channel beyond asyncssh's `SSHServerSession`."""

    def terminal_requested(self, terminal: Terminal) -> bool:
        """`pty-req`: whether there may be a pty."""

    @property
    def exit_is_due(self) -> bool:
        """Whether only the exit status is left to send: all output and EOF were sent, or the client refused output."""

    def output_refused(self) -> None:
        """`eow@openssh.com`: the client can no longer write standard output anywhere."""

    def eof_received(self) -> bool:
        """No more input comes; may be called twice."""

    def signal_requested(self, name: str) -> bool:
        """`signal`: whether the signal, named without SIG, was sent."""


class PromptClose(WindowedChannel):
    """A channel that ends when its peer closes it, whether or not its input has been taken."""

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """The client closes: deliver the input that it sent before, and end the channel.

        asyncssh would first wait until paused input has been read, possibly for ever.
        """
        self._hand_over()
        super()._process_close(pkttype, pktid, packet)
        if self._recv_state == "close_pending":
            self._discard_recv()

    def process_open_confirmation(self, send_chan: int, send_window: int, send_pktsize: int, packet: SSHPacket) -> None:
        """The client has opened the channel. If our side no longer waits for it, close it here: nothing else would."""
        given_up = self._open_waiter is not None and self._open_waiter.cancelled()
        super().process_open_confirmation(send_chan, send_window, send_pktsize, packet)
        if given_up:
            self.close()

    def _hand_over(self) -> None:
        if self._session is not None:
            for data, datatype in self._recv_buf:
                self._session.data_received(data, datatype)
        self.discard_input()

    @property
    def takes_data(self) -> bool:
        """Whether data may still be sent: our side has sent neither EOF nor close."""
        return self._send_state == "open"

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **WindowedChannel._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        asyncssh.constants.MSG_CHANNEL_CLOSE: _process_close,
    }


class TcpChannel(PromptClose, SSHTCPChannel[bytes]):
    """direct-tcpip and forwarded-tcpip."""


class UnixChannel(PromptClose, SSHUNIXChannel[bytes]):
    """direct-streamlocal@openssh.com and forwarded-streamlocal@openssh.com."""


class AgentChannel(PromptClose, SSHAgentChannel):
    """auth-agent@openssh.com."""


class X11Channel(PromptClose, SSHX11Channel):
    """x11."""


class ConnectionServices(Protocol):
    """What our connection does for the channel."""

    async def forward_x11(self, screen: int, protocol: str, cookie: str) -> X11Display | None:
        """A display here that is connected to the client's display."""

    async def forward_agent(self) -> bool:
        """Whether the client's agent can be reached from here now."""


class SessionChannel(PromptClose, SSHServerChannel[bytes]):
    """One session's channel. `env` holds the variables that the client has set and the patterns `accept_env` allow."""

    def __init__(self, conn: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            conn,
            loop,
            allow_pty=True,
            line_editor=False,
            line_echo=False,
            line_history=0,
            max_line_length=0,
            encoding=None,
            errors="strict",
            window=WINDOW_BYTES,
            max_pktsize=PACKET_BYTES,
        )
        self.env: dict[bytes, bytes] = {}
        self.accept_env: tuple[str, ...] = ()
        self.x11: X11Display | None = None
        self._closed_by_peer = False
        # A source is paused as soon as its data does not fit into the peer's window, so at most one read is held here.
        self.set_write_buffer_limits(high=0, low=0)

    @property
    def _events(self) -> SessionEvents:
        return cast(SessionEvents, self._session)

    @property
    def peer_packet_size(self) -> int:
        """The largest data packet that the client takes."""
        return self._send_pktsize

    @property
    def drained(self) -> bool:
        """Whether all data that was written has been sent."""
        return not self._send_buf_len

    def answer(self, granted: bool) -> None:
        """Answer the shell, exec or subsystem request that the session left open."""
        if self._request_queue:
            self._report_response(granted)

    def tell_exit(self, exit_: Exited | None) -> None:
        """`exit-status` or `exit-signal` (RFC 4254 section 6.10); `exit_` None: there was no process."""
        if self.is_closed:
            return
        if exit_ is not None and exit_.signal is not None:
            name, core_dumped = ssh_name(exit_.signal), bytes((exit_.core_dumped,))
            self._send_request(b"exit-signal", _string(name), core_dumped, _string(""), _string(""))
        else:
            status = NOLOGIN_EXIT_STATUS if exit_ is None else exit_.status or 0
            self._send_request(b"exit-status", UInt32(status))

    def refuse_input(self) -> None:
        """`eow@openssh.com`: the process no longer reads its input, so the client need not send it."""
        if not self.is_closed and not self._closed_by_peer:
            self._send_request(b"eow@openssh.com")

    def drop_output(self) -> None:
        """Discard standard output that waits for room in the client's window; other data keeps its place."""
        self._drop(lambda datatype: datatype is None)

    def _drop(self, unwanted: Callable[[int | None], bool]) -> None:
        self._send_buf = [(data, datatype) for data, datatype in self._send_buf if not unwanted(datatype)]
        self._send_buf_len = sum(len(data) for data, _ in self._send_buf)
        self._flush_send_buf()

    @property
    def takes_data(self) -> bool:
        """Whether data may still be sent: our side has not sent EOF, and neither side has closed."""
        return super().takes_data and not self._closed_by_peer

    @property
    def is_closed(self) -> bool:
        """Whether our side has been closed (or the peer has left)."""
        return self._send_state in {"close_pending", "closed"}

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """As `PromptClose`, but a client that closes after our EOF still gets the exit status before our close.

        OpenSSH's client does this on a shared connection: it closes once both sides have sent EOF or end-of-write.
        """
        if self._closed_by_peer:
            return
        exit_is_due = self._session is not None and self._events.exit_is_due  # no session: still opening
        self._closed_by_peer = True
        if exit_is_due:
            packet.check_end()
            self._hand_over()
            self._events.eof_received()
            self._recv_state = "close_pending"
            self._recv_paused = False  # there is nothing to resume, and resuming would end the channel
            self._drop(lambda _: True)
        else:
            super()._process_close(pkttype, pktid, packet)

    def _process_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        self.heard()
        waiting = sum(cast(Message, request).size for _, request, _ in self._request_queue)
        if len(self._request_queue) >= MAX_WAITING_REQUESTS or waiting > MAX_WAITING_REQUEST_BYTES:
            raise asyncssh.ProtocolError("Too many channel requests")
        super()._process_request(pkttype, pktid, packet)

    def _service_next_request(self) -> None:
        """Serve only known requests: asyncssh looks handlers up by name, and so finds methods that are not handlers."""
        name = self._request_queue[0][0]
        if name in SERVED_REQUESTS:
            super()._service_next_request()
        else:
            self._report_response(False)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **PromptClose._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        asyncssh.constants.MSG_CHANNEL_REQUEST: _process_request,
        asyncssh.constants.MSG_CHANNEL_CLOSE: _process_close,
    }

    def _process_pty_req_request(self, packet: SSHPacket) -> bool:
        """Accept what sshd accepts: any TERM, and the modes up to the first that is not defined."""
        term = packet.get_string().decode("ascii", "replace").replace("\0", "")
        columns, rows, width, height = (packet.get_uint32() for _ in range(4))
        modes = parse_modes(packet.get_string())
        packet.check_end()
        return self._events.terminal_requested(Terminal(term, columns, rows, width, height, modes))

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        held = sum(len(key) + len(text) for key, text in self.env.items())
        if len(self.env) >= MAX_ENV_VARIABLES or held + len(name) + len(value) > MAX_ENV_TOTAL:
            return False
        if not accepts_env(name, value, self.accept_env):
            return False
        self.env[name] = value
        return True

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """A command is bytes: bytes that are not UTF-8 reach the shell unchanged."""
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        """OpenSSH's PROTOCOL.agent: answered once the socket has been made, or could not be made."""
        packet.check_end()
        self._conn.create_task(self._forward_agent())

    async def _forward_agent(self) -> None:
        granted = await cast(ConnectionServices, self._conn).forward_agent()
        if self._request_queue:
            self._report_response(granted)

    def _process_x11_req_request(self, packet: SSHPacket) -> None:
        """RFC 4254 section 6.3.1. "Single connection" is enforced by the client, which refuses the second one."""
        packet.get_boolean()
        protocol, cookie = (packet.get_string().decode("ascii", "replace") for _ in range(2))
        screen = packet.get_uint32()
        packet.check_end()
        self._conn.create_task(self._forward_x11(screen, protocol, cookie))

    async def _forward_x11(self, screen: int, protocol: str, cookie: str) -> None:
        if self.x11 is None and not self._session_started:
            self.x11 = await cast(ConnectionServices, self._conn).forward_x11(screen, protocol, cookie)
            granted = self.x11 is not None
        else:
            granted = False
        if self._request_queue:
            self._report_response(granted)

    def _process_signal_request(self, packet: SSHPacket) -> bool:
        name = packet.get_string().decode("ascii", "replace")
        packet.check_end()
        return self._events.signal_requested(name)

    def _process_eow_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:
        """OpenSSH's PROTOCOL section 2.1: no reply is expected. If one is wanted, sshd obeys but answers failure."""
        packet.check_end()
        self._events.output_refused()
        return False


def parse_modes(encoded: bytes) -> tuple[tuple[int, int], ...]:
    """The (opcode, value) pairs of an encoded terminal modes string (RFC 4254 section 8).

    Parsing stops at the string's end or at the first opcode without a defined argument.
    """
    modes = []
    for start in range(0, len(encoded) - 4, 5):
        opcode = encoded[start]
        if opcode == _MODE_END or opcode >= _MODE_RESERVED:
            break
        modes.append((opcode, int.from_bytes(encoded[start + 1 : start + 5], "big")))
    return tuple(modes)


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data
