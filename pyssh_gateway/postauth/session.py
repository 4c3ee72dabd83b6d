"""A session: one process of the user's behind one channel (RFC 4254 section 6).

The session asks the spawner for the process, pumps bytes between its descriptors and the channel, and ends the channel
as sshd does: when the process has been reaped and what it wrote has been sent, with exit-status, EOF, close.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import asyncssh
import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import RequestDenied, SessionOpened
from pyssh_gateway.ipc.spawner import Exited, close_all
from pyssh_gateway.ipc.spawner_client import Spawned, SpawnRefused
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.file_events import FileEvents
from pyssh_gateway.postauth.pump import Flow
from pyssh_gateway.postauth.record import SessionRecord
from pyssh_gateway.postauth.request import Asked, request_of
from pyssh_gateway.postauth.streams import PROCESS_STREAMS, Streams
from pyssh_gateway.spawner.processes.account_rules import NOLOGIN_EXIT_STATUS
from pyssh_gateway.system.signals import SIGNAL_NAMES, ssh_name

__all__ = ["Session", "SessionContext"]

EOF_GRACE_SECONDS = 0.05
"""How long an EOF waits for the exit status, which comes another way and some clients want first. A process that closes
its output and lives on is the exception; its EOF is passed on after this."""

EXIT_GRACE_SECONDS = 0.05
"""How long the exit waits for the output's end, so that clients usually hear of it last. sshd tells of it at once. It
also waits for a client that does not take what is there."""

DRAIN_BYTES = 128 * 1024
"""How much is read from a pty after its process has ended. The kernel holds at most 64 KiB for a pty; what comes beyond
is a background process's, and sshd cuts that off, too."""

INPUT_SECONDS = 5.0
"""How long a process may take to read what the client sent before it closed the channel; sshd would wait for ever."""


