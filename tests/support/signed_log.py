"""A log with checkpoints in several files, as a server would have written it: made in a moment, for tests of proofs."""

import json
import shutil
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.log_file import FILE_NAME, sealed_name
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME, EVENT, KEY_NAME, sealed_checkpoints_name
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.core.transparency import checkpoint
from tests.support.written_log import MONDAY


def log_line(seq: int, *, user: str = "amos") -> bytes:
    """A line of the log, with its newline."""
    fields = {"ts": timestamp(MONDAY + seq), "seq": seq, "event": "client.quiet", "conn": f"c{seq}", "user": user}
    return msgspec.json.encode(fields) + b"\n"


def checkpoint_line(note: str, seconds: int = 0) -> bytes:
    """The line with a checkpoint, written at that time, with its newline."""
    return msgspec.json.encode({"ts": timestamp(MONDAY + seconds), "event": EVENT, "note": note}) + b"\n"


class SignedLog:
    """Writes a log into a directory. `collected` are the lines with checkpoints that standard output has had."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = checkpoint.log_key(public)
        self.tree = Tree()
        self.collected: list[bytes] = []
        self._first = 0
        directory.mkdir(exist_ok=True)
        (directory / KEY_NAME).write_text(f"{self.key.text}\n")

    def write(self, count: int = 1) -> None:
        """Write so many lines."""
        with (self.directory / FILE_NAME).open("ab") as file:
            for _ in range(count):
                line = log_line(self.tree.size + 1)
                file.write(line)
                self.tree.append(line[:-1])

    def sign(self) -> str:
        """Sign a checkpoint of all lines; returns the note."""
        note = self.note(self.tree)
        line = checkpoint_line(note, len(self.collected))
        with (self.directory / CHECKPOINTS_NAME).open("ab") as file:
            file.write(line)
        self.collected.append(line)
        return note

    def note(self, tree: Tree) -> str:
        """A signed note that this is the log's tree."""
        return checkpoint.signed(tree.size, tree.root(), self.key, self._private.sign)

    def rotate(self, *, compressed: bool = True) -> None:
        """Close the file, and begin another one."""
        plain = self.directory / sealed_name(self._first, compressed=False)
        (self.directory / FILE_NAME).rename(plain)
        if compressed:
            (self.directory / sealed_name(self._first, compressed=True)).write_bytes(packed(plain.read_bytes()))
            plain.unlink()
        if (self.directory / CHECKPOINTS_NAME).exists():
            (self.directory / CHECKPOINTS_NAME).rename(self.directory / sealed_checkpoints_name(self._first))
        self._first = self.tree.size
        header = headers.encode(Header(self.tree.size, self.tree.range()))
        (self.directory / FILE_NAME).write_bytes(header + b"\n")

    def files(self) -> list[Path]:
        """The log's files, oldest first."""
        return [*sorted(self.directory.glob("events-*")), self.directory / FILE_NAME]

    def copy(self, to: Path) -> Path:
        """A copy of the directory."""
        shutil.copytree(self.directory, to, dirs_exist_ok=True)
        return to


def notes(lines: list[bytes]) -> list[str]:
    """The signed notes in lines with checkpoints."""
    return [json.loads(line)["note"] for line in lines]


def packed(data: bytes) -> bytes:
    """Compressed as a closed file is."""
    packer = ZstdCompressor()
    return packer.compress(data) + packer.flush()
