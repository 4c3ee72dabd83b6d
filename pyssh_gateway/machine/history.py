"""The reasons for the machine's last stops, in a small file that outlives them.

It is in the directory that the monitor may write to, beside the last good keys. It only explains, and no decision
depends on it, so a damaged file is ignored.
"""

from pathlib import Path

import msgspec

from pyssh_gateway.machine import state_file

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
    "command"; always "exit" after a signal). `woken_by` is the address of the client that had woken the machine, empty
    if none had; `for_nobody`: nothing had kept it up since. Files of earlier versions have neither.
    """

    time: float
    since: float
    reason: str
    detail: str
    action: str
    woken_by: str = ""
    for_nobody: bool = False


def read(directory: Path) -> tuple[StopRecord, ...]:
    """The last stops, the oldest first; empty if none is known. Raises OSError only if the open file can't be read."""
    data = state_file.read(directory / FILE_NAME, _MAX_BYTES)
    try:
        return tuple(msgspec.json.decode(data, type=list[StopRecord])[-KEPT:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def append(directory: Path, stop: StopRecord) -> None:
    """Add `stop`, durably, and forget the oldest. Raises OSError."""
    short = msgspec.structs.replace(stop, detail=stop.detail[:MAX_TEXT].encode("utf-8", "replace").decode())
    stops = (*read(directory), short)[-KEPT:]
    state_file.replace(directory / FILE_NAME, msgspec.json.encode(stops))
