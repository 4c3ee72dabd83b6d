"""Login records of locked files: the spawner does not wait, and writes the record when the lock is gone."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.spawner.processes.login_recorder import ATTEMPTS, MAX_WAITING, PAUSE_SECONDS, LoginRecorder
from pyssh_gateway.spawner.processes.login_records import Files
from pyssh_gateway.spawner.processes.process import Child
from pyssh_gateway.system import utmp
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps login records")

SIZE = utmp.layout(os.uname().machine).utmp.size
SESSION = Child(os.getpid(), "example", 5, "/dev/pts/7", [])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The three files, empty."""
    for name in ("utmp", "wtmp", "lastlog"):
        (tmp_path / name).touch()
    return Files(*(str(tmp_path / name) for name in ("utmp", "wtmp", "lastlog")))


@pytest.fixture
def locked(files: Files) -> Iterator[Callable[[], None]]:
    """Another process has a read lock on utmp, which any account may take, until this is called."""
    program = (
        "import fcntl, sys\n"
        "with open(sys.argv[1]) as file:\n"
        "    fcntl.lockf(file, fcntl.LOCK_SH)\n"
        "    print(flush=True)\n"
        "    sys.stdin.readline()\n"
        "print(flush=True)\n"
    )
    command = [sys.executable, "-c", program, files.utmp]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        told, heard = holder.stdin, holder.stdout
        heard.readline()

        def let_go() -> None:
            told.write(b"\n")
            told.flush()
            heard.readline()

        yield let_go
        holder.communicate(timeout=PATIENCE)


def entries(path: str) -> int:
    """The number of entries in a file."""
    return Path(path).stat().st_size // SIZE


def test_a_lock_that_goes_costs_no_record(
    files: Files, locked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects `who`: a record that met a lock is written at the next look, without a sleep."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("the spawner sleeps"))
    told: list[str] = []
    recorder = LoginRecorder(told.append, files)
    recorder.login(SESSION, "192.0.2.9")
    assert (entries(files.utmp), entries(files.wtmp)) == (0, 0)
    due = recorder.next_at()
    assert due is not None
    locked()
    recorder.tick(due)
    assert (entries(files.utmp), entries(files.wtmp), told) == (1, 1, [])
    assert recorder.next_at() is None


def test_a_lock_that_stays_is_given_up(files: Files, locked: Callable[[], None]) -> None:
    """Protects the spawner from a user who keeps the lock: after a few looks only `last` gets it, which is reported."""
    told: list[str] = []
    recorder = LoginRecorder(told.append, files)
    recorder.login(SESSION, "")
    now = time.monotonic() + 1
    for _ in range(ATTEMPTS):
        now += 2 * PAUSE_SECONDS
        recorder.tick(now)
    assert (entries(files.utmp), entries(files.wtmp)) == (0, 1)
    assert told == [f"can't write a login record: {files.utmp} is locked by another process"]
    for _ in range(2 * MAX_WAITING):  # waiting records must not pile up
        recorder.login(SESSION, "")
    assert entries(files.wtmp) >= MAX_WAITING
    recorder.finish()
    assert entries(files.wtmp) == 1 + 2 * MAX_WAITING


def test_no_lock_is_left(files: Files) -> None:
    """Protects other writers: the look at a lock leaves no lock behind."""
    recorder = LoginRecorder(pytest.fail, files)
    recorder.login(SESSION, "")
    recorder.logout(SESSION)
    assert entries(files.wtmp) == 2
    with Path(files.utmp).open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
