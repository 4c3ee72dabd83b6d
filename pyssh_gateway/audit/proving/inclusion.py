"""Proves to others that a line is in the log: the hashes that lead from the line to a checkpoint, and the checkpoint.

A proof stands for itself: RFC 9162 section 2.1.3.2 says how it is checked.
"""

import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.proving.checkpoints import Signed, verify
from pyssh_gateway.audit.proving.tracing import LineReader
from pyssh_gateway.audit.segments import Segment, open_file, segments
from pyssh_gateway.core.transparency import checkpoint, signed_note
from pyssh_gateway.core.transparency.merkle import CompactRange, inclusion_path, leaf_hash, root_from_path
from pyssh_gateway.core.transparency.signed_note import VerifierKey

MAX_HASHES = 64


class NoProof(Exception):
    """There is no proof, or it proves nothing. The message is one line for a person."""


class Proof(msgspec.Struct, frozen=True):
    """The proof that `line`, without its newline, is the line `index` of the first `size` lines, counted from 0.

    `hashes` are in base64, those of the lines beside it first. `checkpoint` is a signed note.
    """

    line: str
    index: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    hashes: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_HASHES)]
    checkpoint: str


class _Event(msgspec.Struct, frozen=True):
    seq: int


_decoder = msgspec.json.Decoder(_Event)
_proof_decoder = msgspec.json.Decoder(Proof)


def find(audit_dir: Path, seq: int) -> int:
    """The index of the line of the event with this number. Raises NoLog, NoProof."""
    mark = b'"seq":%d,' % seq
    found = [index for index, data in _lines(segments(audit_dir)) if mark in data and _seq(data) == seq]
    if not found:
        raise NoProof(f"the log has no event {seq}")
    if len(found) > 1:
        indexes = ", ".join(map(str, found[:5]))
        raise NoProof(f"{len(found)} events have the number {seq}: name the line by --line instead ({indexes} ...)")
    return found[0]


def prove(audit_dir: Path, index: int, signed: Sequence[Signed]) -> Proof:
    """The proof by the first of the checkpoints `signed` that covers the line. Raises NoLog, NoProof."""
    covering = min((one for one in signed if one.size > index), key=lambda one: one.size, default=None)
    if covering is None:
        raise NoProof(f"no checkpoint covers line {index} yet: the server signs one within a minute")
    listed = segments(audit_dir)
    begin = max((at for at, one in enumerate(listed) if one.first <= index), default=None)
    if begin is None:
        raise NoProof(f"line {index} is gone: the log begins at line {listed[0].first}")
    before = _tree_before(listed[begin])
    leaves: list[bytes] = []
    line = b""
    for number, data in _lines(listed[begin:]):
        if number >= covering.size:
            break
        leaves.append(leaf_hash(data))
        if number == index:
            line = data
    if before.size + len(leaves) != covering.size:
        raise NoProof(f"lines before line {covering.size} are missing: see audit verify")
    path = inclusion_path(index, before, leaves)
    if root_from_path(index, covering.size, leaf_hash(line), path) != covering.root:
        raise NoProof(
            f"the line, or others near it, are not those that were signed: see audit verify ({covering.place})"
        )
    hashes = tuple(binascii.b2a_base64(one, newline=False).decode() for one in path)
    try:
        return Proof(line.decode(), index, covering.size, hashes, covering.note)
    except UnicodeDecodeError:
        raise NoProof(f"line {index} is the rest of a line that was cut off, and no text") from None


def check(text: bytes, keys: Sequence[VerifierKey]) -> Proof:
    """The proof in a text, if one of these keys vouches for it. Raises NoProof."""
    try:
        proof = _proof_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoProof(f"this is no proof: {error}") from None
    try:
        note = signed_note.parse(proof.checkpoint)
        signed = checkpoint.of_note(note)
        key = signed_note.verified_by(note, keys, verify)
        if key is None or signed.origin != key.name:
            raise NoProof("the checkpoint of the proof is not signed by the log's key")
        path = [signed_note.decode(one, "a hash") for one in proof.hashes]
        root = root_from_path(proof.index, proof.size, leaf_hash(proof.line.encode()), path)
    except ValueError as error:
        raise NoProof(f"the proof is wrong: {error}") from None
    if (signed.size, signed.root) != (proof.size, root):
        raise NoProof("the proof is wrong: it does not lead to its checkpoint")
    return proof


def _tree_before(segment: Segment) -> CompactRange:
    """The tree of the lines before a file, as its header has it."""
    with open_file(segment.path) as file:
        for lines in LineReader(file):
            header = headers.decode(lines[0])
            if header is None:
                break
            return CompactRange(header.first, (binascii.a2b_base64(one) for one in header.tree))
    if segment.first:
        raise NoProof(f"{segment.path.name} has no header: see audit verify")
    return CompactRange()


def _lines(listed: Sequence[Segment]) -> Iterator[tuple[int, bytes]]:
    """The lines of these files with their indexes, exactly as they are."""
    for segment in listed:
        index = segment.first
        with open_file(segment.path) as file:
            is_first = True
            reader = LineReader(file)
            for lines in reader:
                if is_first and lines[0].startswith(headers.BEGINNING):
                    del lines[0]
                is_first = False
                for data in lines:
                    yield index, data
                    index += 1
            if reader.damage:
                raise NoProof(f"{segment.path.name}: {reader.damage}")


def _seq(line: bytes) -> int | None:
    try:
        return _decoder.decode(line).seq
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
