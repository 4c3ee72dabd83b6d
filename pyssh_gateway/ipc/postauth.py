"""The messages between the monitor and a postauth process, among them the hand-over of a connection.

One message is one packet of a `SOCK_SEQPACKET` socket pair, as in `ipc.spawner`. A postauth process runs as its
account, so the monitor trusts its messages no more than that account. It takes the account and the person from its own
registry, and ends a process that sends anything but these types, names a connection that it was not given, or names a
session with another connection than its own: the log and the recordings tell sessions apart by their names.
"""

from typing import Annotated, Literal

import msgspec

from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.core.recordings.names import is_of
from pyssh_gateway.core.recordings.rules import Recorded
from pyssh_gateway.events import (
    ConnectionClosed,
    FileOperation,
    ForwardClosed,
    ForwardListening,
    ForwardOpened,
    Identity,
    RecordingEnded,
    RecordingStarted,
    RequestDenied,
    SessionClosed,
    SessionExited,
    SessionOpened,
)
from pyssh_gateway.ipc.spawner import ProtocolError, message_in, packet_of

MAX_NAME = 64
"""Characters of a connection's or session's name in the log; our names have a dozen."""

MAX_TEXT = 4096
"""Characters of a sentence for people."""

MAX_CRASH = 16 * 1024
"""Characters of a traceback."""

MAX_PROOFS = 32
"""Host keys in one request for proofs: as many as are proved on a connection in all."""

MAX_LINES = 64
"""Terminals in one `ShowOn`: more than a person has open, and written on in a millisecond."""

Line = Annotated[str, msgspec.Meta(pattern=r"\Apts/[0-9]{1,7}\Z")]
"""A pty's name below /dev."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]
Blob = Annotated[bytes, msgspec.Meta(max_length=16 * 1024)]
Algorithm = Annotated[bytes, msgspec.Meta(max_length=64)]


class OfferedKey(msgspec.Struct, frozen=True):
    """A host key as it is offered in a key exchange: the signature algorithm and the public key's blob."""

    algorithm: Algorithm
    blob: Blob


# -- from the monitor -----------------------------------------------------------------------------------------------


class TakeConnection(msgspec.Struct, frozen=True, tag="take-connection"):
    """Monitor: serve this connection, whose client has authenticated. Descriptor: the client's socket.

    `state` is from the preauth process (`ipc.handover`), and the monitor has not read it. `session_id` is the one in
    the login's signature, which the monitor has verified; it overrides the one in `state`. `opened_seconds` have passed
    since the connection was accepted. `closed`: why the account may not be used at present, in whole lines; empty if it
    may. `banner` is the first text that a login shell shows. `host_keys` are those for rekeying, `announced` the blobs
    of `hostkeys-00`. `control` is the path of the control socket, `timezone` the TZ that the server was started with.
    New keys are exchanged after `rekey_bytes`, or after `rekey_seconds` (0: never by time). `auth_info` is the content
    of the file that SSH_USER_AUTH names; empty: there is no such file. `asleep`: the client has come back by itself, so
    only a terminal or SFTP is served, until one was asked for; anything else is refused with this text. Empty: the
    client is served as usual. `recorded`: what is recorded of its sessions; None: nothing. `unlogged`: no channels are
    opened, as after `Revoke` for the log; empty: they are.
    """

    conn: Name
    identity: Identity
    rules: LoginRules
    endpoints: Endpoints
    session_id: bytes
    state: bytes
    host_keys: tuple[OfferedKey, ...]
    announced: tuple[Blob, ...]
    identification: str
    keepalive: float | None
    keepalive_misses: int
    sessions: int
    rekey_bytes: Annotated[int, msgspec.Meta(ge=1)] = 2**30
    rekey_seconds: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    auth_info: bytes = b""
    banner: bytes = b""
    closed: bytes = b""
    control: bytes = b""
    timezone: bytes | None = None
    opened_seconds: float = 0.0
    asleep: Text = ""
    recorded: Recorded | None = None
    unlogged: Text = ""


