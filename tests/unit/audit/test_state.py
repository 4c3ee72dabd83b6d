"""The state beside the log: read as it was written, or not at all."""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.audit.log_file import FILE_NAME, STATE_NAME, LogPlace
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME
from pyssh_gateway.audit.state import MAX_BYTES, LogState, StateFile
from pyssh_gateway.system.descriptors import close_all

STATE = LogState(2**63 - 1, ("A" * 43 + "=",) * 63, 2**40, 10**9, 10**12, 10**12, 2**32 - 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file."""
    return tmp_path / STATE_NAME


@pytest.fixture
def file(path: Path) -> Iterator[StateFile]:
    """The file, open."""
    opened = StateFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    yield opened
    opened.close()


def test_the_last_state_is_read(file: StateFile, path: Path) -> None:
    """A shorter state replaces a longer one completely, and the longest one fits."""
    assert file.read() is None
    file.write(STATE)
    assert file.read() == STATE
    assert path.stat().st_size < MAX_BYTES
    file.write(LogState(connections=1))
    assert file.read() == LogState(connections=1)


@pytest.mark.parametrize("size", [0, 1, 100, -2])
def test_a_write_that_was_cut_off_is_noticed(file: StateFile, path: Path, size: int) -> None:
    """The old state's end after the new one's beginning is no state, at whatever byte the power went off."""
    file.write(LogState(connections=1, seq=22))
    before = path.read_bytes()
    file.write(LogState(connections=3, seq=44))
    after = path.read_bytes()
    path.write_bytes(after[:size] + before[size:] if size > 50 else after[:size])
    assert file.read() is None


def test_without_a_file_nothing_is_kept() -> None:
    """A start works without the state."""
    none = StateFile()
    none.write(STATE)
    none.sync()
    assert none.read() is None


def test_a_state_that_is_refused(tmp_path: Path) -> None:
    """A link in its place is not followed, and costs no checkpoints: what is written goes nowhere."""
    (tmp_path / STATE_NAME).symlink_to(tmp_path / "elsewhere")
    log, descriptor, checkpoints = LogPlace(tmp_path).open_all()
    state = StateFile(descriptor)
    assert state.read() is None
    state.write(STATE)
    state.sync()
    state.close()
    assert not (tmp_path / "elsewhere").exists()
    assert os.path.samestat(os.fstat(checkpoints), (tmp_path / CHECKPOINTS_NAME).stat())
    close_all([log, checkpoints])
    (tmp_path / CHECKPOINTS_NAME).unlink()
    (tmp_path / CHECKPOINTS_NAME).symlink_to(tmp_path / "elsewhere")
    (log,) = LogPlace(tmp_path).open_all()
    os.close(log)


def test_readers_of_the_log_can_not_lock_it(tmp_path: Path) -> None:
    """Protects the count from a reader, whose lock would look like an earlier server's: the state is the owner's."""
    (tmp_path / STATE_NAME).write_bytes(b"")
    (tmp_path / STATE_NAME).chmod(0o640)
    place = LogPlace(tmp_path)
    log, descriptor, *others = place.open_all()
    assert stat.S_IMODE((tmp_path / STATE_NAME).stat().st_mode) == 0o600
    reader = os.open(tmp_path / FILE_NAME, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    state = StateFile(descriptor)
    assert state.lock()
    again = StateFile(os.open(tmp_path / STATE_NAME, os.O_RDWR))
    assert not again.lock()
    state.close()
    assert again.lock()
    again.close()
    for each in (log, reader, *others):
        os.close(each)


def test_a_missing_state_is_made_for_the_owner_only(tmp_path: Path) -> None:
    """As above, at the first start, whatever the log's own mode is."""
    (tmp_path / FILE_NAME).write_bytes(b"")
    (tmp_path / FILE_NAME).chmod(0o644)
    for each in LogPlace(tmp_path).open_all():
        os.close(each)
    assert stat.S_IMODE((tmp_path / STATE_NAME).stat().st_mode) == 0o600
