"""The messages between the gateway and the spawner, and how descriptors travel with them.

One message is one packet of a `SOCK_SEQPACKET` socket pair: a MessagePack map, tagged with the message's name and
checked against its type when it arrives, so that nothing but these shapes gets past `decode`. Descriptors ride along
with SCM_RIGHTS (unix(7)). The gateway asks; the spawner answers each request once, by its `id`, and reports exits and
what happens at boot and to services, which the gateway puts into its log.
"""

import array
import os
import socket
from typing import Annotated, Literal

import msgspec

from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.events import BootStep, ServiceEnded, ServiceOutput, ServiceStarted

MAX_MESSAGE = 256 * 1024
"""The largest message in bytes. execve(2) takes no argument over 128 KiB, so a longer command could not run anyway; the
rest is for an environment. An unprivileged socket buffer (net.core.wmem_max, 208 KiB, doubled) holds it."""

MAX_DESCRIPTORS = 4
"""No message carries more than a process's standard input, output and error, and one of ours."""

_DESCRIPTOR_BYTES = array.array("i").itemsize

SOCKET_BUFFER = 2 * MAX_MESSAGE
"""Asked of the kernel for both ends; a send that finds no room waits for the other side."""


Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A request's id. The spawner does not count with it."""

SignalNumber = Annotated[int, msgspec.Meta(ge=1, le=64)]
"""A signal (signal(7)): up to SIGRTMAX. 0 is none."""


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Gateway: start this process. Answered by `Spawned` with descriptors, or by `Refused`."""

    id: Number
    plan: LaunchPlan


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Gateway: send `number` to the process group that was started by request `id`, with its account's rights."""

    id: Number
    number: SignalNumber


class ReadKeys(msgspec.Struct, frozen=True, tag="read-keys"):
    """Gateway: open `path`, a key file that the configuration names. Answered by `KeysOpened` or `Refused`."""

    id: Number
    path: str


class MakeSockets(msgspec.Struct, frozen=True, tag="make-sockets"):
    """Gateway: start the process that makes sockets as `user`, see `socket_protocol`. Answered as `Spawn` is."""

    id: Number
    user: str


class RunHook(msgspec.Struct, frozen=True, tag="run-hook"):
    """Gateway: run the command `index` of those that the configuration has for a stop. Answered as `Spawn` is."""

    id: Number
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Suspend(msgspec.Struct, frozen=True, tag="suspend"):
    """Gateway: ask the platform to suspend the machine. Answered as `Spawn` is."""

    id: Number


class SampleActivity(msgspec.Struct, frozen=True, tag="sample-activity"):
    """Gateway: see what the processes of sessions have used, those included that outlived theirs. See `Activity`."""

    id: Number


class AwaitAccount(msgspec.Struct, frozen=True, tag="await-account"):
    """Gateway: say when `user`, which may be about to be made, is as it will be. Answered by `Done` or `Refused`."""

    id: Number
    user: str


SOCKET_PATIENCE_SECONDS = 60.0
"""How long the spawner tries to have a socket that another server has. A gateway without its spawner closes its sockets
at once, so what is still taken then belongs to a server that is meant to run."""

SocketName = Literal["control", "metrics"]


class AwaitSocket(msgspec.Struct, frozen=True, tag="await-socket"):
    """Gateway: pass the listening socket `name` when it can be had, which another server had at the start.

    Answered by `SocketBound` or `Refused`.
    """

    id: Number
    name: SocketName


class StopServices(msgspec.Struct, frozen=True, tag="stop-services"):
    """Gateway: nobody needs the services any more. Answered by `Done` when the last of them has ended."""

    id: Number


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Gateway: somebody has sent it the signal that is meant for the spawner: read the configuration again."""

    id: Number


class TakeConfig(msgspec.Struct, frozen=True, tag="take-config"):
    """Gateway: what came of reading it last? Answered by `Opened`, a file with a `reload.Reread`, or by `Refused`."""

    id: Number


class OpenLog(msgspec.Struct, frozen=True, tag="open-log"):
    """Gateway: open the log anew, where the configuration has it. Answered by `Opened` or `Refused`."""

    id: Number


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    """Spawner: it runs.

    Descriptors: the pty's master; or the pipes of standard input, output and error, for a built-in one followed by that
    of its events; or the socket of a maker of sockets; or the pipe of what a step of a stop writes.
    """

    id: int
    pid: int
    tty: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Spawner: it can't be done, and why. `missing`: because there is no such file."""

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
    """Spawner: it can be had now. Descriptor: the listening socket."""

    id: int


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """Spawner: here it is. Descriptor: what was asked for."""

    id: int


class Reread(msgspec.Struct, frozen=True, tag="reread"):
    """Spawner: the configuration has been read again; `TakeConfig` tells what came of it. Answers nothing."""


class Activity(msgspec.Struct, frozen=True, tag="activity"):
    """Spawner: what they have used so far."""

    id: int
    sample: Sample


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Spawner: what was asked for is done."""

    id: int


ServiceEvent = ServiceStarted | ServiceEnded | ServiceOutput
SpawnerEvent = BootStep | ServiceEvent


class News(msgspec.Struct, frozen=True, tag="news"):
    """Spawner: this has happened, in this order. Answers nothing."""

    events: tuple[SpawnerEvent, ...]


Request = (
    Spawn
    | MakeSockets
    | Signal
    | ReadKeys
    | RunHook
    | Suspend
    | SampleActivity
    | AwaitAccount
    | AwaitSocket
    | StopServices
    | Reload
    | TakeConfig
    | OpenLog
)
Report = Spawned | Refused | Exited | KeysOpened | SocketBound | Opened | Activity | Done | News | Reread

_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_report_decoder = msgspec.msgpack.Decoder(Report)


class ProtocolError(Exception):
    """The other side sent something that is none of the messages above."""


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


def encode(message: Request | Report) -> bytes:
    """The packet for `message`; `ProtocolError` if it is too large to be sent."""
    packet = _encoder.encode(message)
    if len(packet) > MAX_MESSAGE:
        raise ProtocolError(f"message of {len(packet)} bytes is over the limit of {MAX_MESSAGE}")
    return packet


def decode_request(packet: bytes) -> Request:
    """The request in `packet`."""
    try:
        request: Request = _request_decoder.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad request: {error}") from error
    return request


def decode_report(packet: bytes) -> Report:
    """The report in `packet`."""
    try:
        report: Report = _report_decoder.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad report: {error}") from error
    return report


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors, all close-on-exec; an empty packet means that the other side is gone."""
    # Not socket.recv_fds, which does not pass its flags on.
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


def close_all(descriptors: list[int]) -> None:
    """Close every one of `descriptors`."""
    for descriptor in descriptors:
        os.close(descriptor)