class Announce(msgspec.Struct, frozen=True, tag="announce"):
    """Monitor: write this text to the terminals of the connection `conn`; of all connections if that is empty."""

    conn: Name
    text: Text


class ShowOn(msgspec.Struct, frozen=True, tag="show-on"):
    """Monitor: write this text on those of these terminals that are the account's own (`postauth.terminals`)."""

    lines: Annotated[tuple[Line, ...], msgspec.Meta(max_length=MAX_LINES)]
    text: Text


class HangUp(msgspec.Struct, frozen=True, tag="hang-up"):
    """Monitor: the server stops, so send SIGHUP to the processes of terminals, and let the sessions end."""


class EndConnection(msgspec.Struct, frozen=True, tag="end-connection"):
    """Monitor: disconnect the client with `reason` and close the connection; all of them if `conn` is empty.

    `revoked`: because its key was revoked; then the processes of its sessions are ended, too.
    """

    conn: Name
    reason: Text
    revoked: bool = False


class Revoke(msgspec.Struct, frozen=True, tag="revoke"):
    """Monitor: open no more channels on the connection, for `reason`; None: that one is no reason any more.

    There is a reason of its own for each `cause`: its key is revoked, or the log can't be written and is required.
    """

    conn: Name
    reason: Text | None
    cause: Literal["key", "log"] = "key"


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Monitor: report what runs. Answered by `Reported`."""

    id: Number


class Signed(msgspec.Struct, frozen=True, tag="signed"):
    """Monitor: the requested signature; None: it is refused."""

    id: Number
    signature: bytes | None


class Proved(msgspec.Struct, frozen=True, tag="proved"):
    """Monitor: the answer to `hostkeys-prove`; None: it is refused."""

    id: Number
    proofs: bytes | None


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Monitor: exit, if nothing is left to do; else answer `Busy`."""


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    """Monitor: all reports up to this number are in the log, or need not be there."""

    number: Number


# -- from postauth ----------------------------------------------------------------------------------------------------

Told = (
    ConnectionClosed
    | RequestDenied
    | SessionOpened
    | SessionExited
    | SessionClosed
    | RecordingStarted
    | RecordingEnded
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
)


