"""What is counted and kept while the log is read, each part within a bound.

A hostile or endless log costs only so much memory: of what is beyond a bound, the number is kept. Times are Unix time,
durations are seconds, sizes are bytes.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

LONGEST_TEXT = 2000
"""How many characters of a command, a path or another text are kept: a line that people still read."""

MOST_FILES = 60
"""Operations on files that are listed for a session; all are counted."""

MOST_FORWARDS = 40
"""Forwarded connections that are listed for a connection; all are counted."""

MOST_DENIED = 20
"""Denied requests that are listed for a connection; all are counted."""

MOST_NAMES = 20
"""Accounts, keys and addresses that are remembered for a person or an address."""


def short(text: str, most: int = LONGEST_TEXT) -> str:
    """`text`, or its beginning and how much more there is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


class FileDone(msgspec.Struct, frozen=True):
    """An operation on a file."""

    at: float
    operation: str
    path: str
    target: str
    detail: str
    bytes_read: int
    bytes_written: int
    outcome: str


class Forwarded(msgspec.Struct, frozen=True):
    """A forwarded connection that has ended, or a listener (`seconds` is None)."""

    at: float
    kind: str
    target: str
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float | None = None


class Link(msgspec.Struct):
    """A connection on which somebody has logged in, and what is known of it so far."""

    conn: str
    known_by: str
    person: str
    user: str
    peer: str = ""
    client: str = ""
    cipher: str = ""
    fingerprint: str = ""
    login: float | None = None
    sessions: int = 0
    forwards: list[Forwarded] = []
    forward_count: int = 0
    denied: list[tuple[float, str, str]] = []
    denied_count: int = 0


class Session(msgspec.Struct):
    """A session, or a connection without one (`kind` is "forwards" or "connection").

    `opened` is None if it began before the report's time, `closed` if the log does not say its end.
    """

    name: str
    link: Link
    kind: str
    opened: float | None
    command: str = ""
    tty: str = ""
    term: str = ""
    requested: str = ""
    closed: float | None = None
    seconds: float = 0.0
    exit_status: int | None = None
    exit_signal: str | None = None
    reason: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    files: list[FileDone] = []
    file_count: int = 0
    uploaded: int = 0
    downloaded: int = 0
    is_cut: bool = False
    is_recorded: bool = False

    @property
    def begun(self) -> float:
        """When it began, as far as is known."""
        if self.opened is not None:
            return self.opened
        return 0.0 if self.closed is None else self.closed - self.seconds


class Copied(msgspec.Struct):
    """What was copied with one tool. `uploaded` went to the machine."""

    uploaded: int = 0
    downloaded: int = 0
    files: int = 0


class Person(msgspec.Struct):
    """A person, by what identifies them (`Identity.known_by`)."""

    known_by: str
    name: str
    logins: int = 0
    sessions: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    forwarded: int = 0
    first: float = 0.0
    last: float = 0.0
    users: dict[str, int] = {}
    keys: dict[str, int] = {}
    peers: dict[str, int] = {}
    copied: dict[str, Copied] = {}
    days: dict[int, int] = {}


class Source(msgspec.Struct):
    """An address, or a /64 of IPv6, and what came from it."""

    name: str
    logins: int = 0
    denied: int = 0
    refused: int = 0
    first: float = 0.0
    last: float = 0.0
    users: dict[str, int] = {}
    people: dict[str, int] = {}


class Tunnel(msgspec.Struct):
    """All forwarded connections of one kind to one target."""

    kind: str
    target: str
    count: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    people: dict[str, int] = {}


class Notable(msgspec.Struct, frozen=True):
    """Something that a reader of the log should know. `tone` is "bad", "watch" or "plain"."""

    at: float
    kind: str
    tone: str
    text: str


KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Bounded(Generic[KeyT, ValueT]):
    """A table of at most `most` entries. What would be one more is counted in `others`, which is an entry, too."""

    def __init__(self, most: int, make: Callable[[KeyT], ValueT], others: ValueT) -> None:
        self._most = most
        self._make = make
        self.entries: dict[KeyT, ValueT] = {}
        self.others = others
        self._is_full = False

    @property
    def all(self) -> list[ValueT]:
        """All entries, and the others if there are any."""
        return [*self.entries.values(), *([self.others] if self._is_full else [])]

    def get(self, key: KeyT) -> ValueT:
        """The entry of this key, which is made if there is room."""
        if (found := self.entries.get(key)) is not None:
            return found
        if len(self.entries) >= self._most:
            self._is_full = True
            return self.others
        made = self.entries[key] = self._make(key)
        return made


def count(counts: dict[str, int], name: str, most: int = MOST_NAMES) -> None:
    """Count `name`, unless it is new and there are as many as are remembered."""
    if name in counts or len(counts) < most:
        counts[name] = counts.get(name, 0) + 1
