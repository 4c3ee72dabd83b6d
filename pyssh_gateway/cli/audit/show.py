"""`audit show`: tells what happened in a session, or on a connection."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import msgspec

from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import ConnectionRow, find
from pyssh_gateway.audit.reading.choosing import Fields, decoded, time_of
from pyssh_gateway.audit.reading.damage import readable_lines
from pyssh_gateway.audit.reading.lines_for_people import clean, event_of
from pyssh_gateway.audit.reading.story import Sentence, Story
from pyssh_gateway.audit.recordings.commands import commands
from pyssh_gateway.audit.recordings.files import parts
from pyssh_gateway.audit.segments import NoLog, Segment, segments
from pyssh_gateway.cli.audit.place import audit_dir, readable, same_log
from pyssh_gateway.cli.audit.wanted import logged
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.output.columns import terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.times import shown, zone
from pyssh_gateway.core.recordings.names import is_of
from pyssh_gateway.events import RecordingStarted, SessionOpened

_MEANWHILE = frozenset({"hold.started", "hold.ended", "gateway.crashed"})
"""Events of the machine that belong to the story of a connection that was open then."""

_CLOCK = len("2026-01-02 ")
_INDENT = len("  14:00:00  ")
_NARROWEST = 40


class Told(msgspec.Struct, frozen=True):
    """The story of a connection, or of one of its sessions, for programs. `events` are those of the log."""

    conn: str
    session: str
    since: float
    until: float | None
    state: str
    story: list[Sentence]
    events: list[Fields]


class Answer(msgspec.Struct, frozen=True):
    """The answer for programs: more than one story if an old log uses the name several times."""

    stories: list[Told]


def show(given: Given, context: Context) -> int:
    """Tell the story of every connection that has the name, or had it."""
    name = logged(given.name) or ""
    directory = audit_dir(given, context)
    with readable():
        with Index(directory, context.environ, printing.remark) as index:
            found = index.ask(lambda database: find(database, name))
        if not found:
            raise Failed(f"the log has no session or connection {name}; audit sessions lists them")
        source = _Source(directory, same_log(given))
        stories = [_told(source, row, "" if row.conn == name else name, every=given.every) for row in found]
    if given.json:
        printing.json(Answer(stories))
        return FINE
    if len(stories) > 1:
        printing.remark(f"{len(stories)} connections have had that name; all are shown")
    for number, told in enumerate(stories):
        if number:
            printing.lines([""])
        printing.lines(text(told, terminal_width()))
    return FINE


def text(told: Told, width: int | None) -> list[str]:
    """The story for people; on a terminal, its sentences are wrapped."""
    found = [f"{told.session or told.conn}, times in {zone()}"]
    day = ""
    for sentence in told.story:
        when = shown(sentence.time)
        if when[:_CLOCK] != day:
            day = when[:_CLOCK]
            found += ["", day.strip()]
        line = f"  {when[_CLOCK:]}  {sentence.text}"
        found += [line] if width is None else wrap(line, max(width, _NARROWEST), subsequent_indent=" " * _INDENT)
    if told.state != "closed":
        end = "It is open, by the log." if told.state == "open" else "The server ended without a word about it."
        found += ["", f"  {end}"]
    return found


class _Source(NamedTuple):
    """The log's directory, and the options that name it."""

    directory: Path
    options: str


def _told(source: _Source, row: ConnectionRow, session: str, *, every: bool) -> Told:
    story = Story(session, every=every)
    events = []
    begun: dict[str, tuple[str, float]] = {}
    recorded: set[str] = set()
    for fields in _events(source.directory, row):
        if session and fields.get("session") not in {None, session}:
            continue
        if fields.get("conn") == row.conn:
            events.append(_with_names(fields))
        event = event_of(fields)
        if event is not None:
            story.add(time_of(fields), event)
        if isinstance(event, SessionOpened) and is_of(event.session, row.conn):
            begun[event.session] = event.user, time_of(fields)
        if isinstance(event, RecordingStarted):
            recorded.add(event.session)
    sentences = story.sentences()
    for name, (account, time) in begun.items():
        sentences += _recorded(source, (account, name), time, known=name in recorded)
    sentences.sort(key=lambda one: one.time)
    return Told(row.conn, session, row.since, row.until, row.state, sentences, events)


def _recorded(source: _Source, whose: tuple[str, str], begun: float, *, known: bool) -> Iterator[Sentence]:
    """That a session is recorded, and which commands its shell has marked; with `known` also why that can't be read.

    `whose` are the account and the session.
    """
    account, session = whose
    try:
        files = parts(source.directory, account, session)
        replay = f"pyssh-gateway audit replay {session}{source.options}"
        yield Sentence(begun, f"{session} is recorded; to see it: {replay}")
        for command in commands(*files):
            status = "" if command.status is None else f" (exit status {command.status})"
            yield Sentence(begun + command.at, f"{session}, at its shell: {clean(command.text)}{status}")
    except NoLog as error:
        if known:
            yield Sentence(begun, f"{session} was recorded, but {clean(str(error))}.")


def _events(directory: Path, row: ConnectionRow) -> list[Fields]:
    """The events of a connection, and of the machine meanwhile."""
    listed = segments(directory)
    name = b'"' + msgspec.json.encode(row.conn)[1:-1] + b'"'
    found = []
    for segment, following in zip(listed, [*listed[1:], None], strict=True):
        if _has(segment, following, row):
            for line in readable_lines(segment, lambda _: None):
                if not row.line <= line.index <= row.last_line:
                    continue
                if name in line.data or b'"event":"hold.' in line.data or b'"event":"gateway.' in line.data:
                    fields = decoded(line.data)
                    if fields is not None and (fields.get("conn") == row.conn or fields["event"] in _MEANWHILE):
                        found.append(fields)
    return found


def _with_names(value: Any) -> Any:  # noqa: ANN401 - JSON
    """`value` with the names in objects made printable: those of events of other versions can be anything."""
    if isinstance(value, dict):
        return {clean(name): _with_names(below) for name, below in value.items()}
    return [_with_names(below) for below in value] if isinstance(value, list) else value


def _has(segment: Segment, following: Segment | None, row: ConnectionRow) -> bool:
    return segment.first <= row.last_line and (following is None or following.first > row.line)
