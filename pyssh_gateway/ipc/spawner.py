"""The messages between the spawner and its two kinds of clients, and how descriptors are sent with them.

One message is one packet of a `SOCK_SEQPACKET` socket pair: a MessagePack map, tagged with the message's name and
checked against its type when it arrives, so that the decoders accept only these types. Descriptors are sent along by
SCM_RIGHTS (unix(7)). The monitor and each postauth process have a socket of their own, and may send only the requests
in `MonitorRequest` or `PostauthRequest`. The spawner answers each request once, by its `id`, and reports exits. It also
reports to the monitor what happens at boot and to services, for the log.
"""

import array
import socket
from typing import Annotated, Literal, TypeVar

import msgspec

from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.warnings import MAX_NAME, MAX_PEOPLE
from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.events import BootStep, ServiceEnded, ServiceOutput, ServiceStarted
from pyssh_gateway.ipc import log_files
from pyssh_gateway.system.descriptors import close_all

MAX_MESSAGE = 256 * 1024
"""The largest message in bytes. execve(2) takes no argument over 128 KiB, so a longer command could not run anyway; the
rest is for an environment. An unprivileged socket buffer (net.core.wmem_max, 208 KiB, doubled) holds it."""

MAX_DESCRIPTORS = 4
"""No message carries more than a process's standard input, output and error, and one of ours."""

_DESCRIPTOR_BYTES = array.array("i").itemsize

SOCKET_BUFFER = 2 * MAX_MESSAGE
"""The buffer size of both ends; a send without room in it waits for the other side."""


Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A request's id. The spawner only returns it."""


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Postauth: start this process, as its own account. Answered by `Spawned` with descriptors, or by `Refused`."""

    id: Number
    plan: LaunchPlan


class StartPreauth(msgspec.Struct, frozen=True, tag="start-preauth"):
    """Monitor: start a preauth process for one client. Answered by `Spawned`, whose descriptor is the socket to it."""

    id: Number


class StartPostauth(msgspec.Struct, frozen=True, tag="start-postauth"):
    """Monitor: start the process that serves the connections of `user`, as that account. Answered as `StartPreauth`.

    There is at most one for each account; `Exited` reports its end.
    """

    id: Number
    user: str


class BeAccount(msgspec.Struct, frozen=True, tag="be-account"):
    """Spawner, to a process that it has forked: become the postauth process of this account, for good.

    Descriptors: the sockets to the monitor and to the spawner.
    """

    name: str
    uid: int
    gid: int


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """Monitor: kill what was started by request `process`: a preauth or postauth process, or a hook. Not answered."""

    id: Number
    process: Number


class ReadKeys(msgspec.Struct, frozen=True, tag="read-keys"):
    """Monitor: open `path`, a key file that the configuration names. Answered by `KeysOpened` or `Refused`."""

    id: Number
    path: str


class RunHook(msgspec.Struct, frozen=True, tag="run-hook"):
    """Monitor: run the command `index` of the configuration's commands for a stop. Answered as `Spawn` is."""

    id: Number
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class RunWarning(msgspec.Struct, frozen=True, tag="run-warning"):
    """Monitor: run the entry `index` of `stop.warn`, a command: the machine stops in `seconds`, if nothing happens.

    `people` are on, but have not used their clients. Answered as `Spawn` is.
    """

    id: Number
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    seconds: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    people: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=MAX_NAME)], ...], msgspec.Meta(max_length=MAX_PEOPLE)
    ] = ()


class Suspend(msgspec.Struct, frozen=True, tag="suspend"):
    """Monitor: ask the platform to suspend the machine. Answered as `Spawn` is."""

    id: Number


class SampleActivity(msgspec.Struct, frozen=True, tag="sample-activity"):
    """Monitor: measure what the processes of sessions have used, with those that outlived a session. See `Activity`."""

    id: Number


class AwaitAccount(msgspec.Struct, frozen=True, tag="await-account"):
    """Monitor: answer when the account `user`, which may still have to be made at boot, is complete.

    Answered by `AccountReady` or `Refused`.
    """

    id: Number
    user: str


SOCKET_PATIENCE_SECONDS = 60.0
"""How long the spawner tries to get a socket that another server holds. A monitor without its spawner closes its
sockets at once, so a socket that is still taken then belongs to a server that is meant to run."""

SocketName = Literal["control", "metrics"]


class AwaitSocket(msgspec.Struct, frozen=True, tag="await-socket"):
    """Monitor: send the listening socket `name`, which another server held at the start, when it is free.

    Answered by `SocketBound` or `Refused`.
    """

    id: Number
    name: SocketName


class StopServices(msgspec.Struct, frozen=True, tag="stop-services"):
    """Monitor: stop the services. Answered by `Done` when the last of them has ended."""

    id: Number


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Monitor: read the configuration again, because the monitor got the signal for that, which was meant for you."""

    id: Number


class TakeConfig(msgspec.Struct, frozen=True, tag="take-config"):
    """Monitor: send the outcome of the last reload. Answered by `Opened` (with a `reread.Reread`) or `Refused`."""

    id: Number


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    """Spawner: the process runs.

    Descriptors: the pty's master; or the pipes of standard input, output and error, followed by that of its events for
    a built-in program; or the socket to a preauth or postauth process; or the output pipe of a step of a stop.
    """

    id: int
    pid: int
    tty: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Spawner: the request can't be done, and why. `missing`: because there is no such file."""

    id: int
    reason: str
    missing: bool = False


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """Spawner: the process started by request `id` was reaped. One of `status` and `signal` is set."""

    id: int
    status: int | None
    signal: int | None
    core_dumped: bool


