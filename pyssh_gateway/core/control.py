"""What may be asked of a running server over its control socket, who may ask it, and the shapes of the answers.

A request and its reply are one line of JSON each. Text in a reply may have come from the network, so whoever encodes it
says how it is made safe to print; a reader finds visible characters only. Times are Unix seconds unless a field says
otherwise. This module knows nothing about sockets, and not how the answers are found.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from pyssh_gateway.core.authorized_keys import fingerprint
from pyssh_gateway.events import Identity

MAX_REQUEST_BYTES = 64 * 1024
"""The largest request: an RSA certificate with hundreds of principals, in base64, is a quarter of it."""

MAX_REPLY_BYTES = 32 * 1024 * 1024
"""The largest reply that a client takes: forty sources of a thousand keys each."""


class ControlError(Exception):
    """A line that is no message of this protocol. The text says what is wrong with it."""


# -- requests ------------------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request"):
    """A question to the server. The tag is the name that the log has for it."""


class Status(Request, frozen=True, tag="status"):
    """Who is on, and how the server is. Answered by `StatusReply`."""


class Keys(Request, frozen=True, tag="keys"):
    """Who can log in with what. Answered by `KeysReply`."""


class RefreshKeys(Request, frozen=True, tag="keys.refresh"):
    """Ask every source now. Answered by `KeysReply`, when they have answered or failed."""


class TryKey(Request, frozen=True, tag="keys.test"):
    """Would this key or certificate (`blob`, RFC 4253 section 6.6) be let in? Answered by `VerdictsReply`.

    `algorithm` is the signature algorithm, empty for the best that a key of its type has; `user` is one account, empty
    for all that there are; `peer` is the address to come from, empty for the machine's own.
    """

    blob: bytes
    algorithm: str = ""
    user: str = ""
    peer: str = ""


class AcceptAccount(Request, frozen=True, tag="keys.accept"):
    """Trust the account that the source `source` has now, which is not the one it was. Answered by `AcceptedReply`."""

    source: str


AnyRequest = Status | Keys | RefreshKeys | TryKey | AcceptAccount

PUBLIC_REQUESTS: frozenset[type[Request]] = frozenset()
"""What any account of the machine may ask. Everything else is for root and for the account that started the server."""

ROOT = 0


def may_ask(request: Request, uid: int, owner: int) -> bool:
    """Whether the account `uid` may ask this of a server that the account `owner` started."""
    return uid in {ROOT, owner} or type(request) in PUBLIC_REQUESTS


def describe(request: AnyRequest) -> str:
    """The request in the log's words: its tag, and what it is about."""
    name = str(type(request).__struct_config__.tag)
    match request:
        case TryKey(blob=blob):
            return f"{name} {fingerprint(blob)}"
        case AcceptAccount(source=source):
            return f"{name} {source}"
        case _:
            return name


# -- replies -------------------------------------------------------------------------------------------------------


class Reply(msgspec.Struct, frozen=True, tag_field="reply"):
    """An answer. Unknown fields are skipped: a client may be older than the server."""


class RefusedReply(Reply, frozen=True, tag="refused"):
    """The request was not granted, or failed; `reason` is one line for a person."""

    reason: str


class AcceptedReply(Reply, frozen=True, tag="accepted"):
    """What was asked is done; `message` is one line for a person."""

    message: str


class KeyReport(msgspec.Struct, frozen=True):
    """A key that may log in, or an authority whose certificates may.

    `bits` is the size that ssh-keygen -l shows; `options` are the line's in the syntax of authorized_keys, empty for
    none; `narrowed_out`: the login's `only_fingerprints` or `key_types` leave it out, so it lets nobody in.
    """

    fingerprint: str
    key_type: str
    bits: int
    comment: str
    person: str
    person_id: int | None
    source: str
    options: str
    authority: bool
    narrowed_out: bool


class LoginReport(msgspec.Struct, frozen=True):
    """Who can log in to the account `user`."""

    user: str
    keys: tuple[KeyReport, ...]


class SourceReport(msgspec.Struct, frozen=True):
    """A source as it stands.

    `origin` is "none", "fetched" or "last-good"; `age` seconds have passed since it was last known to say this, None if
    it never was; `failure` says why the last look failed, empty if it did not; `pinned` is the account number that the
    configuration names, `remembered` the one that was seen first; `stale`: too old, nobody gets in by it any more;
    `next_look` seconds from now it is asked again, None if that is not planned.
    """

    spec: str
    users: tuple[str, ...]
    accepted: int
    refused: int
    origin: str
    age: float | None
    failure: str
    pinned: int | None
    remembered: int | None
    stale: bool
    next_look: float | None


class KeysReply(Reply, frozen=True, tag="keys"):
    """Who can log in with what, and how fresh that is, both in the order of the configuration."""

    logins: tuple[LoginReport, ...]
    sources: tuple[SourceReport, ...]


class Verdict(msgspec.Struct, frozen=True):
    """Whether a key is let in to the account `user`.

    `reason` says why not; `source`, `identity` and `options` (as in `KeyReport`) are those of the line that lets it in.
    """

    user: str
    accepted: bool
    reason: str = ""
    source: str = ""
    options: str = ""
    identity: Identity | None = None


class VerdictsReply(Reply, frozen=True, tag="verdicts"):
    """The verdict for each account that was asked for."""

    verdicts: tuple[Verdict, ...]


class HostKeyReport(msgspec.Struct, frozen=True):
    """A key of the server; `next`: announced to clients and not in use yet."""

    key_type: str
    fingerprint: str
    next: bool


class SessionReport(msgspec.Struct, frozen=True):
    """What runs for a session channel; `command` is empty for a shell, `tty` without a terminal."""

    session: str
    kind: str
    command: str
    tty: str
    bytes_in: int
    bytes_out: int


class ConnectionReport(msgspec.Struct, frozen=True):
    """Somebody who is on, since `since`."""

    conn: str
    user: str
    identity: Identity | None
    peer: str
    since: float
    sessions: tuple[SessionReport, ...]


class IdleReport(msgspec.Struct, frozen=True):
    """Whether the machine is needed. `timeout` None: it never stops by itself; `stops_in` None: not now."""

    timeout: float | None
    in_use: bool
    stops_in: float | None


class StatusReply(Reply, frozen=True, tag="status"):
    """The server and who is on.

    `authenticating` counts those who have not logged in yet; `sources` are the ones with problems.
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


AnyReply = RefusedReply | AcceptedReply | KeysReply | VerdictsReply | StatusReply


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
    """A reply's line, with its line feed; every text in it has gone through `clean`, which makes it safe to print."""
    return msgspec.json.encode(_cleaned(msgspec.to_builtins(message), clean)) + b"\n"


def decode_reply(line: bytes) -> AnyReply:
    """The reply in a line. Raises ControlError."""
    try:
        return _reply_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"not a reply: {error}") from None


_Plain = TypeVar("_Plain")


def _cleaned(value: _Plain, clean: Callable[[str], str]) -> _Plain | Any:  # noqa: ANN401 - any plain value of JSON
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: _cleaned(below, clean) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(below, clean) for below in value]
    return value
