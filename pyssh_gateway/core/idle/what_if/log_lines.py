"""The lines of the log that count for a history, decoded as far as they are needed.

Other fields, and other events, may be there or not, so that other versions' lines are understood.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar, Union

import msgspec

from pyssh_gateway.events import Identity

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=8192)]


class _Head(msgspec.Struct, gc=False):
    ts: Annotated[datetime, msgspec.Meta(tz=True)]
    event: Text
    seq: Annotated[int, msgspec.Meta(ge=0)]


class _Event(msgspec.Struct, tag_field="event"):
    pass


class Started(_Event, tag="server.started"):
    """`server.started`."""

    generation: int = 1
    idle_timeout: Seconds | None = None


class Stopping(_Event, tag="server.stopping"):
    """`server.stopping`."""

    reason: Text
    action: Text = ""


class StopStep(_Event, tag="stop.step"):
    """`stop.step`."""

    step: Text
    result: Text


class Stopped(_Event, tag="server.stopped"):
    """`server.stopped`."""

    reason: Text


class Resumed(_Event, tag="machine.resumed"):
    """`machine.resumed`."""

    seconds: Annotated[float, msgspec.Meta(ge=-1e10, le=1e10)]


class Opened(_Event, tag="connection.opened"):
    """`connection.opened`."""

    conn: Name
    peer: Text


class Authenticated(_Event, tag="connection.authenticated"):
    """`connection.authenticated`."""

    conn: Name
    peer: Text
    user: Text
    identity: Identity
    seconds: Seconds
    probation: Seconds | None = None


class Session(_Event, tag="session.opened"):
    """`session.opened`."""

    conn: Name
    kind: Text
    tty: Text


class Closed(_Event, tag="connection.closed"):
    """`connection.closed`."""

    conn: Name
    goodbye: bool = False


class Use(_Event, tag="client.use"):
    """`client.use`."""

    conn: Name
    spans: Annotated[tuple[tuple[Seconds, Seconds], ...], msgspec.Meta(max_length=100)]


class Quiet(_Event, tag="client.quiet"):
    """`client.quiet`."""

    seconds: Seconds
    conn: Name = ""


class Used(_Event, tag="client.used"):
    """`client.used`."""

    conn: Name


class HoldStarted(_Event, tag="hold.started"):
    """`hold.started`."""

    hold: Name
    seconds: Seconds


class HoldEnded(_Event, tag="hold.ended"):
    """`hold.ended`."""

    hold: Name


class Work(_Event, tag="background.work"):
    """`background.work`."""

    seconds: Seconds


class Seen(_Event, tag="background.seen"):
    """`background.seen`."""

    spans: Annotated[tuple[tuple[Seconds, Seconds], ...], msgspec.Meta(max_length=100)]


class TerminalUsed(_Event, tag="terminal.used"):
    """`terminal.used`."""


class TerminalQuiet(_Event, tag="terminal.quiet"):
    """`terminal.quiet`."""


class Schedule(_Event, tag="schedule.entered"):
    """`schedule.entered`."""

    seconds: Seconds


Known = (
    Started
    | Stopping
    | StopStep
    | Stopped
    | Resumed
    | Opened
    | Authenticated
    | Session
    | Closed
    | Use
    | Quiet
    | Used
    | HoldStarted
    | HoldEnded
    | Work
    | Seen
    | TerminalUsed
    | TerminalQuiet
    | Schedule
)

KINDS: tuple[type[Known], ...] = Known.__args__
"""The types of the events that count for a history."""

_head = msgspec.json.Decoder(_Head)

_WRITTEN = re.compile(
    rb'\{"ts":"(\d{4}-\d\d-\d\dT\d\d:\d\d):(\d\d\.\d{6})Z","seq":(\d{1,18}),"event":"([a-z_.]{1,40})"[,}].*\}\n?',
    re.DOTALL,
)
"""A line as our log writes it. Nine of ten have events that don't count here, and are not decoded any further: a
million lines take seconds. Any other form of the same JSON, as a collector may have made it, is decoded."""


KindT = TypeVar("KindT", bound=msgspec.Struct)


class Heads:
    """Decodes what all lines have. Two readers of the same lines can share it: it remembers the last line."""

    def __init__(self) -> None:
        self._minutes = _Minutes()
        self._line: bytes | None = None
        self._head: tuple[float, int, bytes] = 0.0, 0, b""

    def of(self, line: bytes) -> tuple[float, int, bytes]:
        """The Unix time, the number and the name of the event of a line. Raises as `Lines.decode`."""
        if line is not self._line:
            written = _WRITTEN.fullmatch(line)
            if written is not None:
                at = self._minutes.unix(written[1]) + float(written[2])
                self._head = at, int(written[3]), written[4]
            else:
                head = _head.decode(line)
                self._head = head.ts.timestamp(), head.seq, head.event.encode()
            self._line = line
        return self._head


class Lines(Generic[KindT]):
    """Decodes one line after the other. `kinds` are the types of the events that count, told apart by their tags."""

    def __init__(self, kinds: Sequence[type[KindT]], heads: Heads | None = None) -> None:
        union: Any = Union[tuple(kinds)]  # noqa: UP007 - of types that are known at runtime only
        self._decoder: msgspec.json.Decoder[KindT] = msgspec.json.Decoder(union)
        self._names = frozenset(str(kind.__struct_config__.tag).encode() for kind in kinds)
        self._heads = heads or Heads()

    def decode(self, line: bytes) -> tuple[float, int, KindT | None]:
        """The Unix time, the number and the event of a line; None: an event that does not count here.

        Raises MsgspecError, UnicodeError, RecursionError, ValueError and OverflowError for what is no event.
        """
        at, seq, name = self._heads.of(line)
        return at, seq, self._decoder.decode(line) if name in self._names else None


class _Minutes:
    """The Unix times of minutes, of which most lines have the same as the line before."""

    def __init__(self) -> None:
        self._last = b""
        self._unix = 0.0

    def unix(self, minute: bytes) -> float:
        """`2026-01-02T03:04`, which is UTC, as Unix time. Raises ValueError."""
        if minute != self._last:
            self._unix = datetime.fromisoformat(f"{minute.decode()}:00+00:00").timestamp()
            self._last = minute
        return self._unix
