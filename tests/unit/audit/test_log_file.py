"""The log's file: its removal is noticed, it is made again with the same rights, and deleted lines are rescued."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from pyssh_gateway.audit.log_file import FILE_NAME, TRIES, AuditLogError, LogPlace, OpenFile
from tests.support import leaks


@pytest.fixture
def place(tmp_path: Path) -> LogPlace:
    """A place for the log, whose directory does not exist yet."""
    return LogPlace(tmp_path / "audit")


def test_file_is_in_place_until_it_is_moved(place: LogPlace, tmp_path: Path) -> None:
    """Protects from a log that grows unseen: a move, a deletion and a move of the directory are noticed."""
    file = OpenFile(place.open())
    path = tmp_path / "audit" / FILE_NAME
    os.write(file.descriptor, b"line\n")
    assert file.is_in_place()
    path.rename(path.with_name("moved"))
    assert not file.is_in_place()
    path.with_name("moved").rename(path)
    assert file.is_in_place()
    path.parent.rename(tmp_path / "elsewhere")
    assert not file.is_in_place()
    shutil.rmtree(tmp_path / "elsewhere")
    assert not file.is_in_place()
    os.close(file.descriptor)


def test_what_is_made_again_is_as_it_was(tmp_path: Path) -> None:
    """Protects the right to read the log: the group and mode of directory and file survive their removal."""
    first = LogPlace(tmp_path / "audit")
    os.close(first.open())
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o750
    path = tmp_path / "audit" / FILE_NAME
    path.chmod(0o604)
    path.parent.chmod(0o705)
    group = 1 if os.geteuid() == 0 else os.getegid()
    os.chown(path, -1, group)
    os.chown(path.parent, -1, group)
    place = LogPlace(tmp_path / "audit")
    shutil.rmtree(path.parent)
    os.close(place.open())
    is_kept = os.geteuid() == 0
    for what, mode in ((path.parent, 0o705 if is_kept else 0o750), (path, 0o604 if is_kept else 0o640)):
        assert (stat.S_IMODE(what.stat().st_mode), what.stat().st_gid) == (mode, group)


@pytest.mark.parametrize("times", [1, TRIES - 1, TRIES])
def test_a_directory_that_is_removed_in_the_same_moment(
    place: LogPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """`rm -r` while the log is opened keeps nobody out: the directory is made again, unless that goes on and on."""
    removed = 0
    really = os.open

    def race(path: Path, flags: int, mode: int = 0o777) -> int:
        nonlocal removed
        if flags & os.O_CREAT and removed < times:
            removed += 1
            (tmp_path / "audit").rmdir()
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", race)
    if times == TRIES:
        with pytest.raises(AuditLogError, match="No such file or directory"):
            place.open()
    else:
        os.close(place.open())
        assert (tmp_path / "audit" / FILE_NAME).exists()
    assert removed == times


def test_a_file_whose_mode_can_not_be_set_is_closed(
    place: LogPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a server that tries again and again: a file system without modes costs no descriptors."""

    def refuse(_file: int, _mode: int) -> None:
        raise PermissionError(1, "no modes here")

    monkeypatch.setattr(os, "fchmod", refuse)
    with leaks.nothing_left_open(), pytest.raises(AuditLogError, match="no modes here"):
        place.open()
