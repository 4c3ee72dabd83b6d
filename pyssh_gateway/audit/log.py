"""The event log: every event becomes one line in a file that keeps everything, and one on standard output.

The file is the record: JSON lines, written straight away, never buffered. Standard output is a view of it, for a log
collector (the same JSON lines) or for a person (see `human`). When it stalls, lines are left out of it, and a line says
how many. A failure to write has no other effect: it is reported and the server goes on.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from pyssh_gateway.audit.human import human_gap
from pyssh_gateway.audit.human_view import HumanView
from pyssh_gateway.audit.log_file import FILE_NAME, AuditLogError, LogPlace, OpenFile
from pyssh_gateway.audit.output import LineFeed, LineWriter
from pyssh_gateway.audit.printable import printable_event
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import Record

__all__ = ["FILE_NAME", "AuditLog", "AuditLogError", "OnProblem"]

OnProblem = Callable[[str], None]


class AuditLog:
    """The bus subscriber that writes the log. Made by `open`; its methods belong to one thread."""

    def __init__(self, file: OpenFile, outputs: "_Outputs", render: "_Render", problems: "_Problems") -> None:
        self._file: OpenFile | None = file
        self._outputs = outputs
        self._render = render
        self._problems = problems
        # All settings are passed here: structlog's global configuration is neither read nor changed.
        self._logger: FilteringBoundLogger = structlog.wrap_logger(
            outputs,
            processors=[_make_printable, render],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind()

    @classmethod
    def open(cls, audit_dir: Path, *, stdout_fd: int, human: bool, colour: bool, on_problem: OnProblem) -> Self:
        """Open or create `events.jsonl` in `audit_dir`, which is made if it is missing. Raises AuditLogError.

        To be called while the process may still write there: the descriptor stays usable after a change of user, and
        after a fork if nothing was logged before. `human` and `colour` decide the format on `stdout_fd` (see
        `human.wants_human` and `human.wants_colour`); the caller keeps that descriptor. `on_problem` gets one line of
        text per kind of problem, in the thread that logs; it must not block.
        """
        path = audit_dir / FILE_NAME
        file = OpenFile(LogPlace(audit_dir).open())
        problems = _Problems(on_problem)
        render = _Render(human=human, colour=colour)
        outputs = _Outputs(path, _writer(file), LineFeed(stdout_fd), render, problems)
        return cls(file, outputs, render, problems)

    def __call__(self, record: Record) -> None:
        """Write `record`. Never raises, and never waits for standard output."""
        name = _name(record)
        if self._file is None:
            self._problems.report("closed", f"audit log: {name} came after the end and is not logged")
            return
        try:
            self._logger.info(name, record=record)
        except Exception as error:  # noqa: BLE001 - an event that can't be formatted must not change who may log in
            self._problems.report("line", f"audit log: event {record.seq}, {name}, is not logged: {error!r}")

    def show_overdue(self, now: float) -> bool:
        """Show the events that waited for a following one for long enough (`human_view`).

        `now` is Unix time. Returns whether events still wait, so that this has to be called again.
        """
        self._outputs.show(self._render.overdue(now))
        return self._render.holds

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still where it was opened; false if it was moved or deleted."""
        return self._file is None or self._file.is_in_place()

    def reopen(self, descriptor: int) -> bool:
        """Write to `descriptor`, the newly opened log file, from now on.

        Returns False if it is the same file as before; then nothing changes. Lines that were written to a deleted file
        are copied to the new one.
        """
        before = self._file
        if before is None or before.is_same(descriptor):
            os.close(descriptor)
            return False
        after = OpenFile(descriptor)
        try:
            before.rescue(descriptor)
        except OSError as error:
            self._problems.report("rescue", f"audit log: lines of the file that is gone are lost: {error.strerror}")
        self._file = after
        self._outputs.write_to(_writer(after))
        os.close(before.descriptor)
        return True

    @property
    def lost(self) -> dict[str, int]:
        """How many events are missing since the start in the "file", and how many lines on "stdout"."""
        return self._outputs.lost

    def close(self, deadline: float) -> None:
        """Sync the file to disk, close it, and give standard output at most `deadline` seconds for the rest.

        The file comes first: the platform may kill the machine while standard output is still stuck.
        """
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fsync(file.descriptor)
        except OSError as error:
            self._problems.report("fsync", f"audit log: the last lines may not be on disk: {error.strerror}")
        os.close(file.descriptor)
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