class KeysOpened(msgspec.Struct, frozen=True, tag="keys-opened"):
    """Spawner: the file is open for reading. Descriptor: the file."""

    id: int


class SocketBound(msgspec.Struct, frozen=True, tag="socket-bound"):
    """Spawner: the socket is free now. Descriptor: the listening socket."""

    id: int


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """Spawner: the file was opened. Descriptor: the requested file; for the log, perhaps that of its state."""

    id: int


class Reread(msgspec.Struct, frozen=True, tag="reread"):
    """Spawner: the configuration has been read again; `TakeConfig` gets the outcome. Answers no request."""


class Activity(msgspec.Struct, frozen=True, tag="activity"):
    """Spawner: what the processes of sessions have used so far."""

    id: int
    sample: Sample


class AccountReady(msgspec.Struct, frozen=True, tag="account-ready"):
    """Spawner: the account exists. `closed`: why it may not be used at present, in whole lines; empty if it may."""

    id: int
    closed: bytes = b""


class TakeOver(msgspec.Struct, frozen=True, tag="take-over"):
    """Spawner, to a monitor that replaces an earlier one: this postauth process runs. Descriptor: a new socket to it.

    `id` is the request that started it, for `Kill` and `Exited`; the new monitor's numbers begin above all of them.
    """

    id: int
    user: str
    pid: int


class NewMonitor(msgspec.Struct, frozen=True, tag="new-monitor"):
    """Spawner, to a postauth process: there is a new monitor. Descriptor: the socket to it."""


class NewRecorder(msgspec.Struct, frozen=True, tag="new-recorder"):
    """Spawner, to a postauth process: there is a recorder, or another one. Descriptor: the socket to it."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Spawner: the request is done."""

    id: int


ServiceEvent = ServiceStarted | ServiceEnded | ServiceOutput
SpawnerEvent = BootStep | ServiceEvent


class News(msgspec.Struct, frozen=True, tag="news"):
    """Spawner: these events have happened, in this order. Answers no request."""

    events: tuple[SpawnerEvent, ...]


MonitorRequest = (
    StartPreauth
    | StartPostauth
    | Kill
    | ReadKeys
    | RunHook
    | RunWarning
    | Suspend
    | SampleActivity
    | AwaitAccount
    | AwaitSocket
    | StopServices
    | Reload
    | TakeConfig
    | log_files.Request
)
PostauthRequest = Spawn
Request = MonitorRequest | PostauthRequest

MonitorReport = (
    Spawned
    | Refused
    | Exited
    | KeysOpened
    | SocketBound
    | Opened
    | Activity
    | AccountReady
    | TakeOver
    | Done
    | News
    | Reread
)
PostauthReport = Spawned | Refused | Exited | NewMonitor | NewRecorder
Report = MonitorReport | PostauthReport

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()
_monitor_decoder: msgspec.msgpack.Decoder[MonitorRequest] = msgspec.msgpack.Decoder(MonitorRequest)
_postauth_decoder: msgspec.msgpack.Decoder[PostauthRequest] = msgspec.msgpack.Decoder(PostauthRequest)
_account_decoder: msgspec.msgpack.Decoder[BeAccount] = msgspec.msgpack.Decoder(BeAccount)
_report_decoder: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


class ProtocolError(Exception):
    """The other side sent something else than one of the messages above."""


class DescriptorsLost(Exception):
    """A message came without its descriptors: this process has none left to take them with."""

    def __init__(self, packet: bytes) -> None:
        super().__init__("no descriptors are left")
        self.packet = packet


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection; which side gets which does not matter."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    return ends


def packet_of(message: msgspec.Struct) -> bytes:
    """The packet for a message of any two processes; `ProtocolError` if it is too large, or has invalid text."""
    try:
        packet = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise ProtocolError(f"not text: {error}") from error
    if len(packet) > MAX_MESSAGE:
        raise ProtocolError(f"message of {len(packet)} bytes is over the limit of {MAX_MESSAGE}")
    return packet


def message_in(packet: bytes, decoder: msgspec.msgpack.Decoder[Message], what: str) -> Message:
    """The message in `packet`; `decoder` knows what its sender may send. `ProtocolError`: it is a bad `what`."""
    try:
        return decoder.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad {what}: {error}") from error


def encode(message: Request | Report | BeAccount) -> bytes:
    """The packet for `message`; `ProtocolError` if it can't be sent."""
    return packet_of(message)


def decode_monitor_request(packet: bytes) -> MonitorRequest:
    """The request in `packet`, which the monitor has sent."""
    return message_in(packet, _monitor_decoder, "request")


def decode_postauth_request(packet: bytes) -> PostauthRequest:
    """The request in `packet`, which a postauth process has sent."""
    return message_in(packet, _postauth_decoder, "request")


def decode_account(packet: bytes) -> BeAccount:
    """The account in `packet`, which the spawner has sent to a process that has none yet."""
    return message_in(packet, _account_decoder, "account")


def decode_report(packet: bytes) -> Report:
    """The report in `packet`."""
    return message_in(packet, _report_decoder, "report")


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors, all close-on-exec; an empty packet means that the other side is gone."""
    # Not by socket.recv_fds, which ignores its flags.
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * _DESCRIPTOR_BYTES)
    packet, ancillary, flags, _ = end.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
    descriptors = list(numbers)
    if flags & socket.MSG_TRUNC or (flags & socket.MSG_CTRUNC and len(descriptors) >= MAX_DESCRIPTORS):
        close_all(descriptors)
        raise ProtocolError("message was cut off")
    if flags & socket.MSG_CTRUNC:
        close_all(descriptors)
        raise DescriptorsLost(packet)
    return packet, descriptors
