"""A session: one process of the user's behind one channel (RFC 4254 section 6).

The session asks the spawner for the process and pumps bytes between its descriptors and the channel. How it ends is
decided in `core.session_end`: the session passes it the facts (`_learn`) and does what is then due (`_do`).

All that a client is sent, the process's output and our own messages, goes through `_write`, and is recorded there.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import asyncssh
import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core import session_end as end
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import RequestDenied, SessionOpened
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ipc.spawner_client import Spawned, SpawnRefused
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.files.file_events import FileEvents
from pyssh_gateway.postauth.orders.revoked import Revoked
from pyssh_gateway.postauth.pump import Flow
from pyssh_gateway.postauth.record import SessionRecord
from pyssh_gateway.postauth.request import Asked, refusal, request_of
from pyssh_gateway.postauth.streams import PROCESS_STREAMS, Streams
from pyssh_gateway.system.descriptors import close_all
from pyssh_gateway.system.signals import SIGNAL_NAMES


class Session(asyncssh.SSHServerSession[bytes]):
    """One session channel's requests, process and bytes. `record` holds what it did so far."""

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
        self._end = end.State()
        self._timers: dict[end.Timer, asyncio.TimerHandle] = {}
        self._flow = Flow(self._flow_changed)
        self._forget_network: Callable[[], None] = lambda: None
        self._early_input = b""
        self._revoked: Revoked | None = None

    # -- what the channel asks for ------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open; nothing runs yet."""
        self._channel = cast(SessionChannel, chan)
        self._open = True

    def terminal_requested(self, terminal: launch.Terminal) -> bool:
        """`pty-req`: granted once, and only before the process."""
        if self._terminal is not None or self._process is not None:
            return False
        if not self._context.rules.pty:
            self._deny("pty-req", "this key may not have a terminal")
            return False
        self._terminal = terminal
        return True

    def shell_requested(self) -> bool:
        """`shell`: the login shell; answered once it runs."""
        return self._launch("shell", None)

    def exec_requested(self, command: str) -> bool:
        """`exec`: a command for the shell; answered once it runs."""
        return self._launch("exec", command.encode("utf-8", "surrogateescape"))

    def subsystem_requested(self, subsystem: str) -> bool:
        """`subsystem`: only SFTP, by our own server, which runs as the user. Other names never start a shell."""
        if subsystem == "sftp" and self._terminal is None:
            return self._launch("subsystem", b"sftp")
        if (why := self._context.asleep.refusal) is not None:
            return self._answer_by(self._refuse(f"subsystem {subsystem}", why))
        self._deny(f"subsystem {subsystem}", "this subsystem is not served")
        return False

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """`window-change`, before the process runs or while it does."""
        if self._streams is not None:
            self._streams.resize(width, height, pixwidth, pixheight)
            self.record.resized(width, height)
        elif self._terminal is not None:
            size = {"columns": width, "rows": height, "width": pixwidth, "height": pixheight}
            self._terminal = msgspec.structs.replace(self._terminal, **size)

    def signal_requested(self, name: str) -> bool:
        """`signal`: to the process group, with the user's rights."""
        if self._process is None or self._exit is not None or name not in SIGNAL_NAMES:
            return False
        # As sshd (session.c, session_signal_req): a client that may only start a wrapper must not interrupt it.
        if self._context.rules.force_command is not None or self._kind == "subsystem":
            self._deny(f"signal {name}", "a forced command or a subsystem is not signalled")
            return False
        try:
            self._context.spawner.signal(self._process, getattr(signal, f"SIG{name}"))
        except SpawnRefused as error:
            self._deny(f"signal {name}", str(error))
            return False
        return True

    def break_received(self, msec: int) -> bool:
        """`break` (RFC 4335): on a pty, do as sshd does."""
        return self._streams is not None and self._streams.send_break()

    # -- the process --------------------------------------------------------------------------------------------

    def _launch(self, kind: launch.Kind, command: bytes | None) -> bool:
        if self._terminal is not None or kind == "subsystem":
            self._context.asleep.lift()
        if (why := self._context.asleep.refusal) is not None:
            return self._answer_by(self._refuse(kind, why))
        asked = request_of(kind, command, context=self._context, channel=self._channel, terminal=self._terminal)
        self._kind = asked.request.kind
        return self._answer_by(self._start(asked))

    def _answer_by(self, answering: Coroutine[Any, Any, None]) -> bool:
        self._channel.get_connection().create_task(answering)
        return None  # type: ignore[return-value]  # None: asyncssh leaves the request open, and the task answers it

    async def _refuse(self, request: str, why: str) -> None:
        self._context.asleep.refused(request)
        self._learn(end.NoProcess(why))

    async def _start(self, asked: Asked) -> None:
        context, request = self._context, asked.request
        try:
            plan = launch.plan(
                request, context.account(), context.endpoints, context.system_env(), context.command_directory
            )
            process = await context.spawner.spawn(plan, self._exited)
            self._attach(process)
            if self._revoked is not None:
                self.end_processes(self._revoked)
        except SpawnRefused as error:
            self._deny(request.kind, str(error))
            self._learn(end.NoProcess(str(error)))
            return
        finally:
            self._take_early_input()  # discarded if the process was refused
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
        self.record.begins(told, plan.cwd, request.terminal)
        self._learn(end.Started(bool(process.tty), context.rules.linger, ended=self._output_has_ended))
        if self._end.channel is end.Channel.OPEN:  # the client may have left while the process was being started
            self._channel.answer(granted=True)

    def _attach(self, process: Spawned) -> None:
        """Own the process's descriptors; its output is not read before the request has been answered.

        If no descriptors are left, closes them and raises `SpawnRefused`.
        """
        try:
            self._streams = Streams(
                self._loop,
                process.descriptors[:PROCESS_STREAMS],
                is_pty=bool(process.tty),
                packet_size=self._channel.peer_packet_size,
                deliver=self._output,
                at_end=lambda: self._learn(end.OutputEnded(all=self._output_has_ended)),
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
        if self._end.refused:
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
        """Whether only the exit status is left to send: all output and EOF were sent, or the client refused output."""
        return self._end.exit_is_due

    @property
    def _output_has_ended(self) -> bool:
        return self._streams is not None and self._streams.ended

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, by our side or by the client."""
        is_over = self.record.ended or self._end.channel is not end.Channel.OPEN
        return is_over or (self._open and self._channel.is_closed)

    def session_started(self) -> None:
        """The request has been answered: start reading the process's output."""
        if notice := self.record.notice:
            self._write(f"{notice}\r\n".encode())
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
        """Show `text` on the session's terminal. Without a pty nothing is written: the output is a program's data."""
        if self._process is None:
            self._announcement = text  # shown once the process has started
        elif self._process.tty and not self._end.refused:
            self._write(f"\r\n{text}\r\n".encode())

    def hang_up(self) -> None:
        """The server stops: a pty's processes get SIGHUP, as after a lost connection."""
        self._learn(end.Stopping())

    def end_processes(self, revoked: Revoked) -> None:
        """The key is revoked: end the process, even if it is still being started."""
        self._revoked = revoked
        if self._process is not None:
            revoked.end(self._process.pid, lambda: self._exit is not None)

    # -- bytes --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Input for the process."""
        self.record.came(data, self._streams)
        if not self._kind or self._end.channel is end.Channel.CLOSED:  # no process was asked for, or there is none
            return
        if self._streams is None:
            self._early_input += data  # of a client that has closed the channel already; at most its window
            self._channel.hold(len(data))
        elif not self._streams.write(data):
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        """The client has sent EOF: close a pipe; a terminal has no EOF of this kind and stays open, as in sshd."""
        if self._streams is not None and not self._streams.is_pty:
            self._streams.end_input()
        return True

    def output_refused(self) -> None:
        """As sshd's chan_rcvd_eow (nchan.c): close standard output only; input, standard error and the exit go on."""
        if self._streams is not None:
            self._streams.close_output()
        self._learn(end.OutputRefused(ended=self._output_has_ended))
        self._channel.drop_output()

    def _input_refused(self) -> None:
        """The process has closed its input: tell the client to stop sending, if the client understands that message.

        As sshd's chan_write_failed2 (nchan.c).
        """
        if self._end.channel is end.Channel.OPEN and self._context.client_takes_eow:
            self._channel.refuse_input()

    def pause_writing(self) -> None:
        """The client's window is full."""
        self._flow.channel(full=True)

    def resume_writing(self) -> None:
        """The client's window has room, and everything that waited for it is sent."""
        self._flow.channel(full=False)

    def _flow_changed(self, is_open: bool) -> None:
        if self._streams is not None and not self.record.ended:
            self._streams.set_reading(is_open)
        busy = end.Way.BUSY if self._channel.drained else end.Way.FULL
        self._learn(end.WayChanged(end.Way.FREE if is_open else busy))

    def _output(self, data: bytes, datatype: int | None) -> None:
        if self._write(data, datatype):
            self.record.went(data, datatype)
            if self._end.lingers:
                self._learn(end.Output())

    def _write(self, data: bytes, datatype: int | None = None) -> bool:
        """Write everything that a client's terminal shows: the process's output and our own messages.

        The output of sessions without a terminal goes through here, too. False: the client has closed the channel, or
        EOF was sent, and nothing was written.
        """
        if not self._channel.takes_data:
            return False
        self._channel.write(data, datatype)
        self.record.shown(data, datatype)
        return True

    # -- the end ------------------------------------------------------------------------------------------------

    def _exited(self, exit_: Exited) -> None:
        """The process has been reaped."""
        self._exit = exit_
        if self._file_events is not None:
            self._file_events.finish()
        self._learn(end.Exited())

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone, closed by us or by the client: release everything."""
        self._learn(end.Gone(lost=exc is not None))
        self._forget_network()  # also for a session without a process
        if self._open and self._channel.x11 is not None:
            self._context.end_x11(self._channel.x11)
        is_cut_off = exc is not None and self._end.channel is not end.Channel.CLOSED
        self._context.on_closed(self._context.session, is_cut_off)

    def _learn(self, fact: end.Fact) -> None:
        """Do what is due after `fact`. That may cause the next fact, and call this again before it returns."""
        self._end, due = end.step(self._end, fact)
        for each in due:
            self._do(each)

    def _do(self, due: end.Due) -> None:
        match due:
            case end.Wait():
                self._stop_waiting(due.timer)
                passed = end.TimeOver(due.timer)
                self._timers[due.timer] = self._loop.call_later(due.seconds, self._learn, passed)
            case end.StopWaiting():
                self._stop_waiting(due.timer)
            case end.HangUp():
                with suppress(SpawnRefused):
                    self._context.spawner.signal(cast(Spawned, self._process), signal.SIGHUP)
            case end.Drain():
                self._learn(end.Drained(cast(Streams, self._streams).read_all(due.most, self._flow)))
            case end.RefuseInput():
                cast(Streams, self._streams).refuse_input()
            case end.Release():
                self._release(due)
            case end.LogExit() | end.LogEnd():
                if isinstance(due, end.LogEnd) and self._streams is not None:
                    self._streams.set_reading(False)  # the log has the number of bytes
                entry = self.record.log(due, self._exit, is_revoked=self._revoked is not None)
                self._context.once_logged(lambda: self._learn(end.Logged(entry)))
            case _:
                self._say(due)

    def _say(self, due: end.SayWhy | end.TellExit | end.SendEof | end.Close) -> None:
        match due:
            case end.SayWhy():
                self._channel.answer(granted=True)
                self._write(*refusal(due.reason, in_terminal=self._terminal is not None))
            case end.TellExit():
                self._channel.tell_exit(self._exit if self._process is not None else None)
            case end.SendEof():
                self._channel.write_eof()
            case end.Close():
                self._channel.close()

    def _stop_waiting(self, timer: end.Timer) -> None:
        if (handle := self._timers.pop(timer, None)) is not None:
            handle.cancel()

    def _release(self, due: end.Release) -> None:
        for timer in tuple(self._timers):
            self._stop_waiting(timer)
        self._forget_network()
        if self._streams is not None:
            if due.leave_outputs:
                self._context.drains.take(self._context.user, self._streams.leave_outputs())
            self._streams.close(due.input_seconds)

    def _deny(self, request: str, reason: str) -> None:
        context = self._context
        context.publish(RequestDenied(conn=context.conn, user=context.user, request=request, reason=reason))
