"""Signed notes, as in https://c2sp.org/signed-note: a text, and below it the signatures of those who vouch for it.

Only Ed25519 is used. The functions that sign and verify bytes are the caller's.
"""

import binascii
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import NamedTuple

ED25519 = 1
"""The identifier of Ed25519 signatures."""

KEY_BYTES = 32
SIGNATURE_BYTES = 64
"""RFC 8032 section 5.1."""

MAX_SIGNATURES = 100
"""Of one note, as in golang.org/x/mod/sumdb/note; the specification demands 16 at least."""

_DASH = "\N{EM DASH} "
_KEY_ID_BYTES = 4


class NoteError(ValueError):
    """A text that is no signed note or no key, or a signature that is wrong. The message is a part of a sentence."""


class VerifierKey(NamedTuple):
    """Verifies signatures: the name of the signer, and its public key of 32 bytes."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public).digest()[:_KEY_ID_BYTES]

    @property
    def text(self) -> str:
        """The key as people pass it on: name, key id and key."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(bytes([ED25519]) + self.public)}"


class Signature(NamedTuple):
    """A signature of a note: who signed, with which key, and the signature proper."""

    name: str
    key_id: bytes
    data: bytes

    @property
    def line(self) -> str:
        """Its line in a note."""
        return f"{_DASH}{self.name} {_encode(self.key_id + self.data)}\n"


class Note(NamedTuple):
    """A signed text, which ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]


Verify = Callable[[bytes, bytes, bytes], bool]
"""Whether the signature (third) of the message (second) is that of the public key (first)."""


def parse_key(text: str) -> VerifierKey:
    """The key in a text as `VerifierKey.text`. Raises NoteError."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    _check_name(name)
    data = decode(encoded, "the key")
    if data[:1] != bytes([ED25519]) or len(data) != 1 + KEY_BYTES:
        raise NoteError("the key is no Ed25519 key")
    key = VerifierKey(name, data[1:])
    if key.key_id.hex() != key_id:
        raise NoteError("the key's number does not fit the key")
    return key


def sign(text: str, key: VerifierKey, signer: Callable[[bytes], bytes]) -> str:
    """The note with `text` and the signature of `key`; `signer` signs bytes with its private half. Raises NoteError."""
    _check_text(text)
    return f"{text}\n{Signature(key.name, key.key_id, signer(text.encode())).line}"


def parse(note: str) -> Note:
    """The text of a note, and its signatures, of which none is verified. Raises NoteError."""
    text, blank, below = note.rpartition("\n\n")
    _check_text(text + "\n")
    lines = below.split("\n")
    if not blank or lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
        raise NoteError("it has no signatures, or too many")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def verified_by(note: Note, keys: Collection[VerifierKey], verify: Verify) -> VerifierKey | None:
    """The first of `keys` that has signed the note; None if none of them has. Raises NoteError for a wrong signature.

    Signatures of other keys are not looked at.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found = None
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not verify(key.public, note.text.encode(), signature.data):
            raise NoteError("its signature is wrong")
        found = found or key
    return found


def decode(encoded: str, what: str) -> bytes:
    """Bytes from strict base64 (RFC 4648 section 4); `what` it is begins the error. Raises NoteError."""
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error, or not ASCII
        raise NoteError(f"{what} is not in base64") from None
    if _encode(data) != encoded:  # bits that are left over
        raise NoteError(f"{what} is not in base64")
    return data


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH):
        raise NoteError("a line below the text is no signature")
    _check_name(name)
    data = decode(encoded, "a signature")
    if len(data) <= _KEY_ID_BYTES:
        raise NoteError("a signature is too short")
    return Signature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise NoteError("a key has no name, or one with a space or a plus sign")


def _check_text(text: str) -> None:
    controls = any(one < " " or "\ud800" <= one <= "\udfff" for one in set(text) - {"\n"})  # the second: no UTF-8
    if not text.endswith("\n") or text == "\n" or controls:
        raise NoteError("its text is not one of whole lines without control characters")


def _encode(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
