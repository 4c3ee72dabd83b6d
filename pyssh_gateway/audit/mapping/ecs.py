"""Events in the Elastic Common Schema, https://www.elastic.co/docs/reference/ecs: the field reference of `VERSION`.

What has no field there is under `pyssh`, which ECS leaves to us. docs/events.md has the same as a table.
"""

from typing import Any, Final, NamedTuple

from pyssh_gateway.audit.mapping.fields import Fields, Json, is_ip, place

VERSION = "9.4.0"

_NANOSECONDS = 1_000_000_000


class Row(NamedTuple):
    """How ECS classifies an event: every one of `types` is one that ECS expects with one of the categories."""

    categories: tuple[str, ...]
    types: tuple[str, ...]
    outcome: str | None = None


EVENTS: Final[dict[str, Row]] = {
    "server.started": Row(("process",), ("start",), "success"),
    "host_key.created": Row(("configuration",), ("creation",)),
    "host_key.certificate": Row(("configuration",), ("info",)),
    "server.stopping": Row(("process",), ("info",)),
    "server.stopped": Row(("process",), ("end",)),
    "config.reloaded": Row(("configuration",), ("change",), "success"),
    "config.rejected": Row(("configuration",), ("change",), "failure"),
    "audit.reopened": Row(("process",), ("info",)),
    "audit.limited": Row(("process",), ("info",), "failure"),
    "audit.lost": Row(("process",), ("info",), "failure"),
    "gateway.crashed": Row(("process",), ("end",), "failure"),
    "internal.error": Row(("process",), ("info",), "failure"),
    "keys.loaded": Row(("iam",), ("info",), "success"),
    "keys.failed": Row(("iam",), ("info",), "failure"),
    "keys.revoked_list": Row(("iam",), ("info",), "success"),
    "keys.revoked_list_failed": Row(("iam",), ("info",), "failure"),
    "keys.account_changed": Row(("iam",), ("info",), "failure"),
    "connection.opened": Row(("network",), ("connection", "start")),
    "connection.refused": Row(("network",), ("connection", "denied"), "failure"),
    "auth.attempt": Row(("authentication",), ("info",)),
    "connection.authenticated": Row(("authentication", "session"), ("start",), "success"),
    "connection.closed": Row(("network",), ("connection", "end")),
    "connection.revoked": Row(("session",), ("info",)),
    "connection.reinstated": Row(("session",), ("info",)),
    "request.denied": Row(("network",), ("denied",), "failure"),
    "session.opened": Row(("process", "session"), ("start",)),
    "session.exited": Row(("process", "session"), ("info",)),
    "session.closed": Row(("process", "session"), ("end",)),
    "recording.started": Row(("session",), ("info",)),
    "recording.ended": Row(("session",), ("info",)),
    "sftp.operation": Row(("file",), ("info",)),
    "forward.listening": Row(("network",), ("info",)),
    "forward.opened": Row(("network",), ("connection", "start")),
    "forward.closed": Row(("network",), ("connection", "end")),
    "client.quiet": Row(("session",), ("info",)),
    "client.used": Row(("session",), ("info",)),
    "client.use": Row(("session",), ("info",)),
    "hold.started": Row(("host",), ("info",)),
    "hold.ended": Row(("host",), ("info",)),
    "background.work": Row(("host",), ("info",)),
    "background.seen": Row(("host",), ("info",)),
    "terminal.used": Row(("host",), ("info",)),
    "terminal.quiet": Row(("host",), ("info",)),
    "schedule.entered": Row(("host",), ("info",)),
    "machine.resumed": Row(("host",), ("start",)),
    "stop.step": Row(("host",), ("change",)),
    "boot.step": Row(("host",), ("change",)),
    "service.started": Row(("process",), ("start",)),
    "service.ended": Row(("process",), ("end",)),
    "service.output": Row(("process",), ("info",)),
    "control.request": Row(("api",), ("access",)),
    "idle.tick": Row(("host",), ("info",)),
    "idle.reached": Row(("host",), ("info",)),
}

FILE_TYPES: Final[dict[str, str]] = {
    "file.open_failed": "access",
    "file.removed": "deletion",
    "file.renamed": "change",
    "directory.made": "creation",
    "directory.removed": "deletion",
    "link.made": "creation",
    "attributes.set": "change",
}
"""The type of an `sftp.operation`. That of `file.closed` depends on how the file was opened."""

_DURATIONS: Final = frozenset(
    {
        "connection.refused",
        "connection.authenticated",
        "connection.closed",
        "session.exited",
        "session.closed",
        "recording.ended",
        "forward.closed",
        "machine.resumed",
        "stop.step",
    }
)
"""The events whose `seconds` say how long they took. In others they say how long something will be, or was before."""

_TEXTS: Final[dict[str, str]] = {
    "reason": "event.reason",
    "why": "event.reason",
    "cause": "event.reason",
    "code": "error.code",
    "error": "error.stack_trace",
    "message": "message",
    "line": "message",
    "version": "service.version",
    "path": "file.path",
}
_COUNTS: Final[dict[str, str]] = {
    "pid": "process.pid",
    "exit_status": "process.exit_code",
    "bytes_in": "source.bytes",
    "bytes_out": "destination.bytes",
}


