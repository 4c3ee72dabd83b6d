"""Gathers the rows of the index from the log's lines in their order: connections, sessions, and where texts stand.

This module knows no database: `Batch` is what has to be written into it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from pyssh_gateway.audit.index.entries import MOST_TEXT, Entry

State = Literal["open", "closed", "lost"]

MOST_NAME = 64
"""Characters that are kept of what a text is."""

KEY_REFUSED = "key refused"
"""What a key is that somebody tried to log in with in vain."""

REMEMBERED = 4096
"""Connections whose late events (`client.use`, the last operations of a flood) are still added after their end."""


class Connection(msgspec.Struct, gc=False):
    """A row of `connections`; the fields are its columns."""

    id: int
    conn: str
    line: int
    last_line: int
    opened: float
    ended: float | None = None
    state: State = "open"
    peer: str = ""
    port: int | None = None
    proxy: str = ""
    user: str = ""
    authenticated: float | None = None
    person: str = ""
    person_id: int | None = None
    fingerprint: str = ""
    source: str = ""
    client: str = ""
    hassh: str = ""
    cipher: str = ""
    reason: str = ""
    bytes_in: int | None = None
    bytes_out: int | None = None
    goodbye: bool | None = None
    denied: int = 0
    denied_reason: str = ""
    denied_key: str = ""
    forwards: int = 0
    listeners: int = 0
    refused: int = 0
    sessions: int = 0


class Session(msgspec.Struct, gc=False):
    """A row of `sessions`."""

    id: int
    connection: int
    session: str
    line: int
    opened: float
    ended: float | None = None
    state: State = "open"
    user: str = ""
    kind: str = ""
    command: str = ""
    requested: str = ""
    tty: str = ""
    exit_status: int | None = None
    exit_signal: str | None = None
    reason: str = ""
    bytes_in: int | None = None
    bytes_out: int | None = None
    seconds: float | None = None
    files: int = 0
    recorded: int = 0


class _Line(NamedTuple):
    """A line's number in the log, its time and its fields."""

    number: int
    time: float
    entry: Entry


Place = tuple[str, int, int, str, str]
"""A text, the ids of its connection and session (0: none), what it is, and the account if there is no connection."""


class Mention(msgspec.Struct, gc=False):
    """Where a text stands: the lines and the times of the first and the last of `count` events."""

    line: int
    last_line: int
    first: float
    last: float
    count: int = 1


class Batch:
    """Rows that are new or have changed."""

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.sessions: dict[int, Session] = {}
        self.mentions: dict[Place, Mention] = {}


