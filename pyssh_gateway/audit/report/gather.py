"""Reads the lines of the log once, and keeps what the report shows: sessions, people, addresses, copies, forwards.

A line that is no event of ours costs only itself. What is notable is found by `notes`.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from pyssh_gateway.audit.report import lines as ln
from pyssh_gateway.audit.report.facts import (
    MOST_DENIED,
    MOST_FILES,
    MOST_FORWARDS,
    Bounded,
    Copied,
    FileDone,
    Forwarded,
    Link,
    Person,
    Session,
    Source,
    Tunnel,
    count,
    short,
)
from pyssh_gateway.audit.report.notes import NOTABLE, Notes
from pyssh_gateway.core.idle.what_if.log_lines import Heads, Lines
from pyssh_gateway.core.idle.what_if.numbering import Numbering
from pyssh_gateway.core.limits import source_of
from pyssh_gateway.events import Identity

MOST_PEOPLE = 5_000
MOST_SOURCES = 20_000
MOST_TUNNELS = 5_000
MOST_OPEN = 50_000
"""How many people, addresses, targets of forwards and open connections are told apart. A month of a scanned machine has
some thousand addresses."""

LARGEST_FILES = 12
"""How many of the largest copied files are listed."""

DAY = 86400

START_SECONDS = 15.0
"""In older servers' logs the first lines of a start are in front of its `server.started`."""

NOBODY = "unknown"
"""The name of a person whom the log does not name."""

_RSYNC = re.compile(r"(?:\S*/)?rsync\s+--server\b")
_GIT = re.compile(r"(?:\S*/)?git[- ](?:upload-pack|receive-pack|upload-archive)\b")


