"""audit.index.place: whose the index is, and that whatever is wrong with it, the answer is right."""

import os
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from bench.audit.month import Month
from pyssh_gateway.audit.index import place
from pyssh_gateway.audit.index.place import NAME, Index
from pyssh_gateway.audit.index.schema import TABLES
from pyssh_gateway.audit.segments import NoLog
from tests.support.made_logs import write_log

LINES = [line + b"\n" for line in Month(1, 5).lines(1)]


def counted(index: Index) -> int:
    """How many connections the index has."""
    return index.ask(lambda database: int(database.execute("SELECT count(*) FROM connections").fetchone()[0]))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log, in a directory as the server makes it."""
    directory = tmp_path / "audit"
    directory.mkdir(mode=0o750)
    write_log(directory, LINES)
    (directory / "events.jsonl").chmod(0o640)
    return directory


@pytest.fixture
def right(log: Path) -> int:
    """What a new index says."""
    with Index(log, {}, pytest.fail) as index:
        found = counted(index)
    (log / NAME).unlink()
    assert found > 60
    return found


def test_the_index_tells_nobody_more_than_the_log(log: Path, right: int) -> None:
    """Its mode is the log's, never more, also after the log's has been changed."""
    for mode in (0o640, 0o600, 0o644):
        (log / "events.jsonl").chmod(mode)
        with Index(log, {}, pytest.fail) as index:
            assert counted(index) == right
        assert stat.S_IMODE((log / NAME).stat().st_mode) == mode & 0o640
        assert [path.name for path in log.iterdir() if "sqlite" in path.name] == [NAME]


def test_a_reader_has_an_index_of_their_own(log: Path, right: int, tmp_path: Path) -> None:
    """In a directory where others may write, no index is made or trusted: it is in the cache, for this account only."""
    log.chmod(0o770)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(2):
        with Index(log, environ, pytest.fail) as index:
            assert counted(index) == right
    assert not (log / NAME).exists()
    (made,) = (tmp_path / "cache" / "pyssh-gateway").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700


def test_without_a_place_it_is_in_memory(log: Path, right: int) -> None:
    """A reader without a home still gets an answer."""
    log.chmod(0o777)
    with Index(log, {}, pytest.fail) as index:
        assert counted(index) == right
    assert not (log / NAME).exists()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000, b"truncated", b"hole"])
def test_a_broken_index_is_made_anew(log: Path, right: int, content: bytes) -> None:
    """Empty, of something else, cut off, or with a hole in its middle: the answer is right, and so is the next."""
    with Index(log, {}, pytest.fail):
        pass
    path = log / NAME
    whole = path.read_bytes()
    if content == b"truncated":
        content = whole[: len(whole) // 2]
    elif content == b"hole":
        content = whole[:8192] + b"\xaa" * (len(whole) - 8192)
    path.write_bytes(content)
    said: list[str] = []
    for _ in range(2):
        with Index(log, {}, said.append) as index:
            assert counted(index) == right
    assert len(said) <= 1


def test_an_index_of_another_version_is_made_anew(log: Path, right: int) -> None:
    """It is derived: there is no migration."""
    with sqlite3.connect(log / NAME) as old:
        old.execute("CREATE TABLE connections (conn TEXT)")
    old.close()
    with Index(log, {}, pytest.fail) as index:
        assert counted(index) == right


def test_another_ones_file_is_not_written_through(log: Path, right: int, tmp_path: Path) -> None:
    """A link in the index's place is replaced, and its target left alone."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (log / NAME).symlink_to(target)
    with Index(log, {}, pytest.fail) as index:
        assert counted(index) == right
    assert target.read_bytes() == b"precious"
    assert not (log / NAME).is_symlink()


def test_a_locked_index_is_done_without(log: Path, right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who holds the lock for long delays nobody for ever: the answer comes from memory, and that is said."""
    monkeypatch.setattr(place, "PATIENCE", 0.05)
    with Index(log, {}, pytest.fail):
        pass
    other = sqlite3.connect(log / NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    said: list[str] = []
    with Index(log, {}, said.append) as index:
        assert counted(index) == right
    other.close()
    assert "locked" in said[0]


def test_what_breaks_while_it_is_asked_is_made_anew(log: Path, right: int) -> None:
    """A page that turns out to be damaged only when it is read costs a remark, not the answer."""
    said: list[str] = []
    with Index(log, {}, said.append) as index:
        index.ask(lambda database: database.execute("DROP TABLE connections"))
        assert counted(index) == right
    assert len(said) == 1


def test_a_log_that_can_not_be_read_is_an_error(log: Path) -> None:
    """An index never answers for a log that is gone."""
    with Index(log, {}, pytest.fail):
        pass
    (log / "events.jsonl").unlink()
    with pytest.raises(NoLog):
        Index(log, {}, pytest.fail)


def test_an_sqlite_that_can_not_do_it_is_an_error(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without full-text search, or without trigrams: that is said, and no traceback."""
    monkeypatch.setattr(place, "TABLES", TABLES.replace("'trigram'", "'other'"))
    said: list[str] = []
    with pytest.raises(NoLog, match="there can be no index of the log"):
        Index(log, {}, said.append)
    assert [path.name for path in log.iterdir()] == ["events.jsonl"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
@pytest.mark.parametrize("options", ["size=64k,mode=750", "mode=750,ro"])
def test_a_disk_that_takes_no_index_is_no_reason_to_say_nothing(
    log: Path, right: int, tmp_path: Path, options: str
) -> None:
    """Where there is no room, or nothing can be written, the index is in memory."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options.removesuffix(",ro"), "none", str(small)], check=True)
    try:
        (small / "events.jsonl").symlink_to(log / "events.jsonl")
        if options.endswith("ro"):
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        said: list[str] = []
        with Index(small, {}, said.append) as index:
            assert counted(index) == right
        assert len(said) == (0 if options.endswith("ro") else 1)
        assert [path.name for path in small.iterdir()] == ["events.jsonl"]
    finally:
        subprocess.run(["umount", str(small)], check=True)