class Session(asyncssh.SSHServerSession[bytes]):
    """One session channel's requests, process and bytes. `record` is what it did so far."""

    def __init__(self, context: SessionContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self.record = SessionRecord(context)
        self._loop = loop
        self._channel: SessionChannel
        self._open = False
        self._announcement = ""
        self._terminal: launch.Terminal | None = None
        self._kind = ""
        self._process: Spawned | None = None
        self._streams: Streams | None = None
        self._file_events: FileEvents | None = None
        self._exit: Exited | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._exit_timer: asyncio.TimerHandle | None = None
        self._exit_told = False
        self._forget_network: Callable[[], None] = lambda: None
        self._flow = Flow(self._flow_changed)
        self._drain_left = DRAIN_BYTES
        self._finished = False
        self._left_open = False
        self._released = False
        self._lost = False
        self._stopping = False
        self._output_refused = False
        self._early_input = b""

    # -- what the channel asks for ------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open; nothing runs yet."""
        self._channel = cast(SessionChannel, chan)
        self._open = True

    def terminal_requested(self, terminal: launch.Terminal) -> bool:
        """`pty-req`, once and before the process."""
        if self._terminal is not None or self._process is not None:
            return False
        if not self._context.rules.pty:
            self._deny("pty-req", "this key may not have a terminal")
            return False
        self._terminal = terminal
        return True

    def shell_requested(self) -> bool:
        """`shell`: the login shell; answered when it runs."""
        return self._launch("shell", None)

    def exec_requested(self, command: str) -> bool:
        """`exec`: a command for the shell; answered when it runs."""
        return self._launch("exec", command.encode("utf-8", "surrogateescape"))

    def subsystem_requested(self, subsystem: str) -> bool:
        """`subsystem`: SFTP, by a server of our own that runs as the user; never a shell for another name."""
        if subsystem == "sftp" and self._terminal is None:
            return self._launch("subsystem", b"sftp")
        self._deny(f"subsystem {subsystem}", "this subsystem is not served")
        return False

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """`window-change`, before the process runs or while it does."""
        if self._streams is not None:
            self._streams.resize(width, height, pixwidth, pixheight)
        elif self._terminal is not None:
            size = {"columns": width, "rows": height, "width": pixwidth, "height": pixheight}
            self._terminal = msgspec.structs.replace(self._terminal, **size)

    def signal_requested(self, name: str) -> bool:
        """`signal`: to the process group, with the user's rights."""
        if self._process is None or self._exit is not None or name not in SIGNAL_NAMES:
            return False
        told = self.record.opened
        # As sshd (session.c, session_signal_req): who may only start a wrapper must not end it in the middle.
        if self._context.rules.force_command is not None or (told is not None and told.kind == "subsystem"):
            self._deny(f"signal {name}", "a forced command or a subsystem is not signalled")
            return False
        try:
            self._context.spawner.signal(self._process, getattr(signal, f"SIG{name}"))
        except SpawnRefused as error:
            self._deny(f"signal {name}", str(error))
            return False
        return True

    def break_received(self, msec: int) -> bool:
        """`break` (RFC 4335): on a pty, what sshd does."""
        return self._streams is not None and self._streams.send_break()

    # -- the process --------------------------------------------------------------------------------------------

    def _launch(self, kind: launch.Kind, command: bytes | None) -> bool:
        asked = request_of(kind, command, context=self._context, channel=self._channel, terminal=self._terminal)
        self._kind = asked.request.kind
        self._channel.get_connection().create_task(self._start(asked))
        return None  # type: ignore[return-value]  # asyncssh leaves the request open then; `_start` answers it

    async def _start(self, asked: Asked) -> None:
        context, request = self._context, asked.request
        try:
            account = await context.spawner.find_account(context.user)
            plan = launch.plan(request, account, context.endpoints, context.system_env())
            process = await context.spawner.spawn(plan, self._exited)
            self._attach(process)
        except SpawnRefused as error:
            self._deny(request.kind, str(error))
            self._finished = True  # what comes now is for no process
            self._channel.turn_away(str(error), NOLOGIN_EXIT_STATUS, in_terminal=self._terminal is not None)
            return
        finally:
            self._take_early_input()  # if the process was refused, for nobody
        told = SessionOpened(
            conn=context.conn,
            session=context.session,
            user=context.user,
            kind=request.kind,
            command="" if request.command is None else request.command.decode("utf-8", "surrogateescape"),
            tty=process.tty,
            term=request.terminal.term if request.terminal is not None else "",
            pid=process.pid,
            requested=asked.instead_of,
        )
        self.record.begins(told, plan.cwd)
        if self._lost:  # the client left while the process was being started
            self._release("channel closed")
        else:
            self._channel.answer(granted=True)

    def _attach(self, process: Spawned) -> None:
        """Own the process's descriptors; nothing is read before the request has been answered.

        Closes them and raises `SpawnRefused` if there are no descriptors left.
        """
        try:
            self._streams = Streams(
                self._loop,
                process.descriptors[:PROCESS_STREAMS],
                is_pty=bool(process.tty),
                packet_size=self._channel.peer_packet_size,
                deliver=self._output,
                at_end=self._progress,
                on_room=self._channel.resume_reading,
                on_refused=self._input_refused,
                hold=self._channel.hold,
            )
        except OSError as error:
            close_all(process.descriptors)
            raise SpawnRefused(f"no descriptors are left: {error.strerror}") from error
        for events in process.descriptors[PROCESS_STREAMS:]:
            self._file_events = FileEvents(self._loop, events, self.record.say_file)
        self._process = process
        if self._output_refused:
            self._streams.close_output()
        self._streams.write(self._take_early_input())

    def _take_early_input(self) -> bytes:
        data, self._early_input = self._early_input, b""
        self._channel.hold(-len(data))
        return data

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""
        return self.record.tty

    @property
    def exit_is_due(self) -> bool:
        """Whether the client waits for nothing but the exit: all output has been sent, EOF as well, or is refused.

        A terminal's is not waited for: its processes are hung up when the client closes the channel.
        """
        if self._streams is None or self._exit is not None:
            return False
        if self._output_refused and not self._streams.is_pty:
            return True
        return self._output_has_ended and not self._channel.takes_data

    @property
    def _output_has_ended(self) -> bool:
        return self._streams is not None and self._streams.ended

    @property
    def is_over(self) -> bool:
        """Whether its end has been said, by us or by the client."""
        return self._finished or self._lost or (self._open and self._channel.is_closed)

    def session_started(self) -> None:
        """The request was answered: let the bytes flow."""
        self._forget_network = self._context.on_network(self._flow.network)
        self._flow_changed(self._flow.is_open)
        if self._announcement:
            self.announce(self._announcement)

    @property
    def counters(self) -> Counters:
        """What counts as use."""
        return self.record.counters(self._kind, self._takes_lines if self._terminal is not None else None)

    def _takes_lines(self) -> bool:
        return self._streams is not None and self._streams.takes_lines

    def announce(self, text: str) -> None:
        """Say something on a pty's screen; a session without one carries a program's data and is left alone."""
        if self._process is None:
            self._announcement = text  # for when it has started
        elif self._process.tty and self._channel.takes_data and not self._output_refused:
            self._channel.write(f"\r\n{text}\r\n".encode())

    def hang_up(self) -> None:
        """The server stops: a pty's processes get SIGHUP, as when its line is lost."""
        self._stopping = True
        if self._process is not None and self._process.tty and self._exit is None:
            with suppress(SpawnRefused):
                self._context.spawner.signal(self._process, signal.SIGHUP)

    # -- bytes --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Input for the process."""
        self.record.came(data)
        if self._finished or not self._kind:  # of a client that has closed the channel, and had asked for no process
            return
        if self._streams is None:
            self._early_input += data  # of a client that has closed the channel already; at most its window
            self._channel.hold(len(data))
        elif not self._streams.write(data):
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more: pipes are closed; a terminal has no such thing, and sshd's stays open, too."""
        if self._streams is not None and not self._streams.is_pty:
            self._streams.end_input()
        return True

    def output_refused(self) -> None:
        """As sshd's chan_rcvd_eow (nchan.c): standard output is closed, and input, errors and the exit go on."""
        self._output_refused = True
        if self._streams is not None:
            self._streams.close_output()
        self._channel.drop_output()
        self._progress()

    def _input_refused(self) -> None:
        """The process has closed its input: a client that sends on for nobody is told, if it is one that understands.

        As sshd's chan_write_failed2 (nchan.c).
        """
        if not self._released and not self._lost and self._context.client_takes_eow:
            self._channel.refuse_input()

    def pause_writing(self) -> None:
        """The client's window is full."""
        self._flow.channel(full=True)

    def resume_writing(self) -> None:
        """The client's window has room, and everything that waited for it is sent."""
        self._flow.channel(full=False)

    def _flow_changed(self, is_open: bool) -> None:
        if self._streams is not None:
            self._streams.set_reading(is_open)
        if is_open:
            self._progress()

    def _output(self, data: bytes, datatype: int | None) -> None:
        if not self._channel.takes_data:  # the client has closed it, and the session is about to be told
            return
        self.record.went(data, datatype)
        self._channel.write(data, datatype)
        if self._timer is not None:  # output after the exit: the silence begins again
            self._cancel_timer()
            self._linger()

    # -- the end ------------------------------------------------------------------------------------------------

    def _exited(self, exit_: Exited) -> None:
        """The process has been reaped."""
        self._exit = exit_
        if self._file_events is not None:
            self._file_events.finish()
        if self._process is not None:
            self._progress()

    def _progress(self) -> None:
        """Take the next step towards the end, if it is due; called whenever something changed."""
        if self._finished or self._lost or self._process is None:
            return
        self._cancel_timer()
        ended = self._output_has_ended
        if self._exit is None:
            if ended and not self._output_refused:
                self._timer = self._loop.call_later(EOF_GRACE_SECONDS, self._channel.write_eof)
        elif not self._flow.is_open:
            pass  # what is left to send comes first; having sent it leads back here
        elif self._process.tty:
            self._drain_pty()
        elif ended:
            self._finish()
        else:
            self._linger()

    def _linger(self) -> None:
        """The process has ended, but somebody has its output open: wait for its end, or until it is silent for long."""
        if self._exit_timer is None and not self._exit_told:
            self._exit_timer = self._loop.call_later(EXIT_GRACE_SECONDS, self._tell_exit_early)
        seconds = self._context.rules.linger
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._give_up_output)

    def _give_up_output(self) -> None:
        self._left_open = True
        self._finish()

    def _drain_pty(self) -> None:
        """The process has ended, so what is in the pty is all that counts, whoever else may hold it (sshd agrees)."""
        before = self.record.bytes_out
        while self._streams is not None and self._streams.read_now():
            self._drain_left -= self.record.bytes_out - before
            before = self.record.bytes_out
            if self._drain_left <= 0:
                break
            if not self._flow.is_open:
                return
        self._finish()

    def _finish(self) -> None:
        if self._finished or self._lost or self._exit is None or not self._channel.drained:
            return
        self._finished = True
        self._tell_exit(self._exit)
        if not self._output_refused:  # who has said that it takes no more is not told that no more comes
            self._channel.write_eof()
        self._channel.close()
        self._release("exited, output left open" if self._left_open else "exited")

    def _tell_exit(self, exit_: Exited) -> None:
        if self._exit_told:
            return
        self._exit_told = True
        if exit_.signal is not None:
            self._channel.report_signal(ssh_name(exit_.signal), exit_.core_dumped)
        else:
            self._channel.report_exit(exit_.status or 0)

    def _tell_exit_early(self) -> None:
        """As sshd (session.c, session_exit_message): nobody takes input any more, whatever becomes of the output."""
        self._exit_timer = None
        if self._exit is not None and self._streams is not None and self._flow.is_open:
            self._tell_exit(self._exit)
            self._streams.refuse_input()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone, by our hand or the client's: let go of everything."""
        self._lost = True
        if self._process is not None:
            self._release("connection lost" if exc else "channel closed")
        if self._open and self._channel.x11 is not None:
            self._context.end_x11(self._channel.x11)
        self._context.on_closed(self._context.session, exc is not None and not self._finished)

    def _release(self, reason: str) -> None:
        """Close the descriptors: a pty's processes are hung up by the kernel, others see their pipes closed."""
        if self._released:
            return
        self._released = True
        context, exit_ = self._context, self._exit
        self._cancel_timer()
        if self._exit_timer is not None:
            self._exit_timer.cancel()
        self._forget_network()
        if self._streams is not None:
            if (self._left_open or self._stopping) and not self._streams.is_pty:
                # It is we who end it: whoever writes on must not die of that.
                context.drains.take(context.user, self._streams.leave_outputs())
            self._streams.close(INPUT_SECONDS if reason == "channel closed" else 0)
        self.record.ends("server stopped" if self._stopping and exit_ is None else reason, exit_)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deny(self, request: str, reason: str) -> None:
        context = self._context
        context.publish(RequestDenied(conn=context.conn, user=context.user, request=request, reason=reason))
