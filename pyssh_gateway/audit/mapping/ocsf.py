"""Events in the Open Cybersecurity Schema Framework, https://schema.ocsf.io, of `VERSION`.

The life of a connection is SSH Activity (4007); what is done on it has the classes of files, processes and tunnels.
Events that no class of OCSF is made for are left out: `to_ocsf` returns None. A field without an attribute is in
`unmapped`. docs/events.md has the same as a table.
"""

import posixpath
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pyssh_gateway import __version__
from pyssh_gateway.audit.mapping.fields import Fields, Json, compact, is_ip, place, unix_milliseconds

VERSION = "1.8.0"


class Class(NamedTuple):
    """A class of events: its number and name, that of its category, and the names of its activities."""

    uid: int
    name: str
    category_uid: int
    category_name: str
    activities: dict[int, str]


_LIFE_OF_A_CONNECTION: Final = {1: "Open", 2: "Close", 4: "Fail", 5: "Refuse", 7: "Listen"}

FILES = Class(
    1001,
    "File System Activity",
    1,
    "System Activity",
    {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 5: "Rename", 6: "Set Attributes", 14: "Open"},
)
PROCESSES = Class(1007, "Process Activity", 1, "System Activity", {1: "Launch", 2: "Terminate"})
LOGINS = Class(3002, "Authentication", 3, "Identity & Access Management", {1: "Logon", 6: "Preauth"})
CONNECTIONS = Class(4001, "Network Activity", 4, "Network Activity", _LIFE_OF_A_CONNECTION)
SSH = Class(4007, "SSH Activity", 4, "Network Activity", _LIFE_OF_A_CONNECTION)
TUNNELS = Class(4014, "Tunnel Activity", 4, "Network Activity", {1: "Open", 2: "Close"})
LIFECYCLE = Class(6002, "Application Lifecycle", 6, "Application Activity", {3: "Start", 4: "Stop", 5: "Restart"})
ERRORS = Class(6008, "Application Error", 6, "Application Activity", {1: "General Error"})

OTHER: Final = 99
SUCCESS, FAILURE = 1, 2
_STATUS: Final[dict[int | None, str]] = {SUCCESS: "Success", FAILURE: "Failure"}
INFORMATIONAL, LOW, MEDIUM, HIGH = 1, 2, 3, 4
_SEVERITY: Final = {INFORMATIONAL: "Informational", LOW: "Low", MEDIUM: "Medium", HIGH: "High"}


class Kind(NamedTuple):
    """What an event is in OCSF; `other` names an activity that the class has no number for."""

    of: Class
    activity: int
    status: int | None = None
    severity: int = INFORMATIONAL
    other: str = ""
    status_text: str = ""


def to_ocsf(event: Json, *, host: str = "localhost") -> Json | None:
    """The line of the log, decoded, as an event of OCSF; None for one without a counterpart.

    `host`: the name of the machine whose log it is. Some classes require one.
    """
    fields = Fields(event)
    name = fields.text("event")
    rule = _RULES.get(name)
    time = unix_milliseconds(str(fields.look("ts")))
    if rule is None or time is None or (kind := rule.classify(fields)) is None:
        return None
    made = _classification(kind)
    made["time"] = time
    made["metadata"] = compact(
        {
            "version": VERSION,
            "product": {"name": "pyssh-gateway", "vendor_name": "pyssh-gateway", "version": __version__},
            "log_name": "events.jsonl",
            "event_code": name,
            "original_time": fields.text("ts"),
            "sequence": fields.count("seq"),
            "correlation_uid": fields.take("conn"),
            "profiles": ["host"] if rule.with_actor and kind.of.category_uid == 4 else None,
        }
    )
    made["status_detail"] = _detail(fields) or None
    made["status_code"] = fields.text("code") or None
    made |= rule.attributes(fields, host)
    if rule.with_actor:
        made["actor"] = compact({"user": _user(fields)})
    made["unmapped"] = fields.rest
    return compact(made)


def _classification(kind: Kind) -> Json:
    activity = kind.other or kind.of.activities[kind.activity]
    status = kind.status_text or _STATUS.get(kind.status)
    return {
        "activity_id": kind.activity,
        "activity_name": activity,
        "category_uid": kind.of.category_uid,
        "category_name": kind.of.category_name,
        "class_uid": kind.of.uid,
        "class_name": kind.of.name,
        "type_uid": kind.of.uid * 100 + kind.activity,
        "type_name": f"{kind.of.name}: {'Other' if kind.activity == OTHER else activity}",
        "severity_id": kind.severity,
        "severity": _SEVERITY[kind.severity],
        "status_id": kind.status,
        "status": status,
    }


def _detail(fields: Fields) -> str:
    for name in ("reason", "cause"):
        if text := fields.text(name):
            return text
    return ""


def _user(fields: Fields) -> Json:
    """The account; the person's own account, at GitHub for example, is the account that belongs to it."""
    identity = fields.take("identity")
    person = identity if isinstance(identity, dict) else {}
    number = person.get("id")
    key = fields.text("fingerprint") or person.get("fingerprint")
    account = compact({"name": person.get("person"), "uid": None if number is None else str(number)})
    return compact({"name": fields.text("user"), "credential_uid": key or None, "account": account})


