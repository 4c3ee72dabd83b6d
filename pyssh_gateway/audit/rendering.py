"""Turns records into the finished lines of the log, and of standard output for programs or for people."""

from typing import Any

import msgspec
from structlog.typing import EventDict, WrappedLogger

from pyssh_gateway.audit.human import human_checkpoint, human_gap
from pyssh_gateway.audit.human_view import HumanView
from pyssh_gateway.audit.printable import printable_event
from pyssh_gateway.audit.proving.names import for_people
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import Record


def make_printable(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """First processor: the record's event with every field safe to print."""
    record: Record = event_dict["record"]
    event_dict["record"] = Record(record.seq, record.time, printable_event(record.event))
    return event_dict


class Render:
    """Last processor: the finished lines, as the arguments of a logger with one method, `info`."""

    def __init__(self, *, human: bool, colour: bool, collected: bool) -> None:
        self._colour = colour
        self._is_collected = collected
        self._human = HumanView(colour=colour) if human else None

    def __call__(
        self, _logger: WrappedLogger, _method: str, event_dict: EventDict
    ) -> tuple[tuple[float, bytes, bytes], dict[str, Any]]:
        """The line of a record, and the lines for standard output."""
        record: Record = event_dict["record"]
        fields = {"ts": timestamp(record.time), "seq": record.seq, "event": event_dict["event"]}
        line = json_line(fields | msgspec.structs.asdict(record.event))
        view = line if self._human is None else text_lines(self._human.show(record))
        return (record.time, line, view), {}

    @property
    def holds(self) -> bool:
        """Whether events wait to be shown to people."""
        return self._human is not None and self._human.holds

    def overdue(self, now: float) -> bytes:
        """The lines for people of the events that have waited for long enough."""
        return b"" if self._human is None else text_lines(self._human.overdue(now))

    def rest(self) -> bytes:
        """The lines for people of all events that wait."""
        return b"" if self._human is None else text_lines(self._human.rest())

    def checkpoint(self, time: float, note: str, line: bytes) -> bytes:
        """A checkpoint for standard output: its own line, or for people one that only a collector needs."""
        if self._human is None:
            return line
        return text_lines([human_checkpoint(time, for_people(note))]) if self._is_collected else b""

    def gap(self, time: float, lines: int) -> bytes:
        """The line for standard output that says how many `lines` were left out; empty if none were."""
        if not lines:
            return b""
        if self._human is not None:
            return text_lines([human_gap(time, lines, colour=self._colour)])
        return json_line({"ts": timestamp(time), "event": "log.dropped", "lines": lines})


def json_line(fields: dict[str, Any]) -> bytes:
    """A line of JSON."""
    return msgspec.json.encode(fields) + b"\n"


def text_lines(texts: list[str]) -> bytes:
    """Lines of text."""
    return "".join(f"{text}\n" for text in texts).encode()
