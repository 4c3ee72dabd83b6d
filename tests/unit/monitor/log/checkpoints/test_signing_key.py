"""The key that signs the log: made once, kept, refused if others could have it, and its public half beside the log."""

import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.audit.proving.checkpoints import public_keys, verify
from pyssh_gateway.audit.proving.names import KEY_NAME
from pyssh_gateway.core.transparency import signed_note
from pyssh_gateway.monitor.log.checkpoints.signing_key import SigningKeyError, load_or_create, publish
from tests.support.waiting import PATIENCE


def test_it_is_made_once(tmp_path: Path) -> None:
    """The first start makes it, in a directory for its owner only; all others have the same."""
    made = load_or_create(tmp_path / "keys")
    again = load_or_create(tmp_path / "keys")
    assert again.public == made.public
    assert (tmp_path / "keys" / "audit_key").stat().st_mode & 0o777 == 0o600
    assert verify(made.public.public, b"text", again.sign(b"text"))
    assert not verify(made.public.public, b"texts", again.sign(b"text"))
    assert signed_note.parse_key(made.public.text) == made.public
    command = ["ssh-keygen", "-l", "-f", str(tmp_path / "keys" / "audit_key.pub")]
    assert b"pyssh-gateway log key" in subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True).stdout


def test_an_empty_file(tmp_path: Path) -> None:
    """A power failure may leave one: another key is made."""
    (tmp_path / "audit_key").write_bytes(b"\0" * 10)
    (tmp_path / "audit_key").chmod(0o600)
    made = load_or_create(tmp_path)
    assert load_or_create(tmp_path).public == made.public


def test_unusable_keys(tmp_path: Path) -> None:
    """No key that others could have put there, or that can't sign, is used or overwritten."""
    path = tmp_path / "audit_key"
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(SigningKeyError, match="a link to nothing"):
        load_or_create(tmp_path)
    path.unlink()
    path.write_text("no key")
    path.chmod(0o644)
    with pytest.raises(SigningKeyError, match="too open"):
        load_or_create(tmp_path)
    path.chmod(0o600)
    with pytest.raises(SigningKeyError, match="is not an ed25519 private key"):
        load_or_create(tmp_path)
    assert path.read_text() == "no key"


def test_the_public_key(tmp_path: Path) -> None:
    """It is put beside the log, after those that were used before, and only if it is not there."""
    first, second = load_or_create(tmp_path / "first"), load_or_create(tmp_path / "second")
    for key in (first, second, second):
        publish(key.public, tmp_path)
    assert public_keys(tmp_path) == [first.public, second.public]
    before = (tmp_path / KEY_NAME).stat()
    publish(second.public, tmp_path)
    assert (tmp_path / KEY_NAME).stat() == before
    publish(first.public, tmp_path)
    assert public_keys(tmp_path) == [second.public, first.public]
    assert public_keys(tmp_path / "first") == []
