"""The directory of recordings: whose it is, and which files make room for others."""

import os
import pwd
from pathlib import Path

import pytest

from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.recorder.files import BLOCK, DIRECTORY, MOST_PARTS, Files, open_directory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
NOBODY = pwd.getpwnam("nobody")


def bounds(*, seconds: float = 1000.0, blocks: int = 100) -> Bounds:
    """Bounds of all recordings."""
    return Bounds(session_bytes=1, session_seconds=1, keep_seconds=seconds, keep_bytes=blocks * BLOCK)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of recordings, which is the working directory as in the process."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left(account: str, session: str, *, at: float, blocks: int = 1) -> Path:
    """A recording of an earlier recorder."""
    path = Path(account, f"{session}.cast.zst")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * (blocks * BLOCK))
    os.utime(path, (at, at))
    return path


def test_old_recordings_are_removed() -> None:
    """Protects `audit.record_keep`: what is older goes at the start, and later when it becomes so."""
    now = 10_000.0
    files = Files(bounds(), lambda: now)
    old, young = left("amos", "c1.1", at=8_000), left("amos", "c2.1", at=9_500)
    other = Path("amos", "notes.txt")
    other.write_text("not ours")
    files.look()
    files.remove_old()
    assert (old.exists(), young.exists()) == (False, True)
    now = 10_501.0
    files.remove_old()
    assert not young.exists()
    assert other.exists()


def test_who_takes_the_most_room_loses_the_oldest() -> None:
    """Protects the recordings of others: a flood of one account removes that account's own."""
    files = Files(bounds(blocks=10), lambda: 2000.0)
    mine = left("amos", "c1.1", at=1_001, blocks=2)
    floods = [left("dev", f"c2.{number}", at=1_500 + number, blocks=4) for number in range(3)]
    files.look()
    assert files.is_too_much
    files.remove_old()
    assert mine.exists()
    assert [path.exists() for path in floods] == [False, True, True]
    assert not files.is_too_much


def test_what_is_being_written_stays() -> None:
    """Protects running recordings: they take room, and are not removed for it."""
    files = Files(bounds(blocks=3), lambda: 2000.0)
    old = left("amos", "c0.1", at=1_500)
    files.look()
    name, file = files.make("amos", "c1.1")
    files.wrote(name, 10 * BLOCK)
    assert files.is_too_much
    assert files.remove_old() == name, "nobody is told that it has to end"
    assert not old.exists()
    assert Path(*name).exists()
    os.close(file)
    files.done(name)
    assert files.remove_old() is None
    assert not Path(*name).exists()
    assert not files.is_too_much


def test_recordings_that_are_being_made_cost_nobody_else_theirs() -> None:
    """Protects the recordings of others: an account that keeps its sessions open has to end the largest of them."""
    files = Files(bounds(blocks=20), lambda: 2000.0)
    victims = [left("dev", f"c{number}.1", at=1_500 + number) for number in range(5)]
    files.look()
    made = [files.make("amos", f"c9.{number}") for number in range(4)]
    for (name, file), blocks in zip(made, (3, 9, 5, 4), strict=True):
        os.close(file)
        files.wrote(name, blocks * BLOCK)
    ended = []
    while (largest := files.remove_old()) is not None:
        ended.append(largest)
        files.done(largest)
    assert ended == [("amos", "c9.1.cast.zst")]
    assert all(path.exists() for path in victims)
    assert not files.is_too_much


def test_the_next_part_of_a_session_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the recorder's time: a session with hundreds of files costs no more than another, also at a start."""
    parts = 600
    for number in range(2, parts + 1):
        left("amos", f"c1.1.{number}", at=1_500, blocks=0)
    files = Files(bounds(blocks=10_000), lambda: 2000.0)
    files.look()
    calls = 0
    real = os.open

    def counting(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal calls
        calls += 1
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", counting)
    for number in range(parts + 1, MOST_PARTS + 1):
        name, file = files.make("amos", "c1.1")
        os.close(file)
        assert name == ("amos", f"c1.1.{number}.cast.zst")
        files.done(name)
    with pytest.raises(FileExistsError):
        files.make("amos", "c1.1")
    assert calls <= 2 * (MOST_PARTS - parts) + 1, "each file takes an open of its own, and one of the directory"
    files.bound(bounds(blocks=0))
    files.remove_old()
    name, file = files.make("amos", "c1.1")
    os.close(file)
    assert name == ("amos", "c1.1.cast.zst"), "what is known of removed files is kept"


def test_empty_files_take_room() -> None:
    """Protects the file system's table: an account can't make files without end, and not all that ext4 has room for."""
    assert BLOCK >= 16 * 1024
    files = Files(bounds(blocks=5), lambda: 2000.0)
    for number in range(20):
        name, file = files.make("amos", f"c{number}.1")
        os.close(file)
        files.done(name)
        files.remove_old()
    assert sorted(path.name for path in Path("amos").iterdir()) == [f"c{number}.1.cast.zst" for number in range(15, 20)]


def test_files_that_somebody_else_has_removed_are_no_problem() -> None:
    """Protects the administrator, who may remove recordings at any time."""
    files = Files(bounds(blocks=2), lambda: 2000.0)
    path = left("amos", "c1.1", at=1_500, blocks=3)
    files.look()
    path.unlink()
    files.remove_old()
    assert not files.is_too_much


def test_a_link_in_the_place_of_an_account_is_not_followed(directory: Path) -> None:
    """Protects other directories, though only the recorder's own account could make one."""
    (directory / "elsewhere").mkdir()
    Path("amos").symlink_to(directory / "elsewhere")
    with pytest.raises(OSError, match="Not a directory"):
        Files(bounds(), lambda: 0.0).make("amos", "c1.1")


@needs_root
def test_the_directory_belongs_to_the_recorder_and_the_logs_group(tmp_path: Path) -> None:
    """Protects the readers: the group of `audit_dir` may read what is made in there, others may not."""
    os.chown(tmp_path, 0, 4)
    descriptor = open_directory(tmp_path, NOBODY)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (NOBODY.pw_uid, 4, 0o2750)


@needs_root
@pytest.mark.parametrize("kind", ["link", "file", "somebody else's", "open"])
def test_a_directory_that_is_not_ours_is_not_given_away(tmp_path: Path, kind: str) -> None:
    """Protects everything else on the machine: we may be root, and another account may have made something there."""
    place = tmp_path / DIRECTORY
    match kind:
        case "link":
            place.symlink_to("/etc")
        case "file":
            place.write_text("")
        case "somebody else's":
            place.mkdir()
            os.chown(place, 1, 1)
        case "open":
            place.mkdir()
            place.chmod(0o777)
    with pytest.raises(OSError, match=r"links|Not a directory|somebody else|Too many"):
        open_directory(tmp_path, NOBODY)
