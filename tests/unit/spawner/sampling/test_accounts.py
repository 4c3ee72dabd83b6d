"""spawner.sampling.accounts: what is read of processes with their own accounts' rights, and what is not."""

import os
import pwd
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.core.idle.variable import WHILE_IT_RUNS
from pyssh_gateway.spawner.sampling import accounts
from pyssh_gateway.spawner.sampling.accounts import Facts, Owner, look
from tests.support import leaks, processes
from tests.support.waiting import PATIENCE, until

OWN = Owner(os.geteuid(), os.getegid())


@pytest.fixture
def holding() -> Iterator[int]:
    """A process that asks to hold."""
    yield from running()


@pytest.fixture
def nobodys(is_root: bool) -> Iterator[int]:
    """The same, of another account."""
    if not is_root:
        pytest.skip("only root has other accounts")
    yield from running("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")


def running(*before: str) -> Iterator[int]:
    """A process, started by the command `before`, that asks to hold."""
    command = [*before, "sleep", "1000"]
    with subprocess.Popen(command, env={"PATH": os.defpath, "PYSSH_HOLD": "1"}) as process:
        until(lambda: (processes.PROC / str(process.pid) / "comm").read_text() == "sleep\n", what="sleep")
        yield process.pid
        process.kill()


def owner_of(pid: int) -> Owner:
    """The account and group of the process."""
    found = (processes.PROC / str(pid)).stat()
    return Owner(found.st_uid, found.st_gid)


def test_an_account_s_processes_are_read_with_its_rights(holding: int, nobodys: int) -> None:
    """Protects a server without CAP_SYS_PTRACE: each account's processes are read by a child that is this account."""
    assert pwd.getpwuid(owner_of(nobodys).uid).pw_name == "nobody"
    found = look("/proc", {pid: owner_of(pid) for pid in (holding, nobodys)})
    assert {pid: facts.hold for pid, facts in found.items()} == {holding: WHILE_IT_RUNS, nobodys: WHILE_IT_RUNS}


def test_nothing_is_read_with_other_rights(holding: int, is_root: bool) -> None:
    """Protects memory from other accounts: the child has no rights left but those of the account that it looks for."""
    if not is_root:
        pytest.skip("only root has other accounts")
    nobody = pwd.getpwnam("nobody")
    assert look("/proc", {holding: Owner(nobody.pw_uid, nobody.pw_gid)}) == {holding: Facts()}


def test_root_reads_no_environment_of_others(nobodys: int) -> None:
    """Protects memory that can't be traced, as ssh-agent's: /proc shows root as its owner, who does not read it."""
    assert look("/proc", {nobodys: Owner(accounts.ROOT, accounts.ROOT)})[nobodys].hold == 0


def test_what_has_gone_has_no_facts() -> None:
    """A process that ends meanwhile, or whose files are no numbers, is told as one that has moved nothing."""
    with leaks.nothing_left_open():
        assert look("/proc", {2**22 + 1: OWN}) == {2**22 + 1: Facts()}
        assert look("/proc", {}) == {}


def test_an_account_whose_memory_hangs_delays_only_itself(
    tmp_path: Path, holding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects others' builds from an account with a file system that never answers: theirs are still seen."""
    monkeypatch.setattr(accounts, "LOOK_SECONDS", 2.0)
    monkeypatch.setattr("signal.alarm", lambda _seconds: 0)  # the children's own guard, for a parent that is dead
    for pid in ("7", str(holding)):
        (tmp_path / pid).mkdir()
        for name in ("io", "status"):
            (tmp_path / pid / name).write_text("wchar: 5\nUid:\t0\t0\t0\t0\n")
    (tmp_path / str(holding) / "environ").write_bytes(b"PYSSH_HOLD=2h\0")
    os.mkfifo(tmp_path / "7" / "environ")  # nobody ever writes to it
    assert stat.S_ISFIFO((tmp_path / "7" / "environ").stat().st_mode)
    tmp_path.chmod(0o755)
    began = time.monotonic()
    with leaks.nothing_left_open():
        found = look(str(tmp_path), {7: Owner(OWN.uid, OWN.gid + 1), holding: OWN})
    assert found == {holding: Facts(5, 7200)}
    assert time.monotonic() - began < PATIENCE
    assert not [one for one in processes.descendants(os.getpid()) if one.pid != holding]


def test_what_a_child_tells_is_checked() -> None:
    """Protects the sample from a child that an account has got hold of: it tells of its own processes, and sanely."""
    told = [(5, 7, 60.0), (6, 7, 60.0), (5 + 1, -1, 0.0), (8, 0, float("nan")), (9, 0, float("inf")), (10, 0, -1.0)]
    packed = b"".join(accounts._RECORD.pack(*one) for one in told)  # noqa: SLF001 - the format is the module's own
    known = {5, 8, 9, 10}
    assert accounts._decoded(packed + b"half a record", known) == {5: Facts(7, 60.0)}  # noqa: SLF001


def test_io_of_any_form_is_a_number() -> None:
    """A kernel without I/O accounting tells nothing, which is no error."""
    moved = accounts._moved  # noqa: SLF001
    assert moved(b"") == 0
    assert moved(b"rchar: 9\nwchar: 3\nread_bytes: 1\nwrite_bytes: 1\n") == 4
    assert moved(b"wchar: 3\nread_bytes: 4\nwrite_bytes: 5\n") == 9