class Gathered:
    """What is known after the lines that were read so far. `people`: only what these did counts; empty: everybody."""

    def __init__(self, *, most_sessions: int, people: Collection[str] = ()) -> None:
        self._only = frozenset(people)
        self.sessions: deque[Session] = deque(maxlen=most_sessions)
        self.session_count = 0
        self.people: Bounded[str, Person] = Bounded(MOST_PEOPLE, lambda key: Person(key, key), Person("", "others"))
        self.sources: Bounded[str, Source] = Bounded(MOST_SOURCES, Source, Source("others"))
        self.tunnels: Bounded[tuple[str, str], Tunnel] = Bounded(
            MOST_TUNNELS, lambda key: Tunnel(*key), Tunnel("", "others")
        )
        self.largest: list[tuple[int, str, float, str, FileDone]] = []
        self.logins: dict[int, int] = {}
        self.turned_away: dict[int, int] = {}
        self.denials: dict[str, int] = {}
        self.refusals: dict[str, int] = {}
        self.requests: dict[str, int] = {}
        self.notes = Notes()
        self.lines = self.damaged = 0
        self.has_older = False
        self._numbering = Numbering()
        self._links: dict[str, Link] = {}
        self._open: dict[tuple[str, str], Session] = {}  # by connection, too: the session's name is a claim
        self._source_of = lru_cache(MOST_SOURCES)(source_of)
        self._handlers: dict[type[ln.Line], Callable[[float, Any], None]] = {
            ln.Started: self._started,
            ln.Stopped: self._stopped,
            ln.Refused: self._refused,
            ln.Attempt: self._attempt,
            ln.Authenticated: self._authenticated,
            ln.Closed: self._closed,
            ln.Denied: self._denied,
            ln.SessionOpened: self._session_opened,
            ln.SessionClosed: self._session_closed,
            ln.SessionExited: self._session_exited,
            ln.RecordingStarted: self._recording_started,
            ln.FileOperation: self._file,
            ln.ForwardListening: self._listening,
            ln.ForwardOpened: self._forward_opened,
            ln.ForwardClosed: self._forward_closed,
        }

    def see(self, at: float, seq: int, event: ln.AnyLine | None) -> None:
        """Take note of a line, which may be one that does not count (`event` is None)."""
        numbering = self._numbering
        numbering.see(seq, first=isinstance(event, ln.Started) and event.generation == 1)
        if numbering.missing is not None:
            self.notes.jump(at, *numbering.missing)
        if event is None or (numbering.is_late and isinstance(event, ln.Stopped)):  # the newer server goes on
            return
        kind = type(event)
        if kind in NOTABLE:
            self.notes.see(at, event)
        if (handle := self._handlers.get(kind)) is not None:
            handle(at, event)

    # -- who it is --------------------------------------------------------------------------------------------------

    def _person(self, identity: Identity | None, user: str) -> Person:
        """The person of an event. One without an identity, of an older server, counts as the account."""
        known_by, name = (
            (f"account {user or NOBODY}",) * 2 if identity is None else (identity.known_by, identity.person)
        )
        person = self.people.get(short(known_by, 200))
        if person is not self.people.others:
            person.name = short(name, 200)
        return person

    def _counts(self, identity: Identity | None, user: str) -> bool:
        """Whether what this person does is asked for."""
        if not self._only:
            return True
        if identity is None:
            return user in self._only
        return not self._only.isdisjoint((identity.person, identity.known_by, identity.fingerprint, user))

    def _link(self, event: Any) -> Link:  # noqa: ANN401 - any line of a connection
        """The connection of an event, also one whose beginning is not in these lines."""
        if (link := self._links.get(event.conn)) is None:
            person = self._person(event.identity, event.user)
            link = Link(event.conn, person.known_by, person.name, short(event.user, 200))
            link.fingerprint = event.identity.fingerprint if event.identity is not None else ""
            _make_room(self._links)
            self._links[event.conn] = link
        return link

    # -- connections ------------------------------------------------------------------------------------------------

    def _started(self, at: float, event: ln.Started) -> None:
        if event.generation == 1:  # what was open ended with the machine
            self._cut(at - START_SECONDS)

    def _stopped(self, at: float, _event: ln.Stopped) -> None:
        self._cut(at)

    def _cut(self, at: float) -> None:
        """What was open at that time has ended, and the log does not say how."""
        for session in [one for one in self._open.values() if one.begun <= at]:
            session.is_cut = True
            del self._open[session.link.conn, session.name]
        for link in [one for one in self._links.values() if (one.login or 0.0) <= at]:
            del self._links[link.conn]

    def _refused(self, at: float, event: ln.Refused) -> None:
        source = self._source(at, event.peer)
        source.refused += event.count
        _add(self.turned_away, int(at // DAY), event.count)
        _add(self.refusals, short(event.reason, 200), event.count)

    def _attempt(self, at: float, event: ln.Attempt) -> None:
        if event.result != "denied":
            return
        source = self._source(at, event.peer)
        source.denied += 1
        count(source.users, short(event.user, 80))
        _add(self.turned_away, int(at // DAY), 1)
        _add(self.denials, short(event.reason or event.code, 200), 1)

    def _source(self, at: float, peer: str) -> Source:
        source = self.sources.get(self._source_of(peer) if ":" in peer else peer)
        source.first, source.last = source.first or at, at
        return source

    def _authenticated(self, at: float, event: ln.Authenticated) -> None:
        if event.break_glass:
            text = f"{event.user} from {event.peer}: the log could not be written"
            self.notes.note(at, "break-glass login", "bad", text)
        if not self._counts(event.identity, event.user):
            return
        person = self._person(event.identity, event.user)
        self._links.pop(event.conn, None)
        link = self._link(event)
        link.peer, link.client, link.cipher = event.peer, short(event.client, 200), short(event.cipher, 80)
        link.fingerprint, link.login = event.fingerprint or link.fingerprint, at
        source = self._source(at, event.peer)
        source.logins += 1
        count(source.people, person.name)
        person.logins += 1
        count(person.users, short(event.user, 80))
        count(person.keys, event.fingerprint)
        count(person.peers, event.peer)
        _seen(person, at)
        _add(person.days, int(at // DAY), 1)
        _add(self.logins, int(at // DAY), 1)

    def _closed(self, at: float, event: ln.Closed) -> None:
        link = self._links.pop(event.conn, None)
        if not event.user or not self._counts(event.identity, event.user):
            return
        person = self._person(event.identity, event.user) if link is None else self.people.get(link.known_by)
        person.bytes_in += event.bytes_in
        person.bytes_out += event.bytes_out
        _seen(person, at)
        if link is not None and link.login is not None and not link.sessions:
            kind = "forwards" if link.forward_count else "connection"
            session = Session(event.conn, link, kind, link.login, closed=at, seconds=at - link.login)
            session.reason, session.bytes_in, session.bytes_out = event.reason, event.bytes_in, event.bytes_out
            self._keep(session)

    def _denied(self, at: float, event: ln.Denied) -> None:
        if self._counts(event.identity, event.user):
            link = self._link(event)
            link.denied_count += 1
            if len(link.denied) < MOST_DENIED:
                link.denied.append((at, short(event.request, 300), short(event.reason, 300)))
            _add(self.requests, short(f"{event.request.partition(' ')[0]}: {event.reason}", 200), 1)

    # -- sessions ---------------------------------------------------------------------------------------------------

    def _session_opened(self, at: float, event: ln.SessionOpened) -> None:
        if not self._counts(event.identity, event.user):
            return
        link = self._link(event)
        link.sessions += 1
        session = Session(
            event.session,
            link,
            event.kind,
            at,
            short(event.command),
            event.tty,
            short(event.term, 80),
            short(event.requested),
        )
        _make_room(self._open)
        self._open[event.conn, event.session] = session
        self._keep(session)
        person = self._person(event.identity, event.user)
        person.sessions += 1
        count(person.users, short(event.user, 80))
        _seen(person, at)

    def _keep(self, session: Session) -> None:
        self.session_count += 1
        self.sessions.append(session)

    def _session_closed(self, at: float, event: ln.SessionClosed) -> None:
        if not self._counts(event.identity, event.user):
            return
        session = self._session(event)
        self._open.pop((event.conn, event.session), None)
        session.closed, session.seconds, session.reason = at, event.seconds, short(event.reason, 300)
        session.exit_status, session.exit_signal = event.exit_status, event.exit_signal
        session.bytes_in, session.bytes_out = event.bytes_in, event.bytes_out
        tool = "rsync" if _RSYNC.match(session.command) else "git" if _GIT.match(session.command) else ""
        if tool:
            copied = self._person(event.identity, event.user).copied.setdefault(tool, Copied())
            copied.uploaded += event.bytes_in
            copied.downloaded += event.bytes_out
            session.uploaded += event.bytes_in
            session.downloaded += event.bytes_out

    def _session_exited(self, _at: float, event: ln.SessionExited) -> None:
        """Its process has ended, and others hold its output open: the end may never be in the log."""
        if (session := self._open.get((event.conn, event.session))) is not None:
            session.exit_status, session.exit_signal = event.exit_status, event.exit_signal

    def _recording_started(self, _at: float, event: ln.RecordingStarted) -> None:
        if (session := self._open.get((event.conn, event.session))) is not None:
            session.is_recorded = True

    def _session(self, event: Any) -> Session:  # noqa: ANN401 - any line of a session
        """The session of an event, also one whose beginning is not in these lines."""
        if (session := self._open.get((event.conn, event.session))) is None:
            session = Session(event.session, self._link(event), "", None)
            session.link.sessions += 1
            _make_room(self._open)
            self._open[event.conn, event.session] = session
            self._keep(session)
        return session

    def _file(self, at: float, event: ln.FileOperation) -> None:
        if not self._counts(event.identity, event.user):
            return
        session = self._session(event)
        done = FileDone(
            at,
            event.operation,
            short(event.path, 500),
            short(event.target, 500),
            short(event.detail, 200),
            event.bytes_read,
            event.bytes_written,
            event.outcome,
        )
        session.file_count += 1
        if len(session.files) < MOST_FILES:
            session.files.append(done)
        size = event.bytes_read + event.bytes_written
        if event.operation != "file.closed" or not size:
            return
        session.uploaded += event.bytes_written
        session.downloaded += event.bytes_read
        person = self._person(event.identity, event.user)
        tool = "scp" if event.detail.startswith("scp ") else "sftp"
        copied = person.copied.setdefault(tool, Copied())
        copied.uploaded += event.bytes_written
        copied.downloaded += event.bytes_read
        copied.files += 1
        if len(self.largest) < 4 * LARGEST_FILES or size > self.largest[-1][0]:
            self.largest.append((size, person.name, at, event.session, done))
            if len(self.largest) > 8 * LARGEST_FILES:
                self.shorten_largest(4 * LARGEST_FILES)

    def shorten_largest(self, most: int = LARGEST_FILES) -> None:
        """Keep only the largest files, in order."""
        self.largest.sort(key=lambda one: -one[0])
        del self.largest[most:]

    # -- forwards ---------------------------------------------------------------------------------------------------

    def _listening(self, at: float, event: ln.ForwardListening) -> None:
        if self._counts(event.identity, event.user):
            _list(self._link(event), Forwarded(at, event.kind, short(event.target, 300)))

    def _forward_opened(self, _at: float, event: ln.ForwardOpened) -> None:
        if self._counts(event.identity, event.user):
            tunnel = self.tunnels.get((event.kind, short(event.target, 300)))
            tunnel.count += 1
            count(tunnel.people, self._person(event.identity, event.user).name)

    def _forward_closed(self, at: float, event: ln.ForwardClosed) -> None:
        if not self._counts(event.identity, event.user):
            return
        target = short(event.target, 300)
        tunnel = self.tunnels.get((event.kind, target))
        tunnel.bytes_in += event.bytes_in
        tunnel.bytes_out += event.bytes_out
        tunnel.seconds += event.seconds
        self._person(event.identity, event.user).forwarded += event.bytes_in + event.bytes_out
        done = Forwarded(at - event.seconds, event.kind, target, event.bytes_in, event.bytes_out, event.seconds)
        _list(self._link(event), done)


def gather(lines: Iterable[bytes], gathered: Gathered, *, since: float, until: float, heads: Heads) -> Iterator[bytes]:
    """Pass the lines in that time on, and take note of each: so the log is read only once, for another reader, too."""
    decoder = Lines(ln.KINDS, heads)
    for line in lines:
        try:
            at, seq, event = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError):
            gathered.damaged += 1
            continue
        if at > until:
            continue
        if at < since:
            gathered.has_older = True
            continue
        gathered.lines += 1
        gathered.see(at, seq, event)
        yield line


def _list(link: Link, forward: Forwarded) -> None:
    link.forward_count += 1
    if len(link.forwards) < MOST_FORWARDS:
        link.forwards.append(forward)


def _seen(person: Person, at: float) -> None:
    person.first, person.last = person.first or at, max(person.last, at)


def _add(counts: dict[Any, int], key: object, number: int) -> None:
    """Count `key`; when there are very many, new ones are counted together."""
    if key not in counts and len(counts) >= MOST_TUNNELS:
        key = "others" if isinstance(key, str) else key
    counts[key] = counts.get(key, 0) + number


def _make_room(table: dict[Any, Any]) -> None:
    """A log whose connections never end must not fill the memory: the oldest one is forgotten."""
    if len(table) >= MOST_OPEN:
        del table[next(iter(table))]
