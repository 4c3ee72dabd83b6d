"""The messages between the gateway and the process that makes sockets for one account, and their framing.

The same shape as `protocol`, over a socket pair of its own: the spawner forks that process and passes one end to the
gateway; what they say to each other does not go through the spawner. Every request is answered once, by its `id`.
"""

from typing import Literal

import msgspec

from pyssh_gateway.ipc.spawner import ProtocolError

MAX_MESSAGE = 64 * 1024
"""The largest message: a path or host name and a little more."""

MAX_DESCRIPTORS = 2
"""A listener has one socket for each address family."""

Failure = Literal["refused", "unreachable", "unresolvable", "timeout", "denied", "failed"]


class ConnectTcp(msgspec.Struct, frozen=True, tag="connect-tcp"):
    """Connect to a host (a name or an address) and port. Answered by `Connected` or `Failed`."""

    id: int
    host: str
    port: int


class ConnectUnix(msgspec.Struct, frozen=True, tag="connect-unix"):
    """Connect to the unix socket at `path`."""

    id: int
    path: bytes


class ListenTcp(msgspec.Struct, frozen=True, tag="listen-tcp"):
    """Listen on `port` (0: any, but the same) of each of `addresses`; one that works is enough. -> `Listening`.

    `alone`: not if somebody else has the port on any of them, who could pass for us there.
    """

    id: int
    addresses: tuple[str, ...]
    port: int
    alone: bool = False


class ListenUnix(msgspec.Struct, frozen=True, tag="listen-unix"):
    """Listen on a unix socket at `path`, made under `mask`; `unlink`: in the place of a socket that is there."""

    id: int
    path: bytes
    mask: int
    unlink: bool


class ListenAgent(msgspec.Struct, frozen=True, tag="listen-agent"):
    """Listen on a unix socket in a new directory that only the account can enter, as sshd does for an agent."""

    id: int


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """Remove the socket file that request `id` made. Not answered."""

    id: int


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """Descriptor: the connected socket."""

    id: int


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """Descriptors: the listening sockets. `port` or `path` says where."""

    id: int
    port: int
    path: bytes


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It did not work; `reason` is for the client's eyes, too."""

    id: int
    failure: Failure
    reason: str


Request = ConnectTcp | ConnectUnix | ListenTcp | ListenUnix | ListenAgent | Forget
Report = Connected | Listening | Failed

_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_report_decoder = msgspec.msgpack.Decoder(Report)


def encode(message: Request | Report) -> bytes:
    """The packet for `message`; `ProtocolError` if it is too large to be sent."""
    try:
        packet = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise ProtocolError(f"not text: {error}") from error
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
