"""Which lines of the log are wanted: by time, event, person, account, connection and address.

Read from the files themselves, without the index: for what is printed line by line.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pyssh_gateway.audit.index.queries import Network, is_within
from pyssh_gateway.audit.reading.damage import readable_lines
from pyssh_gateway.audit.segments import Segment, segments

Fields = dict[str, object]
"""An event as the log has it: what is in a line."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted; None and empty: everything. Times are Unix times.

    `events` are names such as `session.opened`, or their first parts, such as `session`; those `without` are left out.
    `conn` is the name of a connection or a session. `denied` is what was refused to somebody: logins, requests,
    connections.
    """

    since: float | None = None
    until: float | None = None
    events: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    person: str | None = None
    user: str | None = None
    conn: str | None = None
    network: Network | None = None
    denied: bool = False


class Event(msgspec.Struct, frozen=True):
    """A line that is wanted: its index, its bytes, and its fields."""

    index: int
    data: bytes
    fields: Fields


_DENIALS = ("auth.attempt", "request.denied", "connection.refused")


class Choice:
    """Tells which lines are wanted. `damaged` counts those that are no events; `broken` are files that end early."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        names = _DENIALS if chosen.denied else chosen.events
        self._names = tuple(name.encode("utf-8", "surrogateescape") for name in names)
        self.damaged = 0
        self.broken: set[str] = set()

    def note(self, segment: Segment) -> None:
        """A file can't be read any further."""
        self.broken.add(segment.path.name)

    def problems(self) -> list[str]:
        """What people should know about the log that was read, a line each."""
        found = [f"{name} is damaged, and not read to its end; audit verify says more" for name in sorted(self.broken)]
        if self.damaged:
            found.append(f"{self.damaged} damaged lines are left out; audit verify says more")
        return found

    def take(self, index: int, data: bytes) -> Event | None:
        """The event of a line, if it is wanted. Of events that are not asked for, most are not even decoded."""
        if self._names and not any(name in data for name in self._names):
            return None
        fields = decoded(data)
        if fields is None:
            self.damaged += 1
            return None
        return Event(index, data, fields) if self._is_wanted(fields) else None

    def _is_wanted(self, fields: Fields) -> bool:
        chosen = self._chosen
        if chosen.since is not None or chosen.until is not None:
            time = time_of(fields)
            if time < (chosen.since or 0.0) or (chosen.until is not None and time > chosen.until):
                return False
        name = str(fields.get("event"))
        return (
            name not in chosen.without
            and (not chosen.events or any(name == one or name.startswith(f"{one}.") for one in chosen.events))
            and (chosen.user is None or fields.get("user") == chosen.user)
            and (chosen.conn is None or chosen.conn in {fields.get("conn"), fields.get("session")})
            and (chosen.person is None or _is_of(fields, chosen.person))
            and (chosen.network is None or is_within(str(fields.get("peer")), chosen.network))
            and (not chosen.denied or is_denied(fields))
        )


def decoded(data: bytes) -> Fields | None:
    """The fields of an event; None for a damaged line."""
    try:
        fields = msgspec.json.decode(data)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str) or time_of(fields) < 0:
        return None
    return fields


def time_of(fields: Fields) -> float:
    """When an event happened; -1 if it does not say so."""
    try:
        time = datetime.fromisoformat(str(fields.get("ts")))
    except ValueError:
        return -1.0
    return time.replace(tzinfo=time.tzinfo or UTC).timestamp()


def is_denied(fields: Fields) -> bool:
    """Whether something was refused to somebody."""
    name = fields.get("event")
    return name in _DENIALS and (name != "auth.attempt" or fields.get("result") == "denied")


def first_to_last(audit_dir: Path, choice: Choice, since: float | None = None) -> Iterator[Event]:
    """The wanted lines, oldest first. Files that end before `since` are not read. Raises NoLog."""
    for segment in since_then(audit_dir, since):
        for line in readable_lines(segment, choice.note):
            event = choice.take(line.index, line.data)
            if event is not None:
                yield event


def since_then(audit_dir: Path, since: float | None) -> list[Segment]:
    """The files of the log, oldest first, without those that end before `since`. Raises NoLog."""
    listed = segments(audit_dir)
    if since is not None:
        while len(listed) > 1 and _begins_before(listed[1], since):
            del listed[0]
    return listed


def newest(audit_dir: Path, choice: Choice, count: int, since: float | None = None) -> list[Event]:
    """The last `count` of the wanted lines, oldest first. Raises NoLog."""
    found: list[Event] = []
    for segment in reversed(segments(audit_dir)):
        read = readable_lines(segment, choice.note)
        here = [event for line in read if (event := choice.take(line.index, line.data)) is not None]
        found = here + found
        if len(found) >= count or (since is not None and _begins_before(segment, since)):
            break
    return found[max(0, len(found) - count) :]


def _begins_before(segment: Segment, time: float) -> bool:
    """Whether the first event of a file is older than that."""
    for line in readable_lines(segment, lambda _: None):
        fields = decoded(line.data)
        if fields is not None:
            return time_of(fields) < time
    return False


def _is_of(fields: Fields, person: str) -> bool:
    identity = fields.get("identity")
    if not isinstance(identity, dict):
        return fields.get("fingerprint") == person
    name, number = str(identity.get("person")), identity.get("id")
    plain = ":" not in person and name.partition(":")[2] == person
    return person in {name, f"{name}#{number}", identity.get("fingerprint")} or plain
