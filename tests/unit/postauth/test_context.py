"""postauth.context: the file that describes a connection's authentication."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from pyssh_gateway.postauth.context import AuthFile

INFO = b"publickey ssh-ed25519 AAAA\n"


def test_there_is_one_until_the_connection_ends() -> None:
    """Protects scripts and the machine: the file exists for every session, and is removed with the connection."""
    said: list[str] = []
    file = AuthFile(INFO, said.append)
    path = Path(os.fsdecode(file.path()))
    assert file.path() == os.fsencode(path)
    assert path.read_bytes() == INFO
    assert path.stat().st_mode & 0o777 == 0o600
    file.remove()
    assert not path.exists()
    file.remove()
    assert not said


def test_there_is_none_unless_it_is_asked_for() -> None:
    """Protects machines that do not use the file: without the setting there is none."""
    file = AuthFile(b"", pytest.fail)
    assert file.path() == b""
    file.remove()


def test_a_full_disk_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects sessions from a full disk: they are served without the file, as in sshd, and the log has the reason."""

    def full(**_: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    said: list[str] = []
    assert AuthFile(INFO, said.append).path() == b""
    assert said == ["there is no file to be had in /tmp: No space left on device"]


def test_half_a_file_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects scripts from an incomplete file: it is removed."""
    half = tmp_path / "sshauth.half"
    half.touch()
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (os.open(half, os.O_RDONLY), str(half)))
    said: list[str] = []
    assert AuthFile(INFO, said.append).path() == b""
    assert said == ["there is no file to be had in /tmp: Bad file descriptor"]
    assert not half.exists()
