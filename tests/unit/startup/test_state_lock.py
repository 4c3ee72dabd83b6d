"""One server for each state directory: the server that has it is named, and an ended process holds no lock."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Config
from pyssh_gateway.startup import state_lock
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

HOLD = """
import sys
from pyssh_gateway.config.types import Config
from pyssh_gateway.startup import state_lock
print(state_lock.take(Config(keys_dir=sys.argv[1], audit_dir=sys.argv[2])), flush=True)
sys.stdin.read()
"""


@contextmanager
def another(keys_dir: Path, audit_dir: Path) -> Iterator[int]:
    """A process that has locked these directories; gives its pid."""
    command = [sys.executable, "-c", HOLD, str(keys_dir), str(audit_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[]\n"
        yield process.pid
        process.communicate(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns off the wait for a server that is about to end."""
    monkeypatch.setattr(state_lock, "WAIT_SECONDS", 0.0)


def test_each_shared_directory_is_named_with_its_process(tmp_path: Path) -> None:
    """Two servers must not write one log: the second learns which of its directories are in use, and by whom."""
    keys, audit = tmp_path / "keys", tmp_path / "audit"
    with another(keys, audit) as pid:
        for take in (state_lock.take, state_lock.problems):
            assert take(Config(keys_dir=str(keys), audit_dir=str(audit))) == [
                f"{key}: the server that is process {pid} uses {directory}: stop it, or set {key} to another directory"
                for key, directory in (("keys_dir", keys), ("audit_dir", audit))
            ]
        mixed = Config(keys_dir=str(tmp_path / "mine"), audit_dir=str(audit))
        assert [line.partition(":")[0] for line in state_lock.take(mixed)] == ["audit_dir"]
        assert state_lock.holders(mixed) == {pid}
        assert state_lock.is_running(audit)
    assert not state_lock.is_running(audit)
    assert state_lock.take(mixed) == []


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """`check` makes neither a directory nor a file."""
    config = Config(keys_dir=str(tmp_path / "keys"), audit_dir=str(tmp_path / "audit"))
    assert (state_lock.problems(config), state_lock.holders(config)) == ([], frozenset())
    assert list(tmp_path.iterdir()) == []


def test_one_directory_for_both_is_no_conflict(tmp_path: Path) -> None:
    """A server that uses one directory for both does not lock itself out."""
    with another(tmp_path, tmp_path) as pid:
        assert state_lock.holders(Config(keys_dir=str(tmp_path), audit_dir=str(tmp_path / "other"))) == {pid}


def test_a_directory_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks (ENOLCK), or a lock file that is no regular file, does not prevent a start."""
    (tmp_path / "keys" / state_lock.FILE_NAME).mkdir(parents=True)
    (tmp_path / "audit").mkdir()
    os.mkfifo(tmp_path / "audit" / state_lock.FILE_NAME)
    config = Config(keys_dir=str(tmp_path / "keys"), audit_dir=str(tmp_path / "audit"))
    assert state_lock.take(config) == []

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    monkeypatch.setattr("fcntl.fcntl", no_locks)
    config = Config(keys_dir=str(tmp_path / "a"), audit_dir=str(tmp_path / "b"))
    assert (state_lock.take(config), state_lock.problems(config)) == ([], [])


def test_another_containers_server_has_no_number_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pid of another namespace, which the kernel reports as 0, is not shown: here it would be another process's."""
    with another(tmp_path, tmp_path / "audit"):
        monkeypatch.setattr(state_lock, "_holder", lambda _: 0)
        (line, _) = state_lock.problems(Config(keys_dir=str(tmp_path), audit_dir=str(tmp_path / "audit")))
        assert line.startswith(f"keys_dir: a server in another container or on another machine uses {tmp_path}: ")
