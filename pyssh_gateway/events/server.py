"""What can happen to the server itself."""

from typing import Literal

from pyssh_gateway.events.base import Event


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


class HostKeyCreated(Event, frozen=True, kw_only=True, tag="host_key.created"):
    """The server made itself a key at its start, because there was none: no file, or an empty one."""

    key_type: str
    fingerprint: str
    path: str
    reason: Literal["missing", "empty"]


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
