"""Signed checkpoints from files, and which of them are the log's: those beside the log, and those kept elsewhere."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pyssh_gateway.audit.proving import collected
from pyssh_gateway.audit.proving.findings import Finding
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME, EVENT, KEY_NAME, SEALED_CHECKPOINTS
from pyssh_gateway.audit.segments import NoFile, NoLog, open_regular
from pyssh_gateway.core.transparency import checkpoint, signed_note
from pyssh_gateway.core.transparency.signed_note import NoteError, VerifierKey

MAX_KEYS = 64 * 1024
"""Bytes of the file of public keys that are read: hundreds of keys, of which a log has one."""


class Place(NamedTuple):
    """Where a checkpoint was found. `local`: beside the log, where the server has written it, at the time `written`."""

    file: str
    line: int
    local: bool
    written: str = ""

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


class Signed(NamedTuple):
    """A checkpoint whose signature is right."""

    size: int
    root: bytes
    note: str
    place: Place


class Judged(NamedTuple):
    """Checkpoints of this log, what is wrong with others, and how many of other logs there are."""

    good: list[Signed]
    findings: list[Finding]
    others: int


class _Line(msgspec.Struct, frozen=True):
    note: str
    event: str = EVENT
    ts: str = ""


_decoder = msgspec.json.Decoder(_Line)


def public_keys(audit_dir: Path) -> list[VerifierKey]:
    """The keys of the log, the newest last; none if their file is missing. Raises NoLog, NoteError."""
    try:
        descriptor = open_regular(audit_dir / KEY_NAME)
    except NoFile:
        if audit_dir.is_dir():
            return []
        raise NoLog(f"there is no log in {audit_dir.absolute()}; --dir names another directory") from None
    with os.fdopen(descriptor, "rb") as file:
        lines = file.read(MAX_KEYS).decode(errors="replace").splitlines()
    return [signed_note.parse_key(line) for line in lines if line]


def local_notes(audit_dir: Path) -> Iterator[tuple[Place, str]]:
    """The notes beside the log, oldest first, as they were written. Raises NoLog."""
    try:
        names = [entry.name for entry in os.scandir(audit_dir)]
    except OSError as error:
        raise NoLog(f"{audit_dir} can't be read: {error.strerror}") from None
    sealed = sorted((int(match[1]), name) for name in names if (match := SEALED_CHECKPOINTS.fullmatch(name)))
    for name in [name for _, name in sealed] + [CHECKPOINTS_NAME] * (CHECKPOINTS_NAME in names):
        with os.fdopen(open_regular(audit_dir / name), "rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):  # else it is still being written, or was cut off
                    note, written = _note(line)
                    yield Place(name, number, local=True, written=written), note


def given_notes(file: str, lines: Iterable[bytes]) -> Iterator[tuple[Place, str]]:
    """The notes that were collected in a file."""
    for text in collected.find(lines):
        yield Place(file, text.line, local=False), text.note


def judge(notes: Iterable[tuple[Place, str]], keys: Sequence[VerifierKey], *, sole: bool) -> Judged:
    """Which of the notes are checkpoints that one of `keys` has signed.

    A new server signs again what was signed before, and one that still disconnects its clients may sign less than the
    next one has: so sizes may go back. But no line beside the log is there twice, unless somebody has put it there.

    Checkpoints of other keys are a finding, unless `sole` says that `keys` are those that count: a file of a collector
    may have the checkpoints of many logs.
    """
    judged = Judged([], [], 0)
    others = 0
    seen: dict[tuple[str, str], Place] = {}
    for place, text in notes:
        try:
            note = signed_note.parse(text)
            found = checkpoint.of_note(note)
            key = signed_note.verified_by(note, keys, verify)
            if key is not None and found.origin != key.name:
                raise NoteError(f"it is signed by {key.name}, but for another log: {found.origin!a}")  # noqa: TRY301 - told as all that is wrong with a note is
        except NoteError as error:
            judged.findings.append(Finding("checkpoint", f"{place}: the checkpoint can't be used: {error}"))
            continue
        claims = {found.origin, *(signature.name for signature in note.signatures)}
        if key is None and (place.local or not sole or claims & {one.name for one in keys}):
            names = ", ".join(sorted({signature.name for signature in note.signatures}))
            what = f"{place}: the checkpoint is not signed by this log's key, but by {names!a}"
            judged.findings.append(Finding("other_log", what))
        elif key is None:
            others += 1
        else:
            if place.local and (first := seen.setdefault((place.written, text), place)) is not place:
                what = f"{place}: the line is that of {first}: another checkpoint was replaced by it"
                judged.findings.append(Finding("checkpoint", what))
            judged.good.append(Signed(found.size, found.root, text, place))
    return judged._replace(others=others)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature of the message is that of the public key."""
    # Late: takes time that other commands do not need.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _note(line: bytes) -> tuple[str, str]:
    """The note in a line, and its time; the line itself if there is none, which is then reported as such."""
    try:
        decoded = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return line.decode(errors="replace"), ""
    return decoded.note, decoded.ts
