"""The record of one session: its process, the bytes moved, the files copied by `scp -O`, what its terminal shows.

It only observes.
"""

from collections.abc import Callable

from pyssh_gateway.core import launch
from pyssh_gateway.core.control import SessionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.session_end import Ending, Entry, LogEnd, LogExit
from pyssh_gateway.events import SessionClosed, SessionExited, SessionOpened
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.files import scp_events
from pyssh_gateway.postauth.files.file_events import Say, saying
from pyssh_gateway.postauth.recording.tape import Subject, Tape
from pyssh_gateway.postauth.streams import Streams
from pyssh_gateway.system.signals import ssh_name

REASONS = {
    Ending.EXITED: "exited",
    Ending.LEFT_OPEN: "exited, output left open",
    Ending.CHANNEL_CLOSED: "channel closed",
    Ending.CONNECTION_LOST: "connection lost",
    Ending.SERVER_STOPPED: "server stopped",
    Ending.KEY_REVOKED: "key revoked",
}
"""The words in the log for why a session has ended."""

NO_TERMINAL = (80, 24)
"""The size of the terminal in the recording of a session that has none: that of the terminals that all others imitate
(VT100)."""


class SessionRecord:
    """The record of one session. `opened` is the event published when its process had started.

    `ended`: the event of its end was published.
    """

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self.opened: SessionOpened | None = None
        self.ended = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._opened_at = 0.0
        self._seen = 0
        self._shown = 0
        self._copy: scp_events.ScpEvents | None = None
        self._tape: Tape | None = None

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""
        return "" if self.opened is None else self.opened.tty

    @property
    def say_file(self) -> Say:
        """Publishes what was done to a file."""
        context = self._context
        return saying(context.publish, conn=context.conn, session=context.session, user=context.user)

    @property
    def notice(self) -> str:
        """What a recorded terminal shows first; empty if nothing is to be said."""
        recorded = self._context.recorded
        return recorded.notice if recorded is not None and self._tape is not None and self.tty else ""

    def begins(self, told: SessionOpened, home: bytes, terminal: launch.Terminal | None) -> None:
        """The process has started, in the directory `home`."""
        self.opened = told
        self._opened_at = self._context.now()
        self._context.publish(told)
        self._begin_tape(told, terminal)
        # A copy by scp's old protocol is parsed as it passes. A forced command that is itself scp decides which files
        # are copied; any other forced command may serve the copy that the client asked for.
        commands = (told.command, told.requested.removeprefix("exec "))
        if told.kind == "exec" and not told.tty and any("scp" in command for command in commands):
            runs, requested = (scp_events.asked(command.encode("utf-8", "surrogateescape")) for command in commands)
            if (asked := runs or requested) is not None:
                self._copy = scp_events.ScpEvents(asked, home, self.say_file, told=runs is not None)

    def _begin_tape(self, told: SessionOpened, terminal: launch.Terminal | None) -> None:
        context, recorded = self._context, self._context.recorded
        if recorded is None or not recorded.covers(told.kind, terminal=bool(told.tty)):
            return
        subject = Subject(
            conn=context.conn,
            session=context.session,
            user=context.user,
            kind=told.kind,
            command=told.command.encode("utf-8", "surrogateescape"),
            term=told.term.encode("utf-8", "surrogateescape"),
            size=NO_TERMINAL if terminal is None else (terminal.columns, terminal.rows),
        )
        self._tape = context.tapes.begin(subject, recorded)

    def came(self, data: bytes, streams: Streams | None) -> None:
        """Input for the process, whose streams these are.

        It is recorded only if that is wanted, and while the terminal shows what is typed: not at a password's prompt.
        """
        self.bytes_in += len(data)
        if self._tape is not None and self._tape.with_input and streams is not None and streams.shows_input:
            self._tape.input(data)
        if self._copy is not None:
            self._copy.from_client(data)

    def shown(self, data: bytes, datatype: int | None) -> None:
        """The client was sent this, by the process or by us."""
        if self._tape is not None:
            self._tape.output(data, errors=datatype is not None)

    def resized(self, columns: int, rows: int) -> None:
        """The terminal has this size from now on."""
        if self._tape is not None:
            self._tape.resized(columns, rows)

    def went(self, data: bytes, datatype: int | None) -> None:
        """Output of the process; `datatype` None: its standard output."""
        self.bytes_out += len(data)
        if self._copy is not None and datatype is None:
            self._copy.from_server(data)

    def counters(self, kind: str, takes_lines: Callable[[], bool] | None) -> Counters:
        """What counts as use: the start, keys typed, requests for files, or bytes through a program, both ways.

        `takes_lines` is given if there is a terminal, and says whether it is in line mode now. Output since the last
        call counts by the terminal's mode now.
        """
        opened = 1 if kind else 0
        if takes_lines is not None:
            fresh, self._seen = self.bytes_out - self._seen, self.bytes_out
            if fresh and takes_lines():
                self._shown += fresh
            return Counters(typed=self.bytes_in, opened=opened, shown=self._shown, terminals=opened)
        if kind == "subsystem":  # SFTP is the only one
            return Counters(asked=self.bytes_in, worked=self.bytes_out, opened=opened)
        return Counters(worked=self.bytes_in + self.bytes_out, opened=opened)

    def report(self) -> SessionReport | None:
        """A report of the running process; None before it has started."""
        told = self.opened
        if told is None:
            return None
        seconds = self._context.now() - self._opened_at
        return SessionReport(
            told.session, told.kind, told.command, told.tty, self.bytes_in, self.bytes_out, told.pid, seconds
        )

    def log(self, due: LogExit | LogEnd, exit_: Exited | None, *, is_revoked: bool) -> Entry:
        """Publish what is due. The process has ended with `exit_`, or goes on if that is None."""
        if isinstance(due, LogExit):
            self._exits(exit_)
            return Entry.EXIT
        self._ends(Ending.KEY_REVOKED if is_revoked and exit_ is None else due.ending, exit_)
        return Entry.END

    def _exits(self, exit_: Exited | None) -> None:
        context = self._context
        context.publish(
            SessionExited(
                conn=context.conn,
                session=context.session,
                user=context.user,
                exit_status=None if exit_ is None else exit_.status,
                exit_signal=_signal_name(exit_),
                seconds=round(context.now() - self._opened_at, 3),
            )
        )

    def _ends(self, ending: Ending, exit_: Exited | None) -> None:
        context = self._context
        if self._copy is not None:
            self._copy.end()
        self.ended = True
        context.publish(
            SessionClosed(
                conn=context.conn,
                session=context.session,
                user=context.user,
                reason=REASONS[ending],
                exit_status=None if exit_ is None else exit_.status,
                exit_signal=_signal_name(exit_),
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                seconds=round(context.now() - self._opened_at, 3),
            )
        )
        if self._tape is not None:
            self._tape.ends(exit_)


def _signal_name(exit_: Exited | None) -> str | None:
    return None if exit_ is None or exit_.signal is None else ssh_name(exit_.signal)
