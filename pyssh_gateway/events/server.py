"""Events about the server itself."""

from typing import Literal

from pyssh_gateway.events.base import Event


class ServerStarted(Event, frozen=True, kw_only=True, tag="server.started"):
    """The monitor accepts connections, at `address` and `port` and everything else in `addresses`.

    `host_keys` are SHA256 fingerprints; `generation` counts monitors.
    """

    version: str
    address: str
    port: int
    pid: int
    generation: int
    host_keys: tuple[str, ...]
    users: tuple[str, ...]
    idle_timeout: float | None
    addresses: tuple[str, ...] = ()


class HostKeyCreated(Event, frozen=True, kw_only=True, tag="host_key.created"):
    """The server made itself a key at its start, because there was none: no file, or an empty one."""

    key_type: str
    fingerprint: str
    path: str
    reason: Literal["missing", "empty"]


class HostCertificateLoaded(Event, frozen=True, kw_only=True, tag="host_key.certificate"):
    """A certificate of a key of the server's has been read; with a `problem` it is not offered to clients.

    `key` and `authority` are fingerprints, empty if it could not be read. `valid_before` is in Unix seconds, None for
    one that does not expire.
    """

    path: str
    problem: str
    key: str
    authority: str
    key_id: str
    serial: int
    principals: tuple[str, ...]
    valid_before: float | None


class ServerStopping(Event, frozen=True, kw_only=True, tag="server.stopping"):
    """The monitor has stopped accepting. `reason` is "idle" or "signal".

    `action` is what follows: "exit", "suspend" or "command".
    """

    reason: str
    detail: str = ""
    connections: int = 0
    sessions: int = 0
    action: str = ""


class ServerStopped(Event, frozen=True, kw_only=True, tag="server.stopped"):
    """The last line of a clean stop."""

    reason: str
    exit_code: int
    message: str = ""


class ConfigReloaded(Event, frozen=True, kw_only=True, tag="config.reloaded"):
    """The configuration was read again, and is in force.

    `changed` are the keys that are different now, `restart` those that will be when the server is started again.
    `users` are the accounts that people may log in to.
    """

    changed: tuple[str, ...]
    restart: tuple[str, ...]
    users: tuple[str, ...]


class ConfigRejected(Event, frozen=True, kw_only=True, tag="config.rejected"):
    """The configuration was read again and can't be used: the old one stays in force. `problems` has all mistakes."""

    problems: tuple[str, ...]


class AuditLimited(Event, frozen=True, kw_only=True, tag="audit.limited"):
    """An account has used its share of the log. `lost` of its events since the last one are not there; 0: it begins."""

    user: str
    lost: int


class AuditReopened(Event, frozen=True, kw_only=True, tag="audit.reopened"):
    """The log's file was moved or deleted, and this is the first line of the new one."""


class AuditLost(Event, frozen=True, kw_only=True, tag="audit.lost"):
    """The log's file is not where it should be, and a new one can't be made: lines still go to the old one."""

    reason: str


class GatewayCrashed(Event, frozen=True, kw_only=True, tag="gateway.crashed"):
    """An earlier monitor crashed. `sessions` counts the sessions that ended with it: 0, since sessions survive that."""

    pid: int
    cause: str
    sessions: int


class InternalError(Event, frozen=True, kw_only=True, tag="internal.error"):
    """A bug of ours that was contained. `where` names the part, `error` carries the traceback."""

    where: str
    error: str
    conn: str | None = None
