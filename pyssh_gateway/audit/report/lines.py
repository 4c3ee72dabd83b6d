"""The lines of the log that the report is made of, decoded as far as it needs them.

Other fields, and other events, may be there or not, so that other versions' lines are understood. docs/events.md says
what the fields mean.
"""

from typing import TypeVar

import msgspec

from pyssh_gateway.events import Identity


class Line(msgspec.Struct, tag_field="event"):
    """A line."""


class _OfConnection(Line):
    """A line about a connection of a person."""

    conn: str
    user: str = ""
    identity: Identity | None = None


class Started(Line, tag="server.started"):
    """`server.started`."""

    version: str = ""
    generation: int = 1
    host_keys: tuple[str, ...] = ()


class HostKeyCreated(Line, tag="host_key.created"):
    """`host_key.created`."""

    key_type: str = ""
    fingerprint: str = ""
    reason: str = ""


class HostCertificate(Line, tag="host_key.certificate"):
    """`host_key.certificate`."""

    path: str = ""
    problem: str = ""


class Stopped(Line, tag="server.stopped"):
    """`server.stopped`."""

    reason: str = ""
    exit_code: int = 0


class Reloaded(Line, tag="config.reloaded"):
    """`config.reloaded`."""

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class Rejected(Line, tag="config.rejected"):
    """`config.rejected`."""

    problems: tuple[str, ...] = ()


class LogLimited(Line, tag="audit.limited"):
    """`audit.limited`."""

    user: str = ""
    lost: int = 0


class LogLost(Line, tag="audit.lost"):
    """`audit.lost`."""

    reason: str = ""


class Crashed(Line, tag="gateway.crashed"):
    """`gateway.crashed`."""

    cause: str = ""


class Bug(Line, tag="internal.error"):
    """`internal.error`."""

    where: str = ""
    error: str = ""


class KeysLoaded(Line, tag="keys.loaded"):
    """`keys.loaded`."""

    source: str = ""
    origin: str = "fetched"
    changed: bool = False
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class KeysFailed(Line, tag="keys.failed"):
    """`keys.failed`."""

    source: str = ""
    reason: str = ""


class RevokedList(Line, tag="keys.revoked_list"):
    """`keys.revoked_list`."""

    list: str = ""
    entries: int = 0
    changed: bool = False


class RevokedListFailed(Line, tag="keys.revoked_list_failed"):
    """`keys.revoked_list_failed`."""

    list: str = ""
    reason: str = ""


class AccountChanged(Line, tag="keys.account_changed"):
    """`keys.account_changed`."""

    source: str = ""
    message: str = ""


class Refused(Line, tag="connection.refused"):
    """`connection.refused`."""

    peer: str
    reason: str = ""
    count: int = 1


class Attempt(Line, tag="auth.attempt"):
    """`auth.attempt`."""

    peer: str
    result: str
    user: str = ""
    reason: str = ""
    code: str = ""


class Authenticated(_OfConnection, tag="connection.authenticated"):
    """`connection.authenticated`."""

    peer: str = ""
    fingerprint: str = ""
    client: str = ""
    cipher: str = ""
    seconds: float = 0.0
    break_glass: bool = False


class Closed(_OfConnection, tag="connection.closed"):
    """`connection.closed`."""

    peer: str = ""
    reason: str = ""
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class Revoked(_OfConnection, tag="connection.revoked"):
    """`connection.revoked`."""

    reason: str = ""
    seconds: float | None = None


class Reinstated(_OfConnection, tag="connection.reinstated"):
    """`connection.reinstated`."""

    reason: str = ""


class Denied(_OfConnection, tag="request.denied"):
    """`request.denied`."""

    request: str = ""
    reason: str = ""


class SessionOpened(_OfConnection, kw_only=True, tag="session.opened"):
    """`session.opened`."""

    session: str
    kind: str = ""
    command: str = ""
    tty: str = ""
    term: str = ""
    requested: str = ""


class SessionClosed(_OfConnection, kw_only=True, tag="session.closed"):
    """`session.closed`."""

    session: str
    reason: str = ""
    exit_status: int | None = None
    exit_signal: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


class SessionExited(_OfConnection, kw_only=True, tag="session.exited"):
    """`session.exited`."""

    session: str
    exit_status: int | None = None
    exit_signal: str | None = None


class RecordingStarted(_OfConnection, kw_only=True, tag="recording.started"):
    """`recording.started`."""

    session: str


class RecordingEnded(_OfConnection, kw_only=True, tag="recording.ended"):
    """`recording.ended`."""

    session: str
    file: str = ""
    reason: str = ""
    missing: int = 0


class FileOperation(_OfConnection, kw_only=True, tag="sftp.operation"):
    """`sftp.operation`."""

    session: str
    operation: str = ""
    path: str = ""
    target: str = ""
    detail: str = ""
    bytes_read: int = 0
    bytes_written: int = 0
    outcome: str = ""


class ForwardListening(_OfConnection, tag="forward.listening"):
    """`forward.listening`."""

    kind: str = ""
    target: str = ""


class ForwardOpened(_OfConnection, tag="forward.opened"):
    """`forward.opened`."""

    kind: str = ""
    target: str = ""


class ForwardClosed(_OfConnection, tag="forward.closed"):
    """`forward.closed`."""

    kind: str = ""
    target: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


class HoldStarted(Line, tag="hold.started"):
    """`hold.started`."""

    user: str = ""
    seconds: float = 0.0
    reason: str = ""


class StopStep(Line, tag="stop.step"):
    """`stop.step`."""

    step: str = ""
    outcome: str = ""
    result: str = ""


class ServiceEnded(Line, tag="service.ended"):
    """`service.ended`."""

    service: str = ""
    cause: str = ""
    again: float | None = None


AnyLine = (
    Started
    | HostKeyCreated
    | HostCertificate
    | Stopped
    | Reloaded
    | Rejected
    | LogLimited
    | LogLost
    | Crashed
    | Bug
    | KeysLoaded
    | KeysFailed
    | RevokedList
    | RevokedListFailed
    | AccountChanged
    | Refused
    | Attempt
    | Authenticated
    | Closed
    | Revoked
    | Reinstated
    | Denied
    | SessionOpened
    | SessionClosed
    | SessionExited
    | RecordingStarted
    | RecordingEnded
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
    | HoldStarted
    | StopStep
    | ServiceEnded
)

KINDS: tuple[type[AnyLine], ...] = AnyLine.__args__
"""The types of the lines that count."""

LineT = TypeVar("LineT", bound=Line)
