"""The record of one session: its process, the bytes moved, the files copied by `scp -O`. It only observes."""

from collections.abc import Callable

from pyssh_gateway.core.control import SessionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.session_end import Ending
from pyssh_gateway.events import SessionClosed, SessionOpened
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.files import scp_events
from pyssh_gateway.postauth.files.file_events import Say, saying
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


class SessionRecord:
    """The record of one session. `opened` is the event published when its process had started."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self.opened: SessionOpened | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self._opened_at = 0.0
        self._seen = 0
        self._shown = 0
        self._copy: scp_events.ScpEvents | None = None

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""
        return "" if self.opened is None else self.opened.tty

    @property
    def say_file(self) -> Say:
        """Publishes what was done to a file."""
        context = self._context
        return saying(context.publish, conn=context.conn, session=context.session, user=context.user)

    def begins(self, told: SessionOpened, home: bytes) -> None:
        """The process has started, in the directory `home`."""
        self.opened = told
        self._opened_at = self._context.now()
        self._context.publish(told)
        # A copy by scp's old protocol is parsed as it passes. A forced command that is itself scp decides which files
        # are copied; any other forced command may serve the copy that the client asked for.
        commands = (told.command, told.requested.removeprefix("exec "))
        if told.kind == "exec" and not told.tty and any("scp" in command for command in commands):
            runs, requested = (scp_events.asked(command.encode("utf-8", "surrogateescape")) for command in commands)
            if (asked := runs or requested) is not None:
                self._copy = scp_events.ScpEvents(asked, home, self.say_file, told=runs is not None)

    def came(self, data: bytes) -> None:
        """Input for the process."""
        self.bytes_in += len(data)
        if self._copy is not None:
            self._copy.from_client(data)

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

    def ends(self, ending: Ending, exit_: Exited | None) -> None:
        """The channel is closed; the process has ended with `exit_`, or goes on if that is None."""
        context = self._context
        if self._copy is not None:
            self._copy.end()
        context.publish(
            SessionClosed(
                conn=context.conn,
                session=context.session,
                user=context.user,
                reason=REASONS[ending],
                exit_status=exit_.status if exit_ is not None else None,
                exit_signal=ssh_name(exit_.signal) if exit_ is not None and exit_.signal is not None else None,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                seconds=round(context.now() - self._opened_at, 3),
            )
        )
