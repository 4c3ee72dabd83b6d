"""Recordings on disk: what is in them, also while they are being written; and packets for the recorder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyssh_gateway.audit.zstd import ZstdDecompressor
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.recorder import Begin, Entry, What


class Cast:
    """A recording: its header, events as [time since the one before, code, data], and comments."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = _text(path).removesuffix("\n").split("\n")
        self.header: dict[str, Any] = json.loads(lines[0])
        self.comments = [line[2:] for line in lines[1:] if line.startswith("#")]
        self.events: list[Any] = [json.loads(line) for line in lines[1:] if not line.startswith("#")]

    def data(self, code: str) -> list[str]:
        """The data of the events with that code."""
        return [event[2] for event in self.events if event[1] == code]

    @property
    def shown(self) -> str:
        """All output, in order."""
        return "".join(self.data("o"))


def casts(directory: Path) -> list[Cast]:
    """The recordings below a directory that have a header already, by name."""
    return [Cast(path) for path in sorted(directory.rglob("*.cast.zst")) if "\n" in _text(path)]


def _text(path: Path) -> str:
    """What can be read of a recording. The last line, of a file that is being written, may be cut off."""
    data = b"".join(_frames(path.read_bytes()))
    return data[: data.rfind(b"\n") + 1].decode()


def _frames(data: bytes) -> Iterator[bytes]:
    while data:
        frame = ZstdDecompressor()
        yield frame.decompress(data)
        data = frame.unused_data


def packet(*entries: tuple[int, What, int, bytes]) -> bytes:
    """A packet of (number, what, microseconds, data)."""
    heads = [Entry(number, what, at, len(data)) for number, what, at, data in entries]
    return messages.head(heads) + b"".join(data for _, _, _, data in entries)


def beginning(session: str = "c1.1", *, part: int = 1, command: bytes = b"") -> bytes:
    """The data of an entry that begins a recording of a shell."""
    return messages.beginning(Begin(session, part, "shell", command, b"xterm", 80, 24))
