"""The reasons for the machine's last stops, in a small file that outlives them.

It is in the directory that the monitor may write to, beside the last good keys. It only explains, and no decision
depends on it, so a damaged file is ignored.
"""

import contextlib
import os
from pathlib import Path

import msgspec

FILE_NAME = "stops.json"

KEPT = 20
"""How many stops are kept: a few days of work, and they fit on one screen."""

MAX_TEXT = 500
"""How many characters of a `detail` are kept."""

_MAX_BYTES = 256 * 1024
"""More than `KEPT` of the longest entries can take, JSON's escapes included."""


class StopRecord(msgspec.Struct, frozen=True):
    """A stop at the Unix time `time`, of a machine that had been awake since the Unix time `since`.

    `reason` is "idle" or "signal", `detail` explains it to people, `action` is what was to be done ("exit", "suspend",
    "command"; always "exit" after a signal).
    """

    time: float
    since: float
    reason: str
    detail: str
    action: str


def read(directory: Path) -> tuple[StopRecord, ...]:
    """The last stops, the oldest first; empty if none is known. Raises OSError only if the open file can't be read."""
    try:
        descriptor = os.open(directory / FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ()
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        return tuple(msgspec.json.decode(data, type=list[StopRecord])[-KEPT:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def append(directory: Path, stop: StopRecord) -> None:
    """Add `stop`, durably, and forget the oldest. Raises OSError."""
    short = msgspec.structs.replace(stop, detail=stop.detail[:MAX_TEXT].encode("utf-8", "replace").decode())
    stops = (*read(directory), short)[-KEPT:]
    path = directory / FILE_NAME
    # Only the monitor writes here, and only one runs at a time, so a temporary file that a crash left behind is
    # replaced.
    temporary = directory / f".{FILE_NAME}.tmp"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(stops))
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
