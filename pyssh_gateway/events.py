"""What can happen, as one tagged union of frozen messages, and the bus that carries it.

Every part of the server says what happened by publishing one of these; the audit log, the idle tracker and
whoever comes later subscribe. This module knows nothing about where an event comes from or goes to.

Field conventions: `conn` and `session` are the ids under which a connection and a session are found again in the
log; `peer` is the client's address without the port; durations are seconds; text that came from the network is
stored as it arrived (undecodable bytes as surrogate escapes) and made safe to print by whoever prints it.
"""

import traceback
from collections.abc import Callable
from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened. The tag is the event's stable, dotted name."""


class Identity(msgspec.Struct, frozen=True):
    """Which person it was, on whatever account.

    `person` names them with the kind of source that vouches for them (`github:example`, `file:amos@laptop`, `ca:amos`)
    and has no spaces; `id` is the number of their account there, where that is known; `fingerprint` is their key's.
    """

    person: str
    id: int | None
    fingerprint: str

    @property
    def facts(self) -> str:
        """For a session's programs: the person, the number of their account if that is known, a space, the key."""
        number = "" if self.id is None else f"#{self.id}"
        return f"{self.person}{number} {self.fingerprint}"


class ServerStarted(Event, frozen=True, kw_only=True, tag="server.started"):
    """The gateway accepts connections. `host_keys` are SHA256 fingerprints; `generation` counts gateway processes."""

    version: str
    address: str
    port: int
    pid: int
    generation: int
    host_keys: tuple[str, ...]
    users: tuple[str, ...]
    idle_timeout: float | None


class ServerStopping(Event, frozen=True, kw_only=True, tag="server.stopping"):
    """The gateway has stopped accepting. `reason` is "idle" or "signal"."""

    reason: str
    detail: str = ""
    connections: int = 0
    sessions: int = 0


class ServerStopped(Event, frozen=True, kw_only=True, tag="server.stopped"):
    """The last line of a clean stop."""

    reason: str
    exit_code: int
    message: str = ""


class GatewayCrashed(Event, frozen=True, kw_only=True, tag="gateway.crashed"):
    """An earlier gateway process ended without meaning to; its sessions were ended by the spawner."""

    pid: int
    cause: str
    sessions: int


class InternalError(Event, frozen=True, kw_only=True, tag="internal.error"):
    """A bug of ours that was contained. `where` names the part, `error` carries the traceback."""

    where: str
    error: str
    conn: str | None = None


class KeysLoaded(Event, frozen=True, kw_only=True, tag="keys.loaded"):
    """A source's keys are in force. `origin` says whether they were just read or are the last good copy.

    `added` and `removed` are the fingerprints of the first few keys that came and went.
    """

    source: str
    origin: Literal["fetched", "last-good"]
    accepted: int
    refused: int
    changed: bool
    refusals: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class KeysFailed(Event, frozen=True, kw_only=True, tag="keys.failed"):
    """A source gave no usable answer (a backend error, not a failed login). `kept` keys stay in force."""

    source: str
    reason: str
    kept: int


class AccountChanged(Event, frozen=True, kw_only=True, tag="keys.account_changed"):
    """The account that a source names is not the one that it was: renamed, deleted, or taken by somebody else.

    Its keys let nobody in any more. `expected` is the number of the account that is trusted, `found` that of the one
    that has the name now.
    """

    source: str
    expected: int
    found: int
    message: str


class ConnectionOpened(Event, frozen=True, kw_only=True, tag="connection.opened"):
    """A TCP connection was accepted and admitted. Nobody has authenticated yet."""

    conn: str
    peer: str
    peer_port: int


class ConnectionRefused(Event, frozen=True, kw_only=True, tag="connection.refused"):
    """A TCP connection was closed at once: too many unauthenticated ones, or the server is stopping."""

    peer: str
    peer_port: int
    reason: str


class AuthAttempt(Event, frozen=True, kw_only=True, tag="auth.attempt"):
    """One authentication request and its answer.

    `result` "offered" means that the key would do and the client was asked to prove that it has it; `reason` says
    why a request was denied and is never told to the peer. `source` is where the key was found.
    """

    conn: str
    peer: str
    user: str
    method: str
    result: Literal["accepted", "offered", "denied"]
    reason: str = ""
    key_type: str = ""
    fingerprint: str = ""
    source: str = ""
    identity: Identity | None = None


class ConnectionAuthenticated(Event, frozen=True, kw_only=True, tag="connection.authenticated"):
    """A person is on: from here on the connection counts as use of the machine."""

    conn: str
    peer: str
    user: str
    fingerprint: str
    source: str
    client: str
    cipher: str
    seconds: float
    identity: Identity


class ConnectionClosed(Event, frozen=True, kw_only=True, tag="connection.closed"):
    """The connection is gone. `user` is empty when nobody authenticated on it."""

    conn: str
    peer: str
    user: str
    reason: str
    seconds: float
    bytes_in: int
    bytes_out: int
    identity: Identity | None = None


