"""Why the machine stopped the last times: a small file that outlives the stops.

It is in the directory that the monitor may write to, beside the last good keys. It explains and decides nothing, so a
damaged one is only forgotten.
"""

import contextlib
import os
from pathlib import Path

import msgspec

FILE_NAME = "stops.json"

KEPT = 20
"""Stops that are kept: some days of work, on one screen."""

MAX_TEXT = 500
"""Characters that are kept of a detail."""

_MAX_BYTES = 256 * 1024
"""More than `KEPT` of the longest entries can take, JSON's escapes included."""


class StopRecord(msgspec.Struct, frozen=True):
    """A stop. `time` and `since`, from when on the machine had been awake, are Unix time.

    `reason` is "idle" or "signal", `detail` says it for people, `action` is what was to be done ("exit", "suspend",
    "command"; always "exit" after a signal).
    """

    time: float
    since: float
    reason: str
    detail: str
    action: str


def read(directory: Path) -> tuple[StopRecord, ...]:
    """The last stops, the oldest first; none if nothing is known of any. Raises nothing but what a disk can't read."""
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
    # Only the monitor writes here, and there is one at a time; a name that a crash has left is used again.
    temporary = directory / f".{FILE_NAME}.tmp"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(stops))
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
