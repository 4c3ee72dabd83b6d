"""The event log: every event becomes one line in a file that keeps everything, and one on standard output.

The file is the record: JSON lines, written straight away; they wait only if the disk does not take them. Standard
output is a view of it, for a log collector (the same JSON lines) or for a person (see `human`). When it stalls, lines
are left out of it, and a line says how many. A failure to write has no other effect: it is reported and the server goes
on.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import structlog
from structlog.typing import FilteringBoundLogger

from pyssh_gateway.audit.log_file import (
    FILE_NAME,
    AuditLogError,
    LogPlace,
    LogUnwritableError,
    Syncer,
)
from pyssh_gateway.audit.output import LineFeed
from pyssh_gateway.audit.proving.checkpoint_file import CheckpointFile
from pyssh_gateway.audit.proving.names import EVENT as CHECKPOINT
from pyssh_gateway.audit.rendering import Render, json_line, make_printable
from pyssh_gateway.audit.resuming import find
from pyssh_gateway.audit.sinks.configured import Sinks
from pyssh_gateway.audit.state import StateFile
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.writing import FileWriter
from pyssh_gateway.core.idle.what_if.numbering import OTHERS_NUMBERS
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import Record

__all__ = ["FILE_NAME", "AuditLog", "AuditLogError", "OnProblem"]

OnProblem = Callable[[str], None]

SAVED_BYTES = 128 * 1024
"""The state beside the log is written whenever so much has been: a start then reads no more than twice as much."""


class AuditLog:
    """The bus subscriber that writes the log. Made by `open`; its methods belong to one thread.

    `seq` is the number of the last event in the whole log, and `connections` that in the name of its last connection,
    whether or not this process has written them. `written` is the number of the last event of which the whole line was
    there when the log was opened.
    """

    def __init__(
        self, writer: FileWriter, state: StateFile, outputs: "_Outputs", render: Render, problems: "_Problems"
    ) -> None:
        self._writer = writer
        self._state = state
        self._outputs = outputs
        self._render = render
        self._problems = problems
        self._saved = writer.size
        self._is_closed = self._is_gone = False
        self._checkpoints = CheckpointFile()
        self._misplaced = ""
        self.seq = 0
        self.written = 0
        self.connections = 0
        # All settings are passed here: structlog's global configuration is neither read nor changed.
        self._logger: FilteringBoundLogger = structlog.wrap_logger(
            outputs,
            processors=[make_printable, render],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind()

    @classmethod
    def open(cls, audit_dir: Path, *, stdout_fd: int, human: bool, colour: bool, on_problem: OnProblem) -> Self:
        """Open or create `events.jsonl` in `audit_dir`, which is made if it is missing. Raises AuditLogError.

        To be called while the process may still write there: the descriptors stay usable after a change of user, and
        after a fork if nothing was logged before. `human` and `colour` decide the format on `stdout_fd` (see
        `human_view.wants_human` and `human_view.wants_colour`); the caller keeps that descriptor. `on_problem` gets one
        line of text per kind of problem, in the thread that logs; it must not block.
        """
        path, place = audit_dir / FILE_NAME, LogPlace(audit_dir)
        trouble = ""
        try:
            descriptor, *beside = place.open_all()
        except LogUnwritableError as error:
            trouble = str(error)
            descriptor, beside = place.open_unwritable(), []
        state = StateFile(*beside[:1])
        try:
            found = find(descriptor, state.read(), audit_dir)
        except OSError as error:
            raise AuditLogError(f"audit_dir {audit_dir}: cannot read {FILE_NAME} there: {error.strerror}") from error
        writer = FileWriter(descriptor, found, writable=not trouble)
        problems = _Problems(on_problem)
        render = Render(human=human, colour=colour, collected=not os.isatty(stdout_fd))
        log = cls(writer, state, _Outputs(path, writer, LineFeed(stdout_fd), render, problems), render, problems)
        log.seq, log.connections, log.written = found.seq, found.connections, found.written
        log._checkpoints = CheckpointFile(*beside[1:])
        if not state.lock():
            log.seq += OTHERS_NUMBERS
        if trouble:
            log.misplaced(trouble, time.time())
            problems.report("open", f"audit log: {trouble}; events wait for that to be put right, and may be lost")
        return log

    def __call__(self, record: Record) -> None:
        """Write `record`. Never raises, and never waits for standard output."""
        name = _name(record)
        if self._is_closed:
            self._problems.report("closed", f"audit log: {name} came after the end and is not logged")
            return
        self.seq = record.seq
        try:
            self._logger.info(name, record=record)
        except Exception as error:  # noqa: BLE001 - an event that can't be formatted must not change who may log in
            self._problems.report("line", f"audit log: event {record.seq}, {name}, is not logged: {error!r}")
        if not 0 <= self._writer.size - self._saved < SAVED_BYTES:
            self.save()

    def send_to(self, sinks: Sinks) -> None:
        """Send every line to `sinks`, too, from now on."""
        self._outputs.sinks = sinks

    def name_connection(self) -> str:
        """A name for a connection that no other one has in the log."""
        self.connections += 1
        return f"c{self.connections}"

    def knows_connections(self, names: Iterable[str]) -> None:
        """These names are taken, although the lines in which they are may have been lost."""
        for name in names:
            if name.startswith("c") and name[1:].isdecimal():
                self.connections = max(self.connections, int(name[1:]))

    def show_overdue(self, now: float) -> bool:
        """Show the events that waited for a following one for long enough (`human_view`).

        `now` is Unix time. Returns whether events still wait, so that this has to be called again.
        """
        self._outputs.show(self._render.overdue(now))
        return self._render.holds

    # -- the lines and their state ------------------------------------------------------------------------------

    @property
    def tree(self) -> Tree:
        """The lines that are in the file; complete if `is_counted`."""
        return self._writer.tree

    @property
    def is_counted(self) -> bool:
        """Whether the tree has all lines that are in the file. It may lack some after a start (see `catch_up`)."""
        return self._writer.is_counted

    def catch_up(self) -> bool:
        """Count some of the lines that are not in the tree yet, for a few milliseconds; returns whether all are."""
        try:
            return self._writer.catch_up()
        except OSError as error:
            self._problems.report("count", f"audit log: the file can't be read: {error.strerror}")
            return True

    def save(self) -> None:
        """Write the state for the next start beside the log."""
        self._saved = self._writer.size
        self._state.lock()  # another server that had it may have ended
        try:
            self._state.write(self._writer.state(self.seq, self.connections))
        except OSError as error:
            self._problems.report("state", f"audit log: its state can't be written: {error.strerror}")

    def syncer(self) -> Syncer:
        """Syncs the lines that are in the file now to the disk. Raises OSError."""
        return Syncer(os.dup(self._writer.file.descriptor))

    def add_checkpoint(self, now: float, note: str) -> None:
        """Write a signed checkpoint beside the log, to standard output and to the sinks. `now` is Unix time."""
        line = json_line({"ts": timestamp(now), "event": CHECKPOINT, "note": note})
        try:
            self._checkpoints.write(line)
        except OSError as error:
            self._problems.report("checkpoint", f"audit log: a checkpoint can't be written beside it: {error.strerror}")
        self._outputs.sinks.offer(line)
        self._outputs.show(self._render.checkpoint(now, note, line))

    # -- the file -----------------------------------------------------------------------------------------------

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still where it was opened; false if it was moved or deleted, or can't be written."""
        return self._is_closed or (self._writer.writable and self._writer.is_in_place())

    def is_due(self, now: float, *, size: float, age: float) -> bool:
        """Whether the file has that size in bytes, or has an event that is so many seconds old, and may be sealed."""
        began = self._writer.began
        is_full = self._writer.size >= size or (began is not None and now - began >= age)
        return is_full and self._writer.is_counted and not self._writer.waiting and self._writer.tree.size > self.first

    @property
    def size(self) -> int:
        """The bytes in the file."""
        return self._writer.size

    @property
    def first(self) -> int:
        """The index of the file's first line in the log."""
        return self._writer.first

    @property
    def inode(self) -> int:
        """The file's number, by which the spawner knows it."""
        return self._writer.file.inode

    def reopen(self, descriptor: int, state: int | None = None, checkpoints: int | None = None) -> bool:
        """Write to `descriptor`, the newly opened log file, from now on; and to the state and checkpoints beside it.

        Returns False if it is the same file as before; then nothing changes. Lines that were written to a deleted file
        are copied to the new one.
        """
        self._misplaced = ""
        if self._is_closed or not self._writer.change_to(descriptor):
            if self._is_closed:
                os.close(descriptor)
            for other in (state, checkpoints):
                if other is not None:
                    os.close(other)
            return False
        self._state.replace(state)
        self._checkpoints.replace(checkpoints)
        self.save()
        return True

    def misplaced(self, reason: str, now: float) -> None:
        """The file is not in its place, and for this reason no other can be opened: see `trouble`."""
        if not self._misplaced:
            self._misplaced = f"{reason}, since {timestamp(now)}"

    # -- trouble ------------------------------------------------------------------------------------------------

    def write_waiting(self) -> bool:
        """Try to write the lines that wait for the disk; returns whether none waits any more."""
        return self._writer.write_waiting()

    @property
    def trouble(self) -> str | None:
        """Why lines can't be written to where the log belongs, and since when, for a person; None if they can."""
        if self._misplaced or not self._writer.waiting or self._writer.problem is None:
            return self._misplaced or None
        since = timestamp(self._writer.waits_since)
        return f"{self._outputs.path}: {self._writer.problem.strerror}, since {since}"

    @property
    def waiting(self) -> int:
        """How many lines wait for the disk."""
        return self._writer.waiting

    @property
    def lost(self) -> dict[str, int]:
        """How many events are missing since the start in the "file", lines on "stdout" and in each sink."""
        return self._outputs.lost

    def end(self) -> bool:
        """Take no more events, and sync the file to disk; returns whether that was possible, and the tree is complete.

        Only checkpoints can follow.
        """
        self._is_closed = True
        self._writer.write_waiting()
        self.save()
        try:
            os.fsync(self._writer.file.descriptor)
            self._state.sync()
        except OSError as error:
            self._problems.report("fsync", f"audit log: the last lines may not be on disk: {error.strerror}")
            return False
        self._outputs.show(self._render.rest())
        return self._writer.is_counted

    def close(self, deadline: float) -> None:
        """Close the file, and give standard output at most `deadline` seconds for the rest.

        The file comes first (`end`): the platform may kill the machine while standard output is still stuck.
        """
        if self._is_gone:
            return
        if not self._is_closed:
            self.end()
        self._is_gone = True
        self._writer.close()
        self._state.close()
        self._checkpoints.close()
        self._outputs.show(self._render.rest())
        self._outputs.finish(deadline)