class Ledger:
    """What is known after each line. `connections` and `sessions` are the next ids, `time` that of the last line."""

    def __init__(self, connections: int = 1, sessions: int = 1, time: float = 0.0) -> None:
        self.time = time
        self.batch = Batch()
        self._next_connection = connections
        self._next_session = sessions
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[int, dict[str, Session]] = {}  # by the connection's id: a name alone may be a false claim
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._handlers: dict[str, Callable[[_Line, Connection], None]] = {
            "connection.opened": self._opened,
            "auth.attempt": self._attempt,
            "connection.authenticated": self._authenticated,
            "connection.closed": self._closed,
            "session.opened": self._session_opened,
            "session.exited": self._session_exited,
            "session.closed": self._session_closed,
            "recording.started": self._recorded,
            "sftp.operation": self._file,
            "forward.listening": self._listening,
            "forward.opened": self._forward,
            "request.denied": self._denied,
            "connection.revoked": self._told,
            "connection.reinstated": self._told,
            "internal.error": self._told,
        }

    def remember(self, connections: list[Connection], sessions: list[Session]) -> None:
        """Go on with those that were open or have just ended when the index was written last."""
        self._connections = {one.conn: one for one in connections}
        self._sessions = {}
        for one in sessions:
            self._sessions.setdefault(one.connection, {})[one.session] = one
        self._ended = OrderedDict.fromkeys(one.conn for one in connections if one.state != "open")

    def take_batch(self) -> Batch:
        """The rows since the last call."""
        batch, self.batch = self.batch, Batch()
        return batch

    def add(self, index: int, entry: Entry) -> None:
        """The next line of the log."""
        before, self.time = self.time, entry.ts.timestamp()
        time = self.time
        name = entry.conn
        if name:
            connection = self._connections.get(name)
            if connection is None or entry.event == "connection.opened":
                connection = self._begin(name, index, time)
            connection.last_line = index
            if connection.state == "lost":
                self._lose(connection, max(time, connection.ended or time))
            self.batch.connections[connection.id] = connection
            handler = self._handlers.get(entry.event)
            if handler is not None:
                handler(_Line(index, time, entry), connection)
        elif entry.event == "server.started":
            if entry.generation in (1, None):
                self._all_lost(before)
        elif texts := TEXTS.get(entry.event):
            for field in texts:
                self._mention(_Line(index, time, entry), (getattr(entry, field), 0, 0, entry.event, entry.user))

    # -- connections -----------------------------------------------------------------------------------------------

    def _begin(self, name: str, index: int, time: float) -> Connection:
        old = self._connections.get(name)
        if old is not None:
            if old.state == "open":
                self._lose(old, time)
            self._sessions.pop(old.id, None)
        self._ended.pop(name, None)
        connection = Connection(self._next_connection, name[:MOST_TEXT], index, index, time)
        self._next_connection += 1
        self._connections[name] = connection
        return connection

    def _all_lost(self, time: float) -> None:
        """The server was started: what was still open has been lost, at `time` or a little later.

        It is kept for a while: the last lines of a server that was killed may come after the first of the next one.
        """
        for connection in list(self._connections.values()):
            if connection.state == "open":
                self._lose(connection, time)
                self._end(connection)

    def _lose(self, connection: Connection, time: float) -> None:
        connection.state, connection.ended = "lost", time
        self.batch.connections[connection.id] = connection
        for session in self._sessions.get(connection.id, {}).values():
            if session.state != "closed":
                session.state, session.ended = "lost", time
                self.batch.sessions[session.id] = session

    def _opened(self, line: _Line, connection: Connection) -> None:
        time, entry = line.time, line.entry
        connection.opened, connection.peer, connection.port = time, entry.peer, entry.peer_port
        connection.proxy = entry.proxy

    def _attempt(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        connection.peer = connection.peer or entry.peer
        connection.user = connection.user or entry.user[:MOST_TEXT]
        if entry.result != "denied":
            return
        connection.denied += 1
        connection.denied_reason = entry.reason[:MOST_TEXT]
        if entry.fingerprint:
            connection.denied_key = entry.fingerprint[:MOST_TEXT]
            self._mention(line, (entry.fingerprint, connection.id, 0, KEY_REFUSED, ""))

    def _authenticated(self, line: _Line, connection: Connection) -> None:
        time, entry = line.time, line.entry
        connection.authenticated = time
        connection.peer, connection.user = entry.peer, entry.user
        connection.source, connection.client, connection.cipher = entry.source, entry.client, entry.cipher
        connection.fingerprint, connection.hassh = entry.fingerprint, entry.hassh
        self._know(entry, connection)

    def _know(self, entry: Entry, connection: Connection) -> None:
        """Take the person from an event, in case that the log begins in the middle of the connection."""
        if entry.identity is not None and not connection.person:
            connection.person, connection.person_id = entry.identity.person, entry.identity.id
            connection.fingerprint = connection.fingerprint or entry.identity.fingerprint
            connection.user = connection.user or entry.user
            if connection.authenticated is None:
                connection.authenticated = connection.opened

    def _closed(self, line: _Line, connection: Connection) -> None:
        time, entry = line.time, line.entry
        self._know(entry, connection)
        connection.state, connection.ended, connection.reason = "closed", time, entry.reason
        connection.bytes_in, connection.bytes_out = entry.bytes_in, entry.bytes_out
        connection.goodbye = entry.goodbye
        connection.peer = connection.peer or entry.peer
        connection.client, connection.hassh = connection.client or entry.client, connection.hassh or entry.hassh
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        """Keep it for its late lines, as long as there is room."""
        self._ended[connection.conn] = None
        if len(self._ended) > REMEMBERED:
            name, _none = self._ended.popitem(last=False)
            forgotten = self._connections.pop(name, None)
            if forgotten is not None:
                self._sessions.pop(forgotten.id, None)

    # -- what is done on them --------------------------------------------------------------------------------------

    def _session(self, connection: Connection, entry: Entry) -> Session | None:
        """The session of an event, if it is one of the event's own connection."""
        return self._sessions.get(connection.id, {}).get(entry.session)

    def _session_opened(self, line: _Line, connection: Connection) -> None:
        index, time, entry = line.number, line.time, line.entry
        self._know(entry, connection)
        connection.sessions += 1
        session = Session(self._next_session, connection.id, entry.session, index, time)
        self._next_session += 1
        session.user, session.kind, session.command = entry.user, entry.kind, entry.command
        session.requested, session.tty = entry.requested, entry.tty
        self._sessions.setdefault(connection.id, {})[entry.session] = session
        self.batch.sessions[session.id] = session
        if connection.state == "lost":
            self._lose(connection, time)
        if entry.command:
            self._mention(line, (entry.command, connection.id, session.id, "command", ""))
        if entry.requested:
            self._mention(line, (entry.requested, connection.id, session.id, "requested", ""))

    def _session_closed(self, line: _Line, connection: Connection) -> None:
        time, entry = line.time, line.entry
        session = self._session(connection, entry)
        if session is None:
            return
        session.state, session.ended, session.reason = "closed", time, entry.reason
        session.exit_status, session.exit_signal = entry.exit_status, entry.exit_signal
        session.bytes_in, session.bytes_out, session.seconds = entry.bytes_in, entry.bytes_out, entry.seconds
        self.batch.sessions[session.id] = session

    def _session_exited(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        session = self._session(connection, entry)
        if session is not None:
            session.exit_status, session.exit_signal = entry.exit_status, entry.exit_signal
            self.batch.sessions[session.id] = session

    def _recorded(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        session = self._session(connection, entry)
        if session is not None:
            session.recorded = 1
            self.batch.sessions[session.id] = session

    def _file(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        self._know(entry, connection)
        session = self._session(connection, entry)
        number = 0
        if session is not None:
            session.files += 1
            self.batch.sessions[session.id] = session
            number = session.id
        for text in (entry.path, entry.target):
            self._mention(line, (text, connection.id, number, _done(entry), ""))

    def _listening(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        self._know(entry, connection)
        connection.listeners += 1
        self._mention(line, (entry.target, connection.id, 0, "listens at", ""))

    def _forward(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        self._know(entry, connection)
        connection.forwards += 1
        self._mention(line, (entry.target, connection.id, 0, f"forward, {entry.kind}", ""))

    def _denied(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        connection.refused += 1
        self._mention(line, (f"{entry.request}: {entry.reason}", connection.id, 0, "refused", ""))

    def _told(self, line: _Line, connection: Connection) -> None:
        entry = line.entry
        for field in TEXTS[entry.event]:
            self._mention(line, (getattr(entry, field), connection.id, 0, entry.event, ""))

    def _mention(self, line: _Line, place: Place) -> None:
        text, connection, session, what, user = place
        if not text:
            return
        place = (text[:MOST_TEXT], connection, session, what[:MOST_NAME], user[:MOST_TEXT])
        known = self.batch.mentions.get(place)
        if known is None:
            self.batch.mentions[place] = Mention(line.number, line.number, line.time, line.time)
        else:
            known.last, known.last_line = line.time, line.number
            known.count += 1


def _done(entry: Entry) -> str:
    """What was done to a file, in words: a copy to the client is `file read`, one from it `file written`."""
    if entry.operation != "file.closed" or entry.outcome not in {"ok", "unfinished"}:
        words = entry.operation.replace(".", " ").replace("_", " ")
        return words if entry.outcome in {"", "ok"} or words.endswith("failed") else f"{words}, failed"
    return "file written" if entry.bytes_written or "write" in entry.detail else "file read"


TEXTS: dict[str, tuple[str, ...]] = {
    "connection.revoked": ("reason",),
    "connection.reinstated": ("reason",),
    "internal.error": ("error",),
    "hold.started": ("reason",),
    "background.work": ("what",),
    "terminal.used": ("what",),
    "keys.loaded": ("source",),
    "keys.failed": ("source", "reason"),
    "keys.account_changed": ("message",),
    "keys.revoked_list_failed": ("reason",),
    "service.ended": ("reason",),
    "service.output": ("line",),
    "stop.step": ("outcome",),
    "control.request": ("command",),
    "audit.lost": ("reason",),
}
"""The fields whose texts are searched, of events that need no other treatment."""
