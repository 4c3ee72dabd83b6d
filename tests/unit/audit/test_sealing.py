"""Closed files of the log: what is compressed and deleted, and what an interrupted run leaves."""

import os
import stat
from pathlib import Path

import pytest

from pyssh_gateway.audit import sealing
from pyssh_gateway.audit.segments import log_lines, sealed_name
from pyssh_gateway.config.sizes import Size
from pyssh_gateway.config.types import Audit
from pyssh_gateway.config.values import Duration

NOW = 1_767_323_045.0
LINES = b"".join(b'{"ts":"2026-01-02T03:04:05.678901Z","seq":%d,"event":"idle.tick"}\n' % seq for seq in range(1000))
KEPT = Audit()


def closed(directory: Path, first: int, content: bytes = LINES, *, age: float = 60.0) -> Path:
    """A closed file that was written to so long ago."""
    path = directory / sealed_name(first, compressed=False)
    path.write_bytes(content)
    path.chmod(0o604)
    os.utime(path, (NOW - age, NOW - age))
    return path


def tidy(directory: Path, audit: Audit = KEPT) -> None:
    """Run it in this process, with our rights."""
    sealing.tidy(directory, audit, NOW, sealing.compress)


def names(directory: Path) -> list[str]:
    """What is in the directory."""
    return sorted(path.name for path in directory.iterdir())


def test_closed_files_are_compressed(tmp_path: Path) -> None:
    """The lines, the mode, the group and the age stay; the current file is left alone."""
    plain = closed(tmp_path, 0)
    if os.geteuid() == 0:
        os.chown(plain, -1, 1)
    before = plain.stat()
    (tmp_path / "events.jsonl").write_bytes(b"last\n")
    tidy(tmp_path)
    assert names(tmp_path) == ["events-000000000000.jsonl.zst", "events.jsonl"]
    after = (tmp_path / "events-000000000000.jsonl.zst").stat()
    assert (stat.S_IMODE(after.st_mode), after.st_gid) == (0o604, before.st_gid)
    assert (after.st_mtime_ns, after.st_size < before.st_size // 10) == (before.st_mtime_ns, True)
    assert list(log_lines(tmp_path)) == [*LINES.splitlines(), b"last"]


def test_an_interrupted_run_is_finished(tmp_path: Path) -> None:
    """A file that was half written is made again; a plain file that is compressed already is removed."""
    closed(tmp_path, 0)
    (tmp_path / "events-000000000000.jsonl.zst.new").write_bytes(b"half")
    tidy(tmp_path)
    closed(tmp_path, 0)
    tidy(tmp_path)
    assert names(tmp_path) == ["events-000000000000.jsonl.zst"]
    assert list(log_lines(tmp_path)) == LINES.splitlines()


@pytest.mark.parametrize("wrong", ["raises", "stops early"])
def test_a_file_that_can_not_be_compressed_stays(tmp_path: Path, wrong: str) -> None:
    """If the process that compresses fails, the file stays as it is, others are compressed, and the error is told."""
    first = closed(tmp_path, 0)
    closed(tmp_path, 1000)

    def compressed(source: int, target: int) -> None:
        if os.path.samestat(os.fstat(source), first.stat()):
            if wrong == "raises":
                raise OSError("no process is left")
            os.read(source, 10)
            return
        sealing.compress(source, target)

    with pytest.raises(OSError, match="no process is left" if wrong == "raises" else "not read to its end"):
        sealing.tidy(tmp_path, KEPT, NOW, compressed)
    assert names(tmp_path) == ["events-000000000000.jsonl", "events-000000001000.jsonl.zst"]
    assert first.read_bytes() == LINES


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A name in the directory that leads elsewhere is neither read nor removed."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    place = tmp_path / "audit"
    place.mkdir()
    (place / sealed_name(0, compressed=False)).symlink_to(secret)
    (place / sealed_name(1, compressed=False)).hardlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        tidy(place)
    assert names(place) == ["events-000000000000.jsonl", "events-000000000001.jsonl"]


def test_old_files_are_deleted(tmp_path: Path) -> None:
    """Files whose last line is older than `keep`, and the oldest ones above `keep_size`; never the current one."""
    audit = Audit(keep=Duration(3600), keep_size=Size(300_000))
    closed(tmp_path, 0, age=3601)
    closed(tmp_path, 1000, os.urandom(100_000), age=3000)
    closed(tmp_path, 2000, os.urandom(100_000), age=2000)
    (tmp_path / "events.jsonl").write_bytes(bytes(150_000))
    tidy(tmp_path, audit)
    assert names(tmp_path) == ["events-000000002000.jsonl.zst", "events.jsonl"]
    (tmp_path / "events.jsonl").write_bytes(bytes(400_000))
    os.utime(tmp_path / "events.jsonl", (0, 0))
    tidy(tmp_path, audit)
    assert names(tmp_path) == ["events.jsonl"]


def test_a_hole_in_the_current_file_removes_nothing(tmp_path: Path) -> None:
    """Protects closed files from a taken-over process that makes the file which it has open very long."""
    closed(tmp_path, 0)
    for name in ("events.jsonl", "checkpoints.jsonl"):
        (tmp_path / name).write_bytes(b"last\n")
        os.truncate(tmp_path / name, 2 * 1024**3)
    tidy(tmp_path)
    assert "events-000000000000.jsonl.zst" in names(tmp_path)
