"""Signed notes: the vectors of the Go implementation, and what must not be taken for a note."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.transparency import signed_note
from pyssh_gateway.core.transparency.signed_note import Note, NoteError, VerifierKey, parse, parse_key, sign
from tests.support.notes import verify

# https://github.com/golang/mod/blob/master/sumdb/note/note_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = signed_note.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz", "the seed")[1:]
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"


def test_signing() -> None:
    """A note is signed byte for byte as by the Go implementation."""
    key = parse_key(PETER)
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    assert private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) == key.public
    assert key.text == PETER
    assert sign(TEXT, key, private.sign) == f"{TEXT}\n{BY_PETER}"


def test_verifying() -> None:
    """The first known signer is found, signatures of others are passed over, and a wrong one spoils the note."""
    peter, enoch = parse_key(PETER), parse_key(ENOCH)
    both = parse(f"{TEXT}\n{BY_PETER}{BY_ENOCH}")
    assert both.text == TEXT
    assert signed_note.verified_by(both, [enoch], verify) == enoch
    assert signed_note.verified_by(both, [enoch, peter], verify) == peter
    assert signed_note.verified_by(both, [VerifierKey("PeterNeumann", enoch.public)], verify) is None
    wrong = Note(TEXT.replace("is the", "is no"), both.signatures)
    with pytest.raises(NoteError, match="signature is wrong"):
        signed_note.verified_by(wrong, [enoch], verify)


def test_empty_lines_in_the_text() -> None:
    """The last empty line is the one before the signatures."""
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    note = sign("a\n\nb\n\n", parse_key(PETER), private.sign)
    assert parse(note).text == "a\n\nb\n\n"


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"{TEXT}\n",
        f"\n{BY_PETER}",
        f"\n\n{BY_PETER}",
        f"{TEXT}\n{BY_PETER}"[:-1],
        f"\x01{TEXT}\n{BY_PETER}",
        f"\udcff{TEXT}\n{BY_PETER}",
        f"{TEXT}\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAc=\n",
        f"{TEXT}\n—  x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAc=\n",
        f"{TEXT}\n— a+b x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAc=\n",
        f"{TEXT}\n— PeterNeumann x08go/ZJ=\n",
        f"{TEXT}\n— PeterNeumann x08goz==\n",
        f"{TEXT}\n— PeterNeumann x08goé==\n",
        f"{TEXT}\n— PeterNeumann x08gow==\n",
        f"{TEXT}\n{BY_PETER}Unexpected line.\n",
        f"{TEXT}\n{BY_PETER * 101}",
    ],
)
def test_what_is_no_note(text: str) -> None:
    """Nothing else is taken for a note."""
    with pytest.raises(NoteError):
        parse(text)


def test_what_is_not_signed() -> None:
    """A text without a last newline can't be signed."""
    with pytest.raises(NoteError):
        sign("abc", parse_key(PETER), bytes)


def test_what_is_no_key() -> None:
    """As in the Go tests: no part of a key is one, nor a key with another character, length or algorithm."""
    parts = [PETER[low:high] for low in range(len(PETER)) for high in range(low, len(PETER) + 1)]
    parts.remove(PETER)
    changed = [PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :] for at in range(len(PETER))]
    others = [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ]
    for text in (*parts, *changed, *others):
        with pytest.raises(NoteError):
            parse_key(text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), min_size=1))
def test_signed_texts_are_read_back(text: str) -> None:
    """Every text that can be signed is read back as it was."""
    private, key = Ed25519PrivateKey.from_private_bytes(PETER_SEED), parse_key(PETER)
    note = parse(sign(f"{text}\n", key, private.sign))
    assert note.text == f"{text}\n"
    assert signed_note.verified_by(note, [key], verify) == key
