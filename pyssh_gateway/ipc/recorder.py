"""The messages of the recorder: what postauth processes send it, what it answers, and what the spawner orders.

One packet of a postauth process has many entries: a head (its length in four bytes, little-endian, and a MessagePack
array of entries), then the entries' data, one after the other. The data is not part of the MessagePack, so that what a
terminal shows is not copied to be sent. All other messages are as in `ipc.spawner`. The recorder trusts the sender no
more than its account: it checks all of this, and knows the account from the spawner.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from pyssh_gateway.core.recordings.names import SESSION
from pyssh_gateway.core.recordings.rules import Bounds, Kind
from pyssh_gateway.ipc.spawner import Number, ProtocolError, message_in, packet_of

MAX_ENTRIES = 512
"""Entries in one packet."""

MAX_COMMAND = 8192
"""Bytes of a command that a recording keeps: the recording shows at most 4,096 characters of it."""

MAX_TERM = 1024
MAX_BEGIN = 16 * 1024
"""Bytes of the data of an entry that begins a recording: a command, and a few names."""

_LENGTH = struct.Struct("<I")
_SIZE = struct.Struct("<HH")
_COUNT = struct.Struct("<Q")

What = Literal["begin", "output", "errors", "input", "resize", "missing", "exit", "end"]
"""`output` is standard output, or what a terminal shows; `errors` is standard error. After `end`, there are no more
entries of that recording."""


class Entry(msgspec.Struct, array_like=True):
    """Something of the recording with this number, `at` microseconds after its beginning, with `size` bytes of data.

    Mutable: entries of the same kind are joined before they are sent.
    """

    recording: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    what: What
    at: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**20)]


class Begin(msgspec.Struct, frozen=True):
    """What a recording is of. `part` is 2 or more for the rest of a session whose recorder had ended.

    `command` and `term` are text as bytes (PEP 383). The recorder knows no connections, so the session is the account's
    claim: readers of recordings compare the account with the one that the log has for the session.
    """

    session: Annotated[str, msgspec.Meta(pattern=rf"\A{SESSION.pattern}\Z")]
    part: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    kind: Kind
    command: Annotated[bytes, msgspec.Meta(max_length=MAX_COMMAND)]
    term: Annotated[bytes, msgspec.Meta(max_length=MAX_TERM)]
    columns: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    rows: Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """Recorder: the recording has begun, in this file below the directory of recordings."""

    recording: int
    file: str


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """Recorder: the recording has ended, for the reason `SESSION_ENDED` or another one, with so many bytes of data."""

    recording: int
    reason: str
    recorded: int


class RecordAccount(msgspec.Struct, frozen=True, tag="record-account"):
    """Spawner: record what the account `user` sends. Descriptor: the socket to its process.

    `id` is the number for `Misbehaved`.
    """

    id: Number
    user: str


class RecordWithin(msgspec.Struct, frozen=True, tag="record-within"):
    """Spawner: these are the bounds from now on."""

    bounds: Bounds


class Misbehaved(msgspec.Struct, frozen=True, tag="misbehaved"):
    """Recorder, to the spawner: the process on the socket of `RecordAccount` breaks the rules, and is to be ended."""

    id: Number
    reason: Annotated[str, msgspec.Meta(max_length=1024)]


FromRecorder = Opened | Closed
Order = RecordAccount | RecordWithin

_heads: msgspec.msgpack.Decoder[list[Entry]] = msgspec.msgpack.Decoder(
    Annotated[list[Entry], msgspec.Meta(max_length=MAX_ENTRIES)]
)
_beginnings: msgspec.msgpack.Decoder[Begin] = msgspec.msgpack.Decoder(Begin)
_answers: msgspec.msgpack.Decoder[FromRecorder] = msgspec.msgpack.Decoder(FromRecorder)
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_complaints: msgspec.msgpack.Decoder[Misbehaved] = msgspec.msgpack.Decoder(Misbehaved)
_encoder = msgspec.msgpack.Encoder()


def head(entries: Sequence[Entry]) -> bytes:
    """The beginning of a packet with these entries; their data follows it."""
    body = _encoder.encode(entries)
    return _LENGTH.pack(len(body)) + body


def unpack(packet: bytes) -> list[tuple[Entry, bytes]]:
    """The entries of a packet, each with its data. Raises ProtocolError."""
    if len(packet) < _LENGTH.size:
        raise ProtocolError("bad packet: it has no head")
    start = _LENGTH.size + _LENGTH.unpack_from(packet)[0]
    entries = message_in(packet[_LENGTH.size : start], _heads, "head of a packet")
    if sum(entry.size for entry in entries) != len(packet) - start:
        raise ProtocolError("bad packet: its data is not that of its entries")
    unpacked = []
    for entry in entries:
        unpacked.append((entry, packet[start : start + entry.size]))
        start += entry.size
    return unpacked


def beginning(begin: Begin) -> bytes:
    """The data of an entry that begins a recording."""
    return _encoder.encode(begin)


def beginning_in(data: bytes) -> Begin:
    """What a recording is of. Raises ProtocolError."""
    if len(data) > MAX_BEGIN:
        raise ProtocolError("bad beginning: it is too long")
    return message_in(data, _beginnings, "beginning of a recording")


def terminal_size(columns: int, rows: int) -> bytes:
    """The data of a resize."""
    return _SIZE.pack(min(max(columns, 0), 65535), min(max(rows, 0), 65535))


def terminal_size_in(data: bytes) -> tuple[int, int]:
    """Columns and rows. Raises ProtocolError."""
    try:
        columns, rows = _SIZE.unpack(data)
    except struct.error as error:
        raise ProtocolError(f"bad size of a terminal: {error}") from error
    return columns, rows


def count(number: int) -> bytes:
    """The data of an entry that is a number: how many bytes are missing, or an exit status."""
    return _COUNT.pack(number)


def count_in(data: bytes) -> int:
    """The number. Raises ProtocolError."""
    try:
        (number,) = _COUNT.unpack(data)
    except struct.error as error:
        raise ProtocolError(f"bad number: {error}") from error
    return int(number)


def encode(message: FromRecorder | Misbehaved | Order) -> bytes:
    """The packet for an answer or a complaint of the recorder, or for an order to it."""
    return packet_of(message)


def decode(packet: bytes) -> FromRecorder:
    """The recorder's answer in `packet`. Raises ProtocolError."""
    return message_in(packet, _answers, "answer of the recorder")


def decode_order(packet: bytes) -> Order:
    """The spawner's order in `packet`. Raises ProtocolError."""
    return message_in(packet, _orders, "order")


def decode_misbehaved(packet: bytes) -> Misbehaved:
    """The recorder's complaint in `packet`. Raises ProtocolError."""
    return message_in(packet, _complaints, "complaint of the recorder")
