"""Checkpoints, as in https://c2sp.org/tlog-checkpoint: what a log was at one time, as the text of a signed note."""

import binascii
import re
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from pyssh_gateway.core.transparency import signed_note
from pyssh_gateway.core.transparency.merkle import HASH_BYTES
from pyssh_gateway.core.transparency.signed_note import Note, NoteError, VerifierKey

PRODUCT = "pyssh-gateway"

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_LINES = 3


class Checkpoint(NamedTuple):
    """The first `size` lines of the log `origin` have this `root`."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{binascii.b2a_base64(self.root, newline=False).decode()}\n"


def log_key(public: bytes) -> VerifierKey:
    """The key of a log with this public key, which gives the log its name, too."""
    return VerifierKey(f"{PRODUCT}/{sha256(public).hexdigest()[:8]}", public)


def signed(size: int, root: bytes, key: VerifierKey, signer: Callable[[bytes], bytes]) -> str:
    """The signed note that the log of `key` has this root; `signer` signs bytes with the private half of the key."""
    return signed_note.sign(Checkpoint(key.name, size, root).text, key, signer)


def of_note(note: Note) -> Checkpoint:
    """What the note says, whoever has signed it. Raises NoteError."""
    lines = note.text.split("\n")[:-1]
    if len(lines) < _LINES or "" in lines:
        raise NoteError("it is no checkpoint: it has too few lines")
    origin, size, encoded = lines[:_LINES]
    if not _SIZE.fullmatch(size):
        raise NoteError("it is no checkpoint: its second line is no number of lines")
    root = signed_note.decode(encoded, "its root")
    if len(root) != HASH_BYTES:
        raise NoteError("it is no checkpoint: its root is no SHA-256")
    return Checkpoint(origin, int(size), root)