def _make_printable(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """First processor: the record's event with every field safe to print."""
    record: Record = event_dict["record"]
    event_dict["record"] = Record(record.seq, record.time, printable_event(record.event))
    return event_dict


class _Render:
    """Last processor: the finished lines, as the arguments of `_Outputs.info`."""

    def __init__(self, *, human: bool, colour: bool) -> None:
        self._colour = colour
        self._human = HumanView(colour=colour) if human else None

    def __call__(
        self, _logger: WrappedLogger, _method: str, event_dict: EventDict
    ) -> tuple[tuple[float, bytes, bytes], dict[str, Any]]:
        record: Record = event_dict["record"]
        fields = {"ts": timestamp(record.time), "seq": record.seq, "event": event_dict["event"]}
        line = _json_line(fields | msgspec.structs.asdict(record.event))
        view = line if self._human is None else _text_lines(self._human.show(record))
        return (record.time, line, view), {}

    @property
    def holds(self) -> bool:
        """Whether events wait to be shown to people."""
        return self._human is not None and self._human.holds

    def overdue(self, now: float) -> bytes:
        """The lines for people of the events that have waited for long enough."""
        return b"" if self._human is None else _text_lines(self._human.overdue(now))

    def rest(self) -> bytes:
        """The lines for people of all events that wait."""
        return b"" if self._human is None else _text_lines(self._human.rest())

    def gap(self, time: float, lines: int) -> bytes:
        """The line for standard output that says how many `lines` were left out; empty if none were."""
        if not lines:
            return b""
        if self._human is not None:
            return _text_lines([human_gap(time, lines, colour=self._colour)])
        return _json_line({"ts": timestamp(time), "event": "log.dropped", "lines": lines})


class _Outputs:
    """The logger object under structlog: writes finished lines, and counts those that are lost."""

    def __init__(self, path: Path, file: LineWriter, stdout: LineFeed, render: _Render, problems: _Problems) -> None:
        self._path = path
        self._file = file
        self._stdout = stdout
        self._render = render
        self._problems = problems
        self._time = 0.0
        self._missing = 0

    def info(self, time: float, line: bytes, view: bytes) -> None:
        """Write `line` to the file now, and queue `view`, which may be nothing, for standard output."""
        self._time = time
        try:
            self._file.write(line)
        except OSError as error:
            self._missing += 1
            text = f"audit log: {self._path}: {error.strerror}; events are missing there until that is put right"
            self._problems.report(("file", error.errno), text)
        self.show(view)

    def show(self, view: bytes) -> None:
        """Queue whole lines for standard output."""
        if view:
            self._stdout.offer(view, gap=self._render.gap(self._time, self._stdout.dropped))
            self._report_stdout()

    def write_to(self, file: LineWriter) -> None:
        """Write to another file from now on."""
        self._file = file

    @property
    def lost(self) -> dict[str, int]:
        """As `AuditLog.lost`."""
        return {"file": self._missing, "stdout": self._stdout.lost}

    def finish(self, deadline: float) -> None:
        """Wait for standard output, and report how many lines are missing in each place."""
        left = self._stdout.close(deadline, gap=self._render.gap(self._time, self._stdout.dropped))
        self._report_stdout()
        if left:
            self._problems.report("left", f"audit log: {left} lines for standard output were not read in time")
        if lost := sum(self._stdout.failures().values()):
            self._problems.report("lost", f"audit log: {lost} lines could not be written to standard output")
        if self._missing:
            self._problems.report("missing", f"audit log: {self._missing} events are missing in {self._path}")

    def _report_stdout(self) -> None:
        for code in self._stdout.failures():
            text = f"audit log: standard output: {os.strerror(code)}; {self._path} still has every event"
            self._problems.report(("stdout", code), text)


def _writer(file: OpenFile) -> LineWriter:
    return LineWriter(file.descriptor, torn=file.ends_mid_line)


def _name(record: Record) -> str:
    return str(record.event.__struct_config__.tag)


def _json_line(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"


def _text_lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