ReportNumber = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
"""The number of a report: an event, or a message that leads to one. A process counts its reports from 1, in the order
in which it sends them, and sends each that no monitor has said to be `Logged` to the next monitor again."""


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    """Postauth: these events have happened, in this order (`pack`); `first` is the number of the first of them.

    Their `identity` and `user` are empty: the monitor fills in those of the connection.
    """

    first: ReportNumber
    events: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1)]


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Postauth: so many events had to be dropped here. They share one number."""

    number: ReportNumber
    count: Number


AlgorithmName = Annotated[str, msgspec.Meta(max_length=64)]


class Negotiated(msgspec.Struct, frozen=True):
    """The algorithms of a connection, as `events.Algorithms` has them."""

    kex: AlgorithmName = ""
    host_key: AlgorithmName = ""
    cipher_in: AlgorithmName = ""
    cipher_out: AlgorithmName = ""
    mac_in: AlgorithmName = ""
    mac_out: AlgorithmName = ""
    compression_in: AlgorithmName = ""
    compression_out: AlgorithmName = ""


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """Postauth: the connection is served now, and its client is told that it has logged in."""

    number: ReportNumber
    conn: Name
    client: Annotated[str, msgspec.Meta(max_length=256)]
    cipher: AlgorithmName
    algorithms: Negotiated | None = None


class Crashed(msgspec.Struct, frozen=True, tag="crashed"):
    """Postauth: a bug of ours ended the connection, or something on it."""

    number: ReportNumber
    conn: Name
    text: Annotated[str, msgspec.Meta(max_length=MAX_CRASH)]


class Sign(msgspec.Struct, frozen=True, tag="sign"):
    """Postauth: sign the exchange hash of a rekey on `conn`. Answered by `Signed`."""

    id: Number
    conn: Name
    algorithm: Algorithm
    hash: Hash


class Prove(msgspec.Struct, frozen=True, tag="prove"):
    """Postauth: prove these host keys to the client of `conn`; RSA's with the algorithm `rsa`. Answered by `Proved`.

    The monitor builds what is signed, with its own session id (OpenSSH's PROTOCOL section 2.5).
    """

    id: Number
    conn: Name
    blobs: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=MAX_PROOFS)]
    rsa: Algorithm


class SessionFigures(msgspec.Struct, frozen=True):
    """The traffic and age of a session so far, and what runs in it, for a monitor that may have been started since.

    `command` is text as bytes (PEP 383), cut off if it is long.
    """

    session: Name
    bytes_in: Number
    bytes_out: Number
    seconds: float
    kind: Literal["shell", "exec", "subsystem"] = "exec"
    command: Annotated[bytes, msgspec.Meta(max_length=MAX_TEXT)] = b""
    tty: Name = ""
    pid: Number = 0


class ConnectionFigures(msgspec.Struct, frozen=True):
    """The figures of a connection so far, and what runs on it."""

    conn: Name
    bytes_in: Number
    bytes_out: Number
    counters: Counters
    sessions: tuple[SessionFigures, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for sessions of another connection."""
        for one in self.sessions:
            _check_session(one.session, self.conn)


class Reported(msgspec.Struct, frozen=True, tag="reported"):
    """Postauth: what runs. If there are too many sessions for a message, the rest is left out."""

    id: Number
    connections: tuple[ConnectionFigures, ...]


class Busy(msgspec.Struct, frozen=True, tag="busy"):
    """Postauth: it can't exit yet, because it serves connections, or the output of processes that outlived one."""


FromMonitor = (
    TakeConnection | Announce | ShowOn | HangUp | EndConnection | Revoke | Report | Signed | Proved | Leave | Logged
)
FromPostauth = Happened | Lost | Taken | Crashed | Sign | Prove | Reported | Busy

_monitor_decoder: msgspec.msgpack.Decoder[FromMonitor] = msgspec.msgpack.Decoder(FromMonitor)
_fields_decoder = msgspec.msgpack.Decoder(tuple[str, dict[str, bytes | int | float | bool | None]])
_postauth_decoder: msgspec.msgpack.Decoder[FromPostauth] = msgspec.msgpack.Decoder(FromPostauth)


def encode(message: FromMonitor | FromPostauth) -> bytes:
    """The packet for `message`; `ProtocolError` if it is too large to be sent, or has invalid text."""
    return packet_of(message)


def pack(event: Told) -> bytes:
    """An event in a packet. Clients' text may have bytes that are no UTF-8 (PEP 383), so all text is sent as bytes."""
    fields = {
        name: value.encode("utf-8", "surrogateescape") if isinstance(value := getattr(event, name), str) else value
        for name in event.__struct_fields__
        if name != "identity"
    }
    return msgspec.msgpack.encode((event.__struct_config__.tag, fields))


def unpack(packed: bytes) -> Told:
    """The event in `packed`; `ProtocolError` if there is none, or if it names a session of another connection."""
    try:
        tag, fields = _fields_decoder.decode(packed)
        text = {
            name: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            for name, value in fields.items()
        }
        event: Told = msgspec.convert(text | {"event": tag}, Told)
        if (session := getattr(event, "session", None)) is not None:
            _check_session(session, event.conn)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"bad event of a postauth process: {error}") from error
    return event


def _check_session(session: str, conn: str) -> None:
    if not is_of(session, conn):
        raise ValueError(f"{session[:MAX_NAME]!r} is no session of the connection {conn[:MAX_NAME]!r}")


def decode_from_monitor(packet: bytes) -> FromMonitor:
    """The monitor's message in `packet`."""
    return message_in(packet, _monitor_decoder, "message of the monitor")


def decode_from_postauth(packet: bytes) -> FromPostauth:
    """A postauth process's message in `packet`."""
    return message_in(packet, _postauth_decoder, "message of a postauth process")
