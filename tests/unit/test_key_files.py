"""Which key files are taken: who can write to one decides who gets in."""

import os
import pwd
from pathlib import Path

import pytest

from pyssh_gateway.spawner.key_files import open_trusted

ME = pwd.getpwuid(os.geteuid()).pw_name
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file as it should be."""
    path = tmp_path / "keys"
    path.write_text("ssh-ed25519 AAAA example\n")
    path.chmod(0o644)
    return path


def test_an_ordinary_key_file_is_read(key_file: Path) -> None:
    """A file of our own that nobody else may write to; the descriptor is not passed on to programs."""
    descriptor = open_trusted(str(key_file), [ME])
    try:
        assert os.read(descriptor, 4) == b"ssh-"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(key_file: Path, mode: int) -> None:
    """sshd's StrictModes: the group's and everybody's write permission, with what to do about it."""
    key_file.chmod(mode)
    with pytest.raises(OSError, match="others may write to it: run chmod go-w"):
        open_trusted(str(key_file), [ME])


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_a_strangers_file_is_refused(key_file: Path) -> None:
    """It has to be root's or of an account that may log in."""
    os.chown(key_file, 65534, 65534)
    with pytest.raises(OSError, match="belongs to uid 65534"):
        open_trusted(str(key_file), [ME, "no-such-account"])
    os.close(open_trusted(str(key_file), [pwd.getpwuid(65534).pw_name]))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A FIFO or a directory in its place neither stops the server nor is taken for an empty file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="not a regular file"):
        open_trusted(str(fifo), [])
    with pytest.raises(OSError, match="a directory"):
        open_trusted(str(tmp_path), [])
    with pytest.raises(FileNotFoundError):
        open_trusted(str(tmp_path / "missing"), [])
