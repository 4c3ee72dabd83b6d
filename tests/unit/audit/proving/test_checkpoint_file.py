"""The file of checkpoints has whole lines only, whatever happens while they are written."""

import os
import resource
import signal
from pathlib import Path

import pytest

from pyssh_gateway.audit.proving.checkpoint_file import CheckpointFile

FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """The next start removes it: it must not look like a checkpoint that was changed."""
    path = tmp_path / "file"
    path.write_bytes(b"one\ntw")
    file = CheckpointFile(os.open(path, FLAGS))
    file.write(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\nthree\n"
    path.write_bytes(b"on")
    file.replace(os.open(path, FLAGS))
    file.write(b"four\n")
    file.close()
    file.close()
    assert path.read_bytes() == b"four\n"


def test_the_next_one_cannot_be_opened(tmp_path: Path) -> None:
    """Protects new checkpoints: the file before belongs to a closed file of the log now, and is deleted with that."""
    path = tmp_path / "file"
    file = CheckpointFile(os.open(path, FLAGS))
    file.replace(None)
    with pytest.raises(OSError, match="can't be opened"):
        file.write(b"one\n")
    assert path.read_bytes() == b""
    file.replace(os.open(path, FLAGS))
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing is left of a line that has no room."""
    path = tmp_path / "file"
    file = CheckpointFile(os.open(path, FLAGS))
    file.write(b"one\n")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write(b"two two two\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    file.close()
    assert path.read_bytes() == b"one\n"


def test_without_a_file() -> None:
    """Without a file nothing can be written."""
    with pytest.raises(OSError, match="can't be opened"):
        CheckpointFile().write(b"one\n")
