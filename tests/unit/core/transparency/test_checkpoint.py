"""Checkpoints: a real one of a public log, our own, and what must not be taken for one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pyssh_gateway.core.transparency import checkpoint, signed_note
from pyssh_gateway.core.transparency.checkpoint import Checkpoint, log_key
from pyssh_gateway.core.transparency.merkle import EMPTY_ROOT
from pyssh_gateway.core.transparency.signed_note import Note, NoteError, parse, parse_key
from tests.support.notes import verify

# Go's checksum database; its key is in every Go toolchain.
GO_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_NOTE = """\
go.sum database tree
15081221
BoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=

— sum.golang.org Az3grilD7vQqTrv66jRgKM84Y80KTprrSt4bKmiOPxgmS5ZVBTeCl6dUvjYnN13R+C8j0jGY1WnUADGMkok3U0m2Zgo=
"""


def test_a_checkpoint_of_go() -> None:
    """A checkpoint of the largest public log is read, and its signature verified."""
    note, key = parse(GO_NOTE), parse_key(GO_KEY)
    assert signed_note.verified_by(note, [key], verify) == key
    read = checkpoint.of_note(note)
    assert (read.origin, read.size, read.root.hex()[:8]) == ("go.sum database tree", 15081221, "06830c7b")
    assert read.text == note.text


def test_our_own() -> None:
    """The key gives the log its name, which is the same at every start."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = log_key(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    assert key.name == "pyssh-gateway/139e3940"
    note = parse(checkpoint.signed(0, EMPTY_ROOT, key, private.sign))
    assert signed_note.verified_by(note, [parse_key(key.text)], verify) == key
    assert checkpoint.of_note(note) == Checkpoint(key.name, 0, EMPTY_ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "log\n1\n",
        "log\n\nBoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=\n",
        "log\n01\nBoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=\n",
        "log\n-1\nBoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=\n",
        "log\n1\nBoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=\n\n",
        "log\n1\nBoMM\n",
        "log\n1\n!\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    """Other signed notes are none."""
    with pytest.raises(NoteError):
        checkpoint.of_note(Note(text, ()))


def test_extension_lines() -> None:
    """More lines are allowed and mean nothing."""
    assert checkpoint.of_note(parse(GO_NOTE.replace("\n\n", "\nmore\n\n"))).size == 15081221