class _Problems:
    """Reports each kind of problem once."""

    def __init__(self, on_problem: OnProblem) -> None:
        self._on_problem = on_problem
        self._told: set[object] = set()

    def report(self, kind: object, text: str) -> None:
        if kind in self._told:
            return
        self._told.add(kind)
        # When standard error is gone, too, there is no place left to report it.
        with contextlib.suppress(Exception):
            self._on_problem(text)


class _Outputs:
    """The logger object under structlog: writes finished lines, and counts those that are lost."""

    def __init__(self, path: Path, file: FileWriter, stdout: LineFeed, render: Render, problems: _Problems) -> None:
        self.path = path
        self._file = file
        self._stdout = stdout
        self._render = render
        self._problems = problems
        self._time = 0.0
        self.sinks = Sinks({})

    def info(self, time: float, line: bytes, view: bytes) -> None:
        """Write `line` to the file now, and queue `view`, which may be nothing, for standard output."""
        self._time = time
        self._file.write(line, time)
        if (error := self._file.problem) is not None and self._file.writable:
            text = f"audit log: {self.path}: {error.strerror}; events wait for that to be put right, and may be lost"
            self._problems.report(("file", error.errno), text)
        self.sinks.offer(line)
        self.show(view)

    def show(self, view: bytes) -> None:
        """Queue whole lines for standard output."""
        if view:
            self._stdout.offer(view, gap=self._render.gap(self._time, self._stdout.dropped))
            self._report_stdout()

    @property
    def lost(self) -> dict[str, int]:
        """As `AuditLog.lost`."""
        return {"file": self._file.lost, "stdout": self._stdout.lost} | self.sinks.lost

    def finish(self, deadline: float) -> None:
        """Wait for standard output, and report how many lines are missing in each place."""
        left = self._stdout.close(deadline, gap=self._render.gap(self._time, self._stdout.dropped))
        self._report_stdout()
        if left:
            self._problems.report("left", f"audit log: {left} lines for standard output were not read in time")
        if lost := sum(self._stdout.failures().values()):
            self._problems.report("lost", f"audit log: {lost} lines could not be written to standard output")
        if self._file.lost:
            self._problems.report("missing", f"audit log: {self._file.lost} events are missing in {self.path}")
        self.sinks.close()

    def _report_stdout(self) -> None:
        for code in self._stdout.failures():
            text = f"audit log: standard output: {os.strerror(code)}; {self.path} still has every event"
            self._problems.report(("stdout", code), text)


def _name(record: Record) -> str:
    return str(record.event.__struct_config__.tag)