def to_ecs(event: Json, *, host: str = "") -> Json:
    """The line of the log, decoded, as an ECS document. `host`: the name of the machine whose log it is."""
    fields = Fields(event)
    document = _Document()
    name = fields.text("event")
    row = EVENTS.get(name, Row((), ()))
    document.put("@timestamp", fields.text("ts") or None)
    document.put("ecs.version", VERSION)
    document.put("host.name", host or None)
    document.put("service.name", "pyssh-gateway")
    document.put("service.type", "pyssh-gateway")
    document.put("event.kind", "event")
    document.put("event.module", "pyssh_gateway")
    document.put("event.dataset", "pyssh_gateway.events")
    document.put("event.action", name or None)
    document.put("event.sequence", fields.count("seq"))
    document.put("event.category", list(row.categories) or None)
    document.put("event.type", _types(name, row, fields) or None)
    document.put("event.outcome", _outcome(name, row, fields))
    if name in _DURATIONS and (seconds := fields.number("seconds")) is not None:
        document.put("event.duration", round(seconds * _NANOSECONDS))
    _put_who(document, fields)
    _put_where(document, name, row, fields)
    if name == "session.opened":
        if fields.look("kind") == "exec":
            document.put("process.command_line", fields.text("command") or None)
        document.put("process.interactive", bool(fields.look("tty")))
    for field, at in _TEXTS.items():
        document.put(at, fields.text(field) or None)
    for field, at in _COUNTS.items():
        document.put(at, fields.count(field))
    document.put("pyssh", fields.rest or None)
    return document.nested


class _Document:
    """The document while it is made."""

    def __init__(self) -> None:
        self.nested: Json = {}

    def put(self, name: str, value: Any) -> None:  # noqa: ANN401 - the value of any field
        """Set the field with the dotted `name`; None: it has no value."""
        if value is None:
            return
        *parents, last = name.split(".")
        below = self.nested
        for parent in parents:
            below = below.setdefault(parent, {})
        below[last] = value


def _types(name: str, row: Row, fields: Fields) -> list[str]:
    if name == "sftp.operation":
        if fields.look("operation") == "file.closed":
            return ["change" if _writes(fields) else "access"]
        return [FILE_TYPES.get(fields.look("operation"), "info")]
    if name in {"keys.loaded", "keys.revoked_list"} and fields.look("changed"):
        return ["change"]
    return list(row.types)


def _writes(fields: Fields) -> bool:
    opened = str(fields.look("detail")).split()
    return "write" in opened or "append" in opened


def _outcome(name: str, row: Row, fields: Fields) -> str | None:
    if name == "auth.attempt":
        return {"accepted": "success", "denied": "failure"}.get(fields.look("result"), "unknown")
    if name == "sftp.operation":
        return {"ok": "success", "unfinished": "unknown"}.get(fields.look("outcome"), "failure")
    if name == "stop.step":
        return {"done": "success", "failed": "failure"}.get(fields.look("result"), "unknown")
    if name == "session.closed" and (status := fields.look("exit_status")) is not None:
        return "success" if status == 0 else "failure"
    return row.outcome


def _put_who(document: _Document, fields: Fields) -> None:
    """The account, which is ECS's user; the person and their key are related to it, and stay as they are."""
    user = fields.text("user")
    document.put("user.name", user or None)
    if (uid := fields.count("uid")) is not None:
        document.put("user.id", str(uid))
    identity = fields.look("identity")
    person = identity.get("person", "") if isinstance(identity, dict) else ""
    key = fields.look("fingerprint") or (identity.get("fingerprint", "") if isinstance(identity, dict) else "")
    document.put("related.user", [name for name in (user, person) if name] or None)
    hashes = [key, fields.look("hassh"), fields.look("hassh_server")]
    document.put("related.hash", [text for text in hashes if text and isinstance(text, str)] or None)


def _put_where(document: _Document, name: str, row: Row, fields: Fields) -> None:
    """The client is ECS's source. What it connects to is the destination: this server, or a forward's target."""
    if peer := fields.text("peer"):
        document.put("source.address", peer)
        if is_ip(peer):
            document.put("source.ip", peer)
            document.put("related.ip", [peer])
            document.put("network.type", "ipv6" if ":" in peer else "ipv4")
        document.put("source.port", fields.count("peer_port"))
    if name == "server.started" and (address := fields.text("address")):
        document.put("server.address", address)
        if is_ip(address):
            document.put("server.ip", address)
        document.put("server.port", fields.count("port"))
    if "network" in row.categories or name in {"connection.authenticated", "auth.attempt"}:
        document.put("network.protocol", "ssh")
        is_path = str(fields.look("kind")).endswith("-streamlocal")
        document.put("network.transport", None if is_path else "tcp")
    if name.startswith("connection.") and fields.look("bytes_in") is not None:
        document.put("network.bytes", _sum(fields))
    if name.startswith("forward.") and str(fields.look("kind")).startswith("direct-"):
        target = place(fields.text("target"))
        document.put("destination.address", target.address or None)
        document.put("destination.ip", target.address if target.is_ip else None)
        document.put("destination.port", target.port)
    if name == "sftp.operation" and fields.look("operation") == "link.made":
        document.put("file.target_path", fields.text("target") or None)


def _sum(fields: Fields) -> int | None:
    both = fields.look("bytes_in"), fields.look("bytes_out")
    return sum(both) if all(isinstance(count, int) for count in both) else None
