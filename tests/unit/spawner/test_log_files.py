"""The spawner's work on the log's files: quick answers, and one child at a time, whose child has no rights."""

import os
import platform
import select
import time
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc import log_files, spawner
from pyssh_gateway.spawner.log_files import Compress, LogFiles, LogWork
from pyssh_gateway.startup.log_work import log_work
from pyssh_gateway.system.descriptors import close_all, closing
from pyssh_gateway.system.syscalls import seccomp
from tests.support import leaks
from tests.support.spawning import INHERITED
from tests.support.waiting import PATIENCE

Answers = list[tuple[spawner.Report, int]]


def answer(files: LogFiles, request: log_files.Request) -> Answers:
    """What the monitor gets: reports, and how many descriptors."""
    found: Answers = []

    def report(sent: spawner.Report, descriptors: list[int]) -> None:
        found.append((sent, len(descriptors)))
        close_all(descriptors)

    files.answer(request, report)
    return found


def until_done(files: LogFiles) -> int:
    """Wait until there is no child any more; returns the last one's status."""
    status = 0
    while files.pids:
        pid, status = os.waitpid(-1, 0)
        assert files.reaped(pid)
    return status


def test_files_are_opened_closed_and_compressed(tmp_path: Path) -> None:
    """The monitor gets the new file and its state; the closed file is compressed when the monitor says so."""
    with leaks.nothing_left_open():
        files = LogFiles(log_work(tmp_path), Config, INHERITED)
        ((opened, count),) = answer(files, log_files.OpenLog(1))
        assert opened == spawner.Opened(1)
        assert count >= 2
        log = tmp_path / "events.jsonl"
        log.write_bytes(b"line\n")
        assert answer(files, log_files.SealLog(2, 0, log.stat().st_ino)) == [(spawner.Opened(2), count)]
        ((refused, _),) = answer(files, log_files.SealLog(3, 0, log.stat().st_ino))
        assert isinstance(refused, spawner.Refused)
        assert refused.reason.endswith("a file there begins at line 0 or later")
        assert answer(files, log_files.TidyLog(4)) == []
        assert len(files.pids) == 1
        assert until_done(files) == 0
        assert sorted(path.name for path in tmp_path.glob("events*")) == [
            "events-000000000000.jsonl.zst",
            "events.jsonl",
        ]


@pytest.mark.skipif(seccomp.MACHINES.get(platform.machine()) is None, reason="there is no filter for this processor")
def test_a_file_is_read_without_rights(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects root from what is in the log: the process that reads it can open no file, and is another account."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"line")

    def tidy(_config: Config, compressed: Compress) -> None:
        opened = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT)
        compressed(*opened)

    def compress(source: int, target: int) -> None:
        os.write(target, f"{os.geteuid()} {os.read(source, 10)!r}".encode())
        os.open("/etc/hostname", os.O_RDONLY)

    files = LogFiles(
        LogWork(list, lambda _first, _inode: [], tidy, compress), lambda: Config(account="nobody"), INHERITED
    )
    answer(files, log_files.TidyLog(1))
    assert until_done(files) != 0
    uid, read = target.read_text().split()
    assert read == "b'line'"
    assert os.geteuid() != 0 or int(uid) != 0
    assert "Operation not permitted" in capfd.readouterr().err


def test_a_request_during_the_work_is_done_after_it(tmp_path: Path) -> None:
    """A file that is closed while others are compressed is not forgotten, and there is one child at a time."""
    done = tmp_path / "done"

    def tidy(_config: Config, _compressed: Compress) -> None:
        with done.open("a") as file:
            file.write("x")

    files = LogFiles(LogWork(list, lambda _first, _inode: [], tidy, lambda _source, _target: None), Config, INHERITED)
    for number in range(3):
        answer(files, log_files.TidyLog(number))
    assert len(files.pids) == 1
    until_done(files)
    assert done.read_text() == "xx"


def test_the_end_of_the_server_ends_the_work(tmp_path: Path) -> None:
    """Nothing outlives the server: the child is killed, the child's child with it, and no other is started."""
    os.mkfifo(tmp_path / "target")
    reader = os.open(tmp_path / "target", os.O_RDONLY | os.O_NONBLOCK)

    def tidy(_config: Config, compressed: Compress) -> None:
        compressed(os.open(os.devnull, os.O_RDONLY), os.open(tmp_path / "target", os.O_WRONLY))

    def compress(_source: int, target: int) -> None:
        os.write(target, b"x")
        time.sleep(1000)

    files = LogFiles(LogWork(list, lambda _first, _inode: [], tidy, compress), Config, INHERITED)
    answer(files, log_files.TidyLog(1))
    with closing(reader):
        assert select.select([reader], [], [], PATIENCE)[0]
        assert os.read(reader, 1) == b"x"
        files.close()
        answer(files, log_files.TidyLog(2))
        until_done(files)
        assert select.select([reader], [], [], PATIENCE)[0]  # the last process that could write has ended
        assert os.read(reader, 1) == b""