class ConnectionRevoked(Event, frozen=True, kw_only=True, tag="connection.revoked"):
    """The key that a connection was authenticated with is not authorised any more.

    `seconds` later the connection is closed; None: it stays (`keys.on_revoke`).
    """

    conn: str
    peer: str
    user: str
    reason: str
    seconds: float | None
    identity: Identity


class RequestDenied(Event, frozen=True, kw_only=True, tag="request.denied"):
    """An authenticated client asked for something that it may not have, or that is not served."""

    conn: str
    user: str
    request: str
    reason: str
    identity: Identity | None = None


class SessionOpened(Event, frozen=True, kw_only=True, tag="session.opened"):
    """A process runs for a session channel. `tty` is empty without a pty."""

    conn: str
    session: str
    user: str
    kind: Literal["shell", "exec", "subsystem"]
    command: str
    tty: str
    term: str
    pid: int
    identity: Identity | None = None


class SessionClosed(Event, frozen=True, kw_only=True, tag="session.closed"):
    """The session's channel is closed. Both `exit_*` are None when the process outlived it."""

    conn: str
    session: str
    user: str
    reason: str
    exit_status: int | None
    exit_signal: str | None
    bytes_in: int
    bytes_out: int
    seconds: float
    identity: Identity | None = None


class FileOperation(Event, frozen=True, kw_only=True, tag="sftp.operation"):
    """Something was done to a file over SFTP, or was tried.

    `operation` is file.closed, file.open_failed, file.removed, file.renamed, directory.made, directory.removed,
    link.made, attributes.set, or events.lost (`detail` counts them) and events.invalid. `outcome` is ok, an error's
    name (ENOENT), or unfinished for a file that was open when the client went. `detail` says how a file was opened,
    which attributes were set, or a link's kind.
    """

    conn: str
    session: str
    user: str
    operation: str
    path: str
    target: str
    detail: str
    bytes_read: int
    bytes_written: int
    outcome: str
    identity: Identity | None = None


class ForwardListening(Event, frozen=True, kw_only=True, tag="forward.listening"):
    """A port or socket was opened here for the client. `kind` is the name of the channels that it leads to."""

    conn: str
    user: str
    kind: str
    target: str
    identity: Identity | None = None


class ForwardOpened(Event, frozen=True, kw_only=True, tag="forward.opened"):
    """A forwarded connection. `kind` is the channel's type; `target` is where it goes, or where it was accepted."""

    conn: str
    user: str
    kind: str
    target: str
    identity: Identity | None = None


class ForwardClosed(Event, frozen=True, kw_only=True, tag="forward.closed"):
    """A forwarded connection has ended. `bytes_in` came from the client, `bytes_out` went to it."""

    conn: str
    user: str
    kind: str
    target: str
    bytes_in: int
    bytes_out: int
    seconds: float
    identity: Identity | None = None


class ControlRequest(Event, frozen=True, kw_only=True, tag="control.request"):
    """Somebody on the machine asked the server something over its control socket. `uid` is what the kernel says."""

    uid: int
    pid: int
    command: str
    outcome: str


class IdleTick(Event, frozen=True, kw_only=True, tag="idle.tick"):
    """Nobody is on. `idle` and `remaining` are whole seconds."""

    idle: int
    remaining: int
    message: str


class IdleReached(Event, frozen=True, kw_only=True, tag="idle.reached"):
    """The idle timeout has passed; the server is about to look a last time and stop."""

    idle: float
    outcome: Literal["stop", "stay"]
    message: str


AnyEvent = (
    ServerStarted
    | ServerStopping
    | ServerStopped
    | GatewayCrashed
    | InternalError
    | KeysLoaded
    | KeysFailed
    | AccountChanged
    | ConnectionOpened
    | ConnectionRefused
    | AuthAttempt
    | ConnectionAuthenticated
    | ConnectionClosed
    | ConnectionRevoked
    | RequestDenied
    | SessionOpened
    | SessionClosed
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
    | ControlRequest
    | IdleTick
    | IdleReached
)


OnesEvent = (
    ConnectionClosed
    | RequestDenied
    | SessionOpened
    | SessionClosed
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
)
"""What happens on somebody's connection; `identity` is put in where that is known."""


class Record(msgspec.Struct, frozen=True):
    """An event with its place in the stream: `seq` counts from 1 without gaps, `time` is Unix time in seconds."""

    seq: int
    time: float
    event: AnyEvent


Subscriber = Callable[[Record], None]


class EventBus:
    """Hands every event to every subscriber, in order, before `publish` returns.

    A subscriber that raises is reported to `on_error` and the others still get the event: a full disk under the
    audit log must not change who may log in.
    """

    def __init__(self, now: Callable[[], float], on_error: Callable[[str], None]) -> None:
        self._now = now
        self._on_error = on_error
        self._seq = 0
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add `subscriber`; it sees every event published from now on. Returns how to end that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: AnyEvent) -> None:
        """Give `event` the next number and the current time, and hand it round."""
        self._seq += 1
        record = Record(self._seq, self._now(), event)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(record)
            except Exception:  # noqa: BLE001 - the boundary named in the class docstring
                self._on_error(traceback.format_exc())
