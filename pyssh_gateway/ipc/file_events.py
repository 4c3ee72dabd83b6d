"""The SFTP server's reports of file operations: the messages that it sends to postauth, and their framing.

One message is a 4-byte big-endian length and a MessagePack map tagged with the message's name. The sender runs as the
user, so postauth does not trust it: `decode` accepts only these types, within these sizes.
"""

import os
import select
from typing import Annotated

import msgspec

MAX_FRAME = select.PIPE_BUF
"""The largest frame, length included: a pipe takes this much either completely or not at all (pipe(7))."""

CUT_PATH = 1800
"""Bytes of a path that are kept if an event would be too long: with two such paths it is below `MAX_FRAME`."""

CUT_MARK = b"[...]"
"""Replaces the middle of a path that is cut: its beginning and the file's name are the useful parts."""

_LENGTH_BYTES = 4
_MAX_COUNT = 2**63 - 1

Path = Annotated[bytes, msgspec.Meta(max_length=MAX_FRAME)]
Flags = Annotated[str, msgspec.Meta(max_length=64, pattern="^[a-z ]*$")]
"""How a file was opened, in words: read, write, append, create, truncate, exclusive."""

Outcome = Annotated[str, msgspec.Meta(max_length=32, pattern="^[A-Za-z0-9]+$")]
"""`ok`, the name of the error (ENOENT), or `unfinished`: the client disconnected without closing the file."""

Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_COUNT)]
Which = Annotated[str, msgspec.Meta(max_length=8, pattern="^[a-z]+$")]


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """An operation on a file. Paths are absolute, as the client wrote them; `cut`: one of them was shortened."""

    outcome: Outcome
    cut: bool = False


class FileClosed(_Event, frozen=True, kw_only=True, tag="file.closed"):
    """An open file was closed. `outcome` is the first error of reading or writing it."""

    path: Path
    flags: Flags
    bytes_read: Count
    bytes_written: Count


class FileOpenFailed(_Event, frozen=True, kw_only=True, tag="file.open_failed"):
    """A file could not be opened, and why."""

    path: Path
    flags: Flags


class FileRemoved(_Event, frozen=True, kw_only=True, tag="file.removed"):
    """A file was unlinked, or could not be."""

    path: Path


class FileRenamed(_Event, frozen=True, kw_only=True, tag="file.renamed"):
    """A file or directory got a new name, or could not get it."""

    source: Path
    target: Path


class DirectoryMade(_Event, frozen=True, kw_only=True, tag="directory.made"):
    """A directory was made, or could not be."""

    path: Path


class DirectoryRemoved(_Event, frozen=True, kw_only=True, tag="directory.removed"):
    """A directory was removed, or could not be."""

    path: Path


class LinkMade(_Event, frozen=True, kw_only=True, tag="link.made"):
    """A link was made at `path`, or could not be. A symbolic link's `target` is its text, as the client sent it."""

    path: Path
    target: Path
    symbolic: bool


class AttributesSet(_Event, frozen=True, kw_only=True, tag="attributes.set"):
    """Attributes were set, or could not be. `which` names those of size, mode, times and owner."""

    path: Path
    which: Annotated[tuple[Which, ...], msgspec.Meta(max_length=4)]


class EventsLost(msgspec.Struct, frozen=True, tag_field="event", tag="events.lost"):
    """Postauth did not read fast enough: this many events before this one were dropped."""

    count: Count


FileEvent = (
    FileClosed
    | FileOpenFailed
    | FileRemoved
    | FileRenamed
    | DirectoryMade
    | DirectoryRemoved
    | LinkMade
    | AttributesSet
    | EventsLost
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FileEvent)


class EventError(Exception):
    """The stream holds bytes that are no event. The start of the next event can't be found: stop reading the stream."""


def encode(event: FileEvent) -> bytes:
    """The frame for `event`, never over `MAX_FRAME`: paths that are too long lose their middle, and `cut` says so."""
    body = _encoder.encode(event)
    if _LENGTH_BYTES + len(body) > MAX_FRAME:
        paths = {
            name: _shortened(value)
            for name in event.__struct_fields__
            if isinstance(value := getattr(event, name), bytes)
        }
        body = _encoder.encode(msgspec.structs.replace(event, **paths, cut=True))
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def decode(buffer: bytes) -> tuple[list[FileEvent], bytes]:
    """The complete events at the start of `buffer`, and the incomplete rest, of less than `MAX_FRAME` bytes.

    Raises `EventError` as soon as the bytes can't be the start of a valid stream.
    """
    events: list[FileEvent] = []
    at = 0
    while len(buffer) - at >= _LENGTH_BYTES:
        length = int.from_bytes(buffer[at : at + _LENGTH_BYTES], "big")
        if not 0 < length <= MAX_FRAME - _LENGTH_BYTES:
            raise EventError(f"a file event of {length} bytes; 1 to {MAX_FRAME - _LENGTH_BYTES} are possible")
        end = at + _LENGTH_BYTES + length
        if end > len(buffer):
            break
        try:
            events.append(_decoder.decode(buffer[at + _LENGTH_BYTES : end]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise EventError(f"not a file event: {error}") from error
        at = end
    return events, buffer[at:]


class EventSender:
    """Writes events to the pipe `descriptor` and never waits for it: the transfer matters more than its record.

    Events that the pipe has no room for are counted, and the count is sent before the next event that fits.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lost = 0

    def send(self, event: FileEvent) -> None:
        """Send `event`, or count it as lost."""
        if not (self._report_lost() and self._written(encode(event))):
            self._lost += 1

    def finish(self) -> None:
        """Say how many events were lost at the end, if there is room for that now."""
        self._report_lost()

    def _report_lost(self) -> bool:
        if self._lost and self._written(encode(EventsLost(self._lost))):
            self._lost = 0
        return not self._lost

    def _written(self, frame: bytes) -> bool:
        """Write the frame; returns whether the pipe took it, which it does completely or not at all."""
        try:
            os.write(self._descriptor, frame)
        except OSError:  # no room, or postauth is gone: the files are served in spite of it
            return False
        return True


def _shortened(path: bytes) -> bytes:
    if len(path) <= CUT_PATH:
        return path
    half = (CUT_PATH - len(CUT_MARK)) // 2
    return path[:half] + CUT_MARK + path[-half:]
