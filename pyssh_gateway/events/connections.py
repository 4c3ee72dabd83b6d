"""Events of a connection: authentication, sessions, files, forwards."""

from typing import Literal

from pyssh_gateway.events.base import Algorithms, Event, Identity, PreviousLogin

SESSION_ENDED = "session ended"
"""Why a recording has ended that has the whole session."""


class ConnectionOpened(Event, frozen=True, kw_only=True, tag="connection.opened"):
    """A TCP connection was accepted and admitted. Nobody has authenticated yet.

    `proxy` is the address of the proxy through which it came, and `proxy_id` the connection's name in the proxy's log;
    both are empty without a proxy.
    """

    conn: str
    peer: str
    peer_port: int
    proxy: str = ""
    proxy_id: str = ""


class ConnectionRefused(Event, frozen=True, kw_only=True, tag="connection.refused"):
    """A TCP connection was closed unserved: too many unauthenticated ones, a penalty, no PROXY header, or a stop.

    After the first few refusals of a source, further ones are counted together: `count` connections within `seconds`,
    of which this is the last.
    """

    peer: str
    peer_port: int
    reason: str
    count: int = 1
    seconds: float = 0.0


class AuthAttempt(Event, frozen=True, kw_only=True, tag="auth.attempt"):
    """One authentication request and its answer.

    `result` "offered" means that the key is acceptable and the client was asked to prove that it has it; `reason` says
    why a request was denied and is never sent to the peer, and `code` is the denial's label (`core.access.denials`).
    `source` is where the key was found.
    """

    conn: str
    peer: str
    user: str
    method: str
    result: Literal["accepted", "offered", "denied"]
    reason: str = ""
    code: str = ""
    key_type: str = ""
    fingerprint: str = ""
    source: str = ""
    identity: Identity | None = None


class ConnectionAuthenticated(Event, frozen=True, kw_only=True, tag="connection.authenticated"):
    """A person has logged in: from here on the connection counts as use of the machine.

    With `probation`, the client was connected and not used when the machine stopped, and may have come back by itself:
    the machine waits so many seconds for a sign of a person, and the connection does not count before (`ClientUsed`).
    `hassh` and `hassh_server` are fingerprints of the client's software and of ours (`core.strangers.hassh`).
    `previous` is the last login of the same person, to any account. What is not known after a crash is empty or None.
    `break_glass`: the log could not be written, and only this account's `break_glass` has let the person in.
    """

    conn: str
    peer: str
    user: str
    fingerprint: str
    source: str
    client: str
    cipher: str
    seconds: float
    identity: Identity
    probation: float | None = None
    hassh: str = ""
    hassh_server: str = ""
    algorithms: Algorithms | None = None
    previous: PreviousLogin | None = None
    break_glass: bool = False


class ConnectionClosed(Event, frozen=True, kw_only=True, tag="connection.closed"):
    """The connection has ended. `user` is empty if nobody authenticated; `goodbye`: the client ended it on purpose.

    `client` is its identification line and `hassh` the fingerprint of its software; empty if it got not that far.
    """

    conn: str
    peer: str
    user: str
    reason: str
    seconds: float
    bytes_in: int
    bytes_out: int
    goodbye: bool = False
    identity: Identity | None = None
    client: str = ""
    hassh: str = ""


class ConnectionRevoked(Event, frozen=True, kw_only=True, tag="connection.revoked"):
    """The key that a connection was authenticated with is not authorised any more.

    The connection is closed `seconds` later; None: it stays (`keys.on_revoke`).
    """

    conn: str
    peer: str
    user: str
    reason: str
    seconds: float | None
    identity: Identity


class ConnectionReinstated(Event, frozen=True, kw_only=True, tag="connection.reinstated"):
    """The key that a connection was authenticated with is authorised again, before the connection was closed."""

    conn: str
    peer: str
    user: str
    reason: str
    identity: Identity


class RequestDenied(Event, frozen=True, kw_only=True, tag="request.denied"):
    """An authenticated client asked for something that it may not have, or that is not served."""

    conn: str
    user: str
    request: str
    reason: str
    identity: Identity | None = None


class SessionOpened(Event, frozen=True, kw_only=True, tag="session.opened"):
    """A process runs for a session channel. `tty` is empty without a pty.

    `requested` is what the client asked for, if a forced command runs in its place.
    """

    conn: str
    session: str
    user: str
    kind: Literal["shell", "exec", "subsystem"]
    command: str
    tty: str
    term: str
    pid: int
    requested: str = ""
    identity: Identity | None = None


class SessionExited(Event, frozen=True, kw_only=True, tag="session.exited"):
    """The session's process has ended, which its client is told now: other processes still hold its output open."""

    conn: str
    session: str
    user: str
    exit_status: int | None
    exit_signal: str | None
    seconds: float
    identity: Identity | None = None


class SessionClosed(Event, frozen=True, kw_only=True, tag="session.closed"):
    """The session is over; its channel is closed after this. Both `exit_*` are None when the process outlived it."""

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


class RecordingStarted(Event, frozen=True, kw_only=True, tag="recording.started"):
    """A session is recorded from here on, in `file` below the directory of recordings.

    With `input`, what is typed is recorded, too. If the recorder dies, another one goes on in another file.
    """

    conn: str
    session: str
    user: str
    file: str
    input: bool
    identity: Identity | None = None


class RecordingEnded(Event, frozen=True, kw_only=True, tag="recording.ended"):
    """A recording has ended, for the `reason` `SESSION_ENDED` or an earlier one; `file` is empty if it could not begin.

    `bytes` were recorded (None: not known), and `missing` bytes were not, because the recorder did not keep up.
    """

    conn: str
    session: str
    user: str
    file: str
    reason: str
    bytes: int | None
    missing: int
    seconds: float
    identity: Identity | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the session is missing since the recording began."""
        return self.reason == SESSION_ENDED and not self.missing


class FileOperation(Event, frozen=True, kw_only=True, tag="sftp.operation"):
    """An operation on a file over SFTP or scp's old protocol, successful or not.

    `operation` is file.closed, file.open_failed, file.removed, file.renamed, directory.made, directory.removed,
    link.made, attributes.set, or events.lost (`detail` counts them) and events.invalid. `outcome` is ok, an error's
    name (ENOENT), or unfinished for a file that was open when the client left. `detail` says how a file was opened,
    which attributes were set, or a link's kind; for a copy by scp's old protocol, the direction.
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
