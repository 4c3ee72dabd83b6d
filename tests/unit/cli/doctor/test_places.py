"""The directories of the server's state."""

import os
from pathlib import Path

import pytest

from pyssh_gateway.cli.doctor import places
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.config.types import Config
from pyssh_gateway.startup import state_lock
from tests.support.account import PREAUTH_NAME


@pytest.fixture
def config(tmp_path: Path, account: object) -> Config:
    """A configuration whose directories do not exist yet."""
    keys, audit = str(tmp_path / "keys"), str(tmp_path / "audit")
    return Config(keys_dir=keys, audit_dir=audit, account="nobody", preauth_account=PREAUTH_NAME)


def look(config: Config, own: frozenset[int] = frozenset()) -> list[Finding]:
    """The findings; each that needs action must say what to do."""
    found = list(places.look_at_places(config, own))
    assert all(each.hint for each in found if each.level is not Level.OK)
    return found


def test_directories_that_are_to_be_made_are_fine(config: Config, tmp_path: Path) -> None:
    """Before the first start no directory exists, and looking makes none."""
    found = look(config)
    assert [each.level for each in found] == [Level.OK, Level.OK]
    assert found[0].text.startswith(f"keys_dir: {tmp_path}/keys is made at the start, where there is ")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_everybody_may_write_to_is_a_problem(config: Config, tmp_path: Path) -> None:
    """A directory that everybody may write to is a problem, as it is at a start."""
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit").chmod(0o777)
    (found,) = [each for each in look(config) if each.level is Level.PROBLEM]
    assert found.text.startswith("audit_dir: everybody may write to ")


def test_another_server_is_a_problem_and_ones_own_is_not(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start refuses two servers on one log, so the doctor reports another server beforehand."""
    monkeypatch.setattr(state_lock, "problems", lambda _config: ["audit_dir: process 7 uses it"])
    (found,) = [each for each in look(config) if each.level is Level.PROBLEM]
    assert found.text == "audit_dir: process 7 uses it"
    assert [each.level for each in look(config, frozenset({7}))] == [Level.OK, Level.OK]


@pytest.mark.parametrize(
    ("free", "files", "level"),
    [(0, 1000, Level.PROBLEM), (2**26, 1000, Level.WARNING), (2**30, 5, Level.WARNING), (2**30, 1000, Level.OK)],
)
def test_a_disk_that_is_full_is_seen(
    config: Config, monkeypatch: pytest.MonkeyPatch, free: int, files: int, level: Level
) -> None:
    """A full disk is reported, since it loses lines of the log and the last good copies of keys."""
    room = os.statvfs_result((4096, 1, 2**20, free, free, 1000, files, files, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: room)
    assert {each.level for each in look(config)} == {level}