def _client(fields: Fields) -> Json | None:
    peer = fields.text("peer")
    if not peer:
        return None
    return compact({"ip" if is_ip(peer) else "name": peer, "port": fields.count("peer_port")})


def _milliseconds(fields: Fields) -> int | None:
    seconds = fields.number("seconds")
    return None if seconds is None else round(seconds * 1000)


def _traffic(fields: Fields, *, reverse: bool = False) -> Json | None:
    """OCSF counts from the source: `bytes_out` went from it to the destination. Ours come in from the client."""
    came, went = fields.count("bytes_in"), fields.count("bytes_out")
    if came is None or went is None:
        return None
    if reverse:
        came, went = went, came
    return {"bytes": came + went, "bytes_in": went, "bytes_out": came}


def _connection(fields: Fields, host: str) -> Json:
    """Between the client and this server."""
    count = fields.count("count")
    proxy = fields.text("proxy")
    client = _client(fields)
    if client is not None and proxy:
        client["proxy_endpoint"] = {"ip" if is_ip(proxy) else "name": proxy}
    return {
        "src_endpoint": client,
        "dst_endpoint": {"hostname": host, "svc_name": "ssh"},
        "connection_info": {"direction_id": 1, "direction": "Inbound", "protocol_name": "tcp", "protocol_num": 6},
        "count": None if count == 1 else count,
    }


def _ssh(fields: Fields, host: str) -> Json:
    return _connection(fields, host) | {
        "duration": _milliseconds(fields),
        "traffic": _traffic(fields),
        "client_hassh": _hassh(fields.text("hassh")),
        "server_hassh": _hassh(fields.text("hassh_server")),
        "protocol_ver": "2.0",
    }


def _ssh_now(fields: Fields, host: str) -> Json:
    """As `_ssh`, of an event whose `seconds` are not how long it took."""
    return _connection(fields, host) | {"protocol_ver": "2.0"}


def _hassh(value: str) -> Json | None:
    return {"fingerprint": {"algorithm_id": 1, "algorithm": "MD5", "value": value}} if value else None


def _login(fields: Fields, host: str) -> Json:
    is_certificate = str((fields.look("identity") or {}).get("person", "")).startswith("ca:")
    number, caption = (1, "Certificate Based") if is_certificate else (6, "Public Key")
    return _ssh(fields, host) | {"auth_type_id": number, "auth_type": caption}


def _attempt(fields: Fields, host: str) -> Json:
    return {
        "user": _user(fields),
        "src_endpoint": _client(fields),
        "dst_endpoint": {"hostname": host, "svc_name": "ssh"},
        "service": {"name": "ssh"},
        "auth_protocol_id": OTHER,
        "auth_protocol": fields.text("method") or "Other",
        "logon_type_id": 3,
        "logon_type": "Network",
        "is_remote": True,
    }


def _process(fields: Fields, host: str) -> Json:
    session = fields.text("session")
    command = fields.text("command") if fields.look("kind") == "exec" else ""
    terminal = fields.text("tty")
    return {
        "device": _device(host),
        "exit_code": fields.count("exit_status"),
        "duration": _milliseconds(fields),
        "process": compact(
            {
                "pid": fields.count("pid"),
                "uid": session,
                "cmd_line": command or None,
                "session": compact({"uid": session, "terminal": terminal or None, "is_remote": True}),
            }
        ),
    }


def _file(fields: Fields, host: str) -> Json:
    operation = fields.look("operation")
    type_id, caption = {
        "directory.made": (2, "Folder"),
        "directory.removed": (2, "Folder"),
        "file.closed": (1, "Regular File"),
        "link.made": (7, "Symbolic Link") if fields.look("detail") == "symbolic" else (0, "Unknown"),
    }.get(operation, (0, "Unknown"))
    made: Json = {"device": _device(host), "file": _file_of(fields.text("path"), type_id, caption)}
    if operation == "file.renamed":
        made["file_result"] = _file_of(fields.text("target"), type_id, caption)
    made["status_code"] = fields.text("outcome") or None
    return made


def _file_of(path: str, type_id: int, caption: str) -> Json:
    return {"name": posixpath.basename(path) or path, "path": path, "type_id": type_id, "type": caption}


def _tunnel(fields: Fields, host: str) -> Json:
    """A forwarded connection: from here to the target, or from something here to the client (`-R`, the agent)."""
    is_direct = str(fields.look("kind")).startswith("direct-")
    target = place(fields.text("target")) if is_direct else None
    return {
        "src_endpoint": {"hostname": host},
        "dst_endpoint": None if target is None else _endpoint(target.address, target.port),
        "protocol_name": "SSH",
        "user": _user(fields),
        "duration": _milliseconds(fields),
        "traffic": _traffic(fields, reverse=not is_direct),
    }


def _listening(fields: Fields, _host: str) -> Json:
    target = place(fields.text("target"))
    return {"dst_endpoint": _endpoint(target.address, target.port), "protocol_ver": "2.0"}


