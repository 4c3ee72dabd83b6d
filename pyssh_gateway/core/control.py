"""The requests to a running server over its control socket, who may send them, and the format of the replies.

A request and its reply are one line of JSON each. Text in a reply may have come from the network, so the encoder is
given a function that makes it safe to print; a reader finds visible characters only. Times are Unix seconds unless a
field says otherwise. This module knows neither sockets nor where the answers come from.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec

from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.core.control_reports import (
    ConnectionReport,
    ForNobodyReport,
    HoldReport,
    HostCertificateReport,
    HostKeyReport,
    IdleReport,
    KeyReport,
    LoginReport,
    ReasonReport,
    RevokedListReport,
    SessionReport,
    SourceOfWakesReport,
    SourceReport,
    StopReport,
    Verdict,
)
from pyssh_gateway.core.plain_json import with_texts

__all__ = [
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "PUBLIC_REQUESTS",
    "ROOT",
    "AcceptAccount",
    "AcceptedReply",
    "AnyReply",
    "AnyRequest",
    "ConfigReply",
    "Configuration",
    "ConnectionReport",
    "ControlError",
    "ForNobodyReport",
    "HeldReply",
    "HoldReport",
    "HoldUp",
    "HostCertificateReport",
    "HostKeyReport",
    "IdleReport",
    "KeyReport",
    "Keys",
    "KeysReply",
    "LoginReport",
    "ReasonReport",
    "RefreshKeys",
    "RefusedReply",
    "Release",
    "ReleasedReply",
    "Reply",
    "Request",
    "RevokedListReport",
    "SessionReport",
    "Sessions",
    "SessionsReply",
    "SourceOfWakesReport",
    "SourceReport",
    "Status",
    "StatusReply",
    "StopReport",
    "TryKey",
    "Verdict",
    "VerdictsReply",
    "Why",
    "WhyReply",
    "decode_reply",
    "decode_request",
    "describe",
    "encode_clean",
    "encode_request",
    "may_ask",
    "may_ask_everything",
]

MAX_REQUEST_BYTES = 64 * 1024
"""The largest request: an RSA certificate with hundreds of principals, in base64, is a quarter of it."""

MAX_PID = 2**22
"""The largest number of a process (PID_MAX_LIMIT of the kernel's threads.h)."""

MAX_REPLY_BYTES = 32 * 1024 * 1024
"""The largest reply that a client takes: forty sources of a thousand keys each."""


class ControlError(Exception):
    """A line that is not a message of this protocol. The text says what is wrong with it."""


# -- requests ------------------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request"):
    """A request to the server. The tag is its name in the log."""


class Status(Request, frozen=True, tag="status"):
    """Ask for the open connections and the state of the server. Answered by `StatusReply`."""


class Keys(Request, frozen=True, tag="keys"):
    """Ask which keys can log in. Answered by `KeysReply`."""


class RefreshKeys(Request, frozen=True, tag="keys.refresh"):
    """Ask every source now. Answered by `KeysReply`, when they have answered or failed."""


class TryKey(Request, frozen=True, tag="keys.test"):
    """Ask whether this key or certificate (`blob`, RFC 4253 section 6.6) could log in. Answered by `VerdictsReply`.

    `algorithm` is the signature algorithm, empty for the best one for this type of key; `user` is one account, empty
    for all; `peer` is the client's address, empty for this machine's own.
    """

    blob: bytes
    algorithm: str = ""
    user: str = ""
    peer: str = ""


class AcceptAccount(Request, frozen=True, tag="keys.accept"):
    """Trust the account that the source `source` names now instead of the earlier one. Answered by `AcceptedReply`."""

    source: str


class Sessions(Request, frozen=True, tag="sessions"):
    """Ask for the sessions. Answered by `SessionsReply`; an unprivileged account only sees its own sessions."""


class Why(Request, frozen=True, tag="why"):
    """Ask what keeps the machine up, or when it stops, and why it stopped before. Answered by `WhyReply`."""


class HoldUp(Request, frozen=True, tag="hold"):
    """Keep the machine up. Answered by `HeldReply`.

    `seconds` None: for as long as is permitted. `process`: until the requesting process ends, at most. `pid`: the same
    for another process of the account, 0 for none; `started` is its start in clock ticks since the boot, so that a
    later process with its pid is not taken for it.
    """

    seconds: float | None = None
    reason: str = ""
    process: bool = False
    pid: Annotated[int, msgspec.Meta(ge=0, le=MAX_PID)] = 0
    started: Annotated[int, msgspec.Meta(ge=0)] = 0


class Release(Request, frozen=True, tag="release"):
    """End the hold `hold`; empty: the account's only hold, or all with `every`. Answered by `ReleasedReply`."""

    hold: str = ""
    every: bool = False


class Configuration(Request, frozen=True, tag="config"):
    """Ask where the server reads its configuration. Answered by `ConfigReply`, to privileged accounts only."""


AnyRequest = Configuration | Status | Keys | RefreshKeys | TryKey | AcceptAccount | Sessions | Why | HoldUp | Release

PUBLIC_REQUESTS: frozenset[type[Request]] = frozenset({Status, Sessions, Why, HoldUp, Release})
"""Requests that every account with a login may send, too; the reply is reduced to what the account may know. All other
requests are for root and for the account that started the server."""

ROOT = 0


def may_ask_everything(uid: int, owner: int) -> bool:
    """Whether the account `uid` may ask anything of a server that the account `owner` started."""
    return uid in {ROOT, owner}


def may_ask(request: Request, uid: int, owner: int, *, can_log_in: bool) -> bool:
    """Whether the account `uid` may send this request. `can_log_in`: the configuration has a login for the account."""
    return may_ask_everything(uid, owner) or (can_log_in and type(request) in PUBLIC_REQUESTS)


def describe(request: AnyRequest) -> str:
    """The request as the log describes it: its tag and its subject."""
    name = str(type(request).__struct_config__.tag)
    match request:
        case TryKey(blob=blob):
            return f"{name} {fingerprint(blob)}"
        case AcceptAccount(source=source):
            return f"{name} {source}"
        case Release(hold=hold) if hold:
            return f"{name} {hold}"
        case _:
            return name


# -- replies -------------------------------------------------------------------------------------------------------


class Reply(msgspec.Struct, frozen=True, tag_field="reply"):
    """A reply. Unknown fields are skipped: a client may be older than the server."""


class RefusedReply(Reply, frozen=True, tag="refused"):
    """The request was not granted, or failed; `reason` is one line for a person."""

    reason: str


class AcceptedReply(Reply, frozen=True, tag="accepted"):
    """The request was carried out; `message` is one line for a person."""

    message: str


class KeysReply(Reply, frozen=True, tag="keys"):
    """The keys that can log in, and the state of their sources, both in the order of the configuration.

    `revoked` are the revocation lists, `host_keys` the server's own keys, with their `certificates`.
    """

    logins: tuple[LoginReport, ...]
    sources: tuple[SourceReport, ...]
    revoked: tuple[RevokedListReport, ...] = ()
    host_keys: tuple[HostKeyReport, ...] = ()
    certificates: tuple[HostCertificateReport, ...] = ()


class VerdictsReply(Reply, frozen=True, tag="verdicts"):
    """The verdict for each account that was asked for."""

    verdicts: tuple[Verdict, ...]


class LogReport(msgspec.Struct, frozen=True):
    """The log, which can't be written because of `trouble`, or has lost lines since the server's start.

    `waiting` lines wait for it, and `lost` ones were too many for that. `required`: nobody gets in meanwhile, but to
    accounts with `break_glass`.
    """

    trouble: str | None
    required: bool
    waiting: int
    lost: int


class StatusReply(Reply, frozen=True, tag="status"):
    """The state of the server, and the open connections.

    `authenticating` counts the clients that have not logged in yet. `sources` and `revoked` have only the sources and
    revocation lists with problems; while such a list exists, nobody gets in. `certificates` has only the host
    certificates that are not offered because of a problem. An account that may not ask everything sees other accounts'
    connections without what runs on them, no sources or lists, and not what woke the machine `for_nobody`. The server
    listens at `address` and `port`, and at everything else in `addresses`. `log` is given if there is something wrong
    with it.
    """

    version: str
    pid: int
    since: float
    address: str
    port: int
    host_keys: tuple[HostKeyReport, ...]
    connections: tuple[ConnectionReport, ...]
    authenticating: int
    idle: IdleReport
    sources: tuple[SourceReport, ...]
    addresses: tuple[str, ...] = ()
    revoked: tuple[RevokedListReport, ...] = ()
    certificates: tuple[HostCertificateReport, ...] = ()
    for_nobody: ForNobodyReport | None = None
    log: LogReport | None = None


class SessionsReply(Reply, frozen=True, tag="sessions"):
    """The open connections, with what runs on them."""

    connections: tuple[ConnectionReport, ...]


class WhyReply(Reply, frozen=True, tag="why"):
    """Why the machine is up, when it stops, and why it stopped before, the latest first.

    The machine is awake since `since`; `woken_by` is the address of the client that woke it, empty if none did
    (`core.idle.wake` has the rules). `policy` says in words when it stops. `for_nobody` None: the server is too old to
    count that.
    """

    since: float
    woken_by: str
    policy: str
    idle: IdleReport
    holds: tuple[HoldReport, ...]
    stops: tuple[StopReport, ...]
    for_nobody: ForNobodyReport | None = None


class ConfigReply(Reply, frozen=True, tag="config"):
    """Where the server reads its configuration (`ipc.config_origin`), and a digest of the configuration in force.

    `origin` is packed, so that making texts printable does not change it; it may contain a token. `in_force` is a
    digest of the configuration in force (`ipc.reread`); `pid` is the process that has read it.
    """

    origin: bytes
    in_force: str
    pid: int


class HeldReply(Reply, frozen=True, tag="held"):
    """The machine is held up. `remark` is one line about a problem, empty for none."""

    hold: HoldReport
    remark: str = ""


class ReleasedReply(Reply, frozen=True, tag="released"):
    """These holds have ended."""

    holds: tuple[HoldReport, ...]


AnyReply = (
    RefusedReply
    | AcceptedReply
    | ConfigReply
    | KeysReply
    | VerdictsReply
    | StatusReply
    | SessionsReply
    | WhyReply
    | HeldReply
    | ReleasedReply
)


# -- lines ---------------------------------------------------------------------------------------------------------

_request_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_reply_decoder: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)


def encode_request(request: AnyRequest) -> bytes:
    """The line, with its line feed."""
    return msgspec.json.encode(request) + b"\n"


def decode_request(line: bytes) -> AnyRequest:
    """The request in a line. Raises ControlError."""
    try:
        return _request_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"not a request: {error}") from None


def encode_clean(message: msgspec.Struct, clean: Callable[[str], str]) -> bytes:
    """The line of a reply, with its line feed; `clean` makes every text in it safe to print."""
    return msgspec.json.encode(with_texts(msgspec.to_builtins(message), clean)) + b"\n"


def decode_reply(line: bytes) -> AnyReply:
    """The reply in a line. Raises ControlError."""
    try:
        return _reply_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"not a reply: {error}") from None