def _endpoint(address: str, port: int | None) -> Json:
    how = "ip" if is_ip(address) else "hostname" if port is not None else "name"
    return compact({how: address, "port": port})


def _device(host: str) -> Json:
    return {"hostname": host, "type_id": 1, "type": "Server"}


def _server(fields: Fields, _host: str) -> Json:
    app = {"name": "pyssh-gateway", "vendor_name": "pyssh-gateway", "version": fields.text("version") or None}
    return {"app": compact(app), "message": fields.text("message") or None}


def _service(fields: Fields, _host: str) -> Json:
    return {"app": {"name": fields.text("service")}}


def _error(fields: Fields, _host: str) -> Json:
    return {"message": fields.text("error") or None}


class _Rule(NamedTuple):
    classify: Callable[[Fields], Kind | None]
    attributes: Callable[[Fields, str], Json]
    with_actor: bool = False


def _always(*kind: Any, **more: Any) -> Callable[[Fields], Kind]:  # noqa: ANN401 - the members of a Kind
    made = Kind(*kind, **more)
    return lambda _fields: made


def _closing(fields: Fields) -> Kind:
    """Nobody had authenticated: the connection came to nothing."""
    return Kind(SSH, 2, SUCCESS) if fields.look("user") else Kind(SSH, 4, FAILURE)


def _attempting(fields: Fields) -> Kind:
    match fields.look("result"):
        case "accepted":
            return Kind(LOGINS, 1, SUCCESS)
        case "denied":
            return Kind(LOGINS, 1, FAILURE, LOW)
    return Kind(LOGINS, 6)


def _session_end(fields: Fields) -> Kind:
    status, signal = fields.look("exit_status"), fields.look("exit_signal")
    if status is None and signal is None:
        return Kind(PROCESSES, OTHER, other="Session closed")
    return Kind(PROCESSES, 2, SUCCESS if status == 0 else FAILURE)


_FILE_ACTIVITIES: Final = {
    "file.open_failed": 14,
    "file.removed": 4,
    "file.renamed": 5,
    "directory.made": 1,
    "directory.removed": 4,
    "link.made": 1,
    "attributes.set": 6,
}


def _file_operation(fields: Fields) -> Kind | None:
    """Reports about lost reports are about no file."""
    opened = str(fields.look("detail")).split()
    activity: int | None = _FILE_ACTIVITIES.get(str(fields.look("operation")))
    if fields.look("operation") == "file.closed":
        activity = 1 if "exclusive" in opened else 3 if {"write", "append"} & set(opened) else 2
    if activity is None or not fields.look("path"):
        return None
    match fields.look("outcome"):
        case "ok":
            return Kind(FILES, activity, SUCCESS)
        case "unfinished":
            return Kind(FILES, activity, OTHER, status_text="unfinished")
    return Kind(FILES, activity, FAILURE)


def _service_start(fields: Fields) -> Kind:
    return Kind(LIFECYCLE, 5 if fields.look("restarts") else 3, SUCCESS)


_RULES: Final[dict[str, _Rule]] = {
    "server.started": _Rule(_always(LIFECYCLE, 3, SUCCESS), _server),
    "server.stopped": _Rule(_always(LIFECYCLE, 4, SUCCESS), _server),
    "gateway.crashed": _Rule(_always(LIFECYCLE, 5, FAILURE, HIGH), _server),
    "internal.error": _Rule(_always(ERRORS, 1, FAILURE, MEDIUM), _error),
    "connection.opened": _Rule(_always(CONNECTIONS, 1, SUCCESS), _connection),
    "connection.refused": _Rule(_always(SSH, 5, FAILURE, LOW), _ssh),
    "auth.attempt": _Rule(_attempting, _attempt),
    "connection.authenticated": _Rule(_always(SSH, 1, SUCCESS), _login, with_actor=True),
    "connection.closed": _Rule(_closing, _ssh, with_actor=True),
    "connection.revoked": _Rule(_always(SSH, OTHER, None, MEDIUM, other="Key revoked"), _ssh_now, with_actor=True),
    "connection.reinstated": _Rule(_always(SSH, OTHER, other="Key reinstated"), _ssh_now, with_actor=True),
    "request.denied": _Rule(_always(SSH, OTHER, FAILURE, LOW, other="Request denied"), _ssh_now, with_actor=True),
    "session.opened": _Rule(_always(PROCESSES, 1, SUCCESS), _process, with_actor=True),
    "session.exited": _Rule(_always(PROCESSES, OTHER, other="Process exited"), _process, with_actor=True),
    "session.closed": _Rule(_session_end, _process, with_actor=True),
    "sftp.operation": _Rule(_file_operation, _file, with_actor=True),
    "forward.listening": _Rule(_always(SSH, 7, SUCCESS), _listening, with_actor=True),
    "forward.opened": _Rule(_always(TUNNELS, 1, SUCCESS), _tunnel),
    "forward.closed": _Rule(_always(TUNNELS, 2, SUCCESS), _tunnel),
    "service.started": _Rule(_service_start, _service),
    "service.ended": _Rule(_always(LIFECYCLE, 4), _service),
}

MAPPED: Final = frozenset(_RULES)
"""The events that have a counterpart."""
