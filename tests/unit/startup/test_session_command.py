"""How sessions find the command, wherever the server was started from."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyssh_gateway.startup import session_command
from pyssh_gateway.startup.session_command import provide
from tests.support.waiting import PATIENCE

NOWHERE = b"/nonexistent"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that started the server, in a virtual environment with its own python."""
    path = tmp_path / "venv" / "bin" / "pyssh-gateway"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\necho asked\n")
    path.chmod(0o755)
    (path.parent / "python").write_text("")
    monkeypatch.setattr(sys, "argv", [str(path), "serve"])
    monkeypatch.setattr(session_command, "_everybody_can_run", lambda _: True)
    return path


def test_sessions_get_the_command_and_nothing_beside_it(script: Path, tmp_path: Path) -> None:
    """The directory at the end of PATH has only our command: pip must not be that of the server's environment."""
    command = provide(str(tmp_path / "run" / "control.sock"), trial=False, path=NOWHERE)
    directory = Path(os.fsdecode(command.directory))
    assert [entry.name for entry in directory.iterdir()] == ["pyssh-gateway"]
    assert subprocess.check_output([directory / "pyssh-gateway"], text=True, timeout=PATIENCE) == "asked\n"
    assert not stat.S_IMODE(directory.stat().st_mode) & 0o022


def test_another_start_leads_to_its_own_command(script: Path, tmp_path: Path) -> None:
    """A link that an earlier server has left is changed to the current command."""
    place = str(tmp_path / "run" / "control.sock")
    directory = Path(os.fsdecode(provide(place, trial=False, path=NOWHERE).directory))
    (directory / "pyssh-gateway").unlink()
    (directory / "pyssh-gateway").symlink_to("/nonexistent/pyssh-gateway")
    provide(place, trial=False, path=NOWHERE)
    assert (directory / "pyssh-gateway").readlink() == script


def test_an_installation_needs_nothing(script: Path, tmp_path: Path) -> None:
    """If everybody finds the command already, nothing is made and PATH stays unchanged."""
    command = provide(
        str(tmp_path / "run" / "control.sock"), trial=True, link_in=tmp_path, path=NOWHERE + b":" + bytes(script.parent)
    )
    assert (command.directory, command.remark) == (b"", "")
    assert not (tmp_path / "run").exists()


def test_a_place_that_others_can_write_to_is_not_used(script: Path, tmp_path: Path) -> None:
    """Protects everybody's PATH from a directory into which others could put programs."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    command = provide(str(shared / "control.sock"), trial=False, path=NOWHERE)
    assert command.directory == b""
    assert not (shared / "bin").exists()


def test_a_checkout_under_the_umask_of_many_machines_will_do(script: Path, tmp_path: Path) -> None:
    """A directory that its group can write is accepted if the group has no other member, as on many machines."""
    keys_dir = tmp_path / "keys"
    keys_dir.mkdir()
    keys_dir.chmod(0o775)
    assert provide(str(keys_dir / "control.sock"), trial=False, path=NOWHERE).directory == bytes(keys_dir / "bin")


def test_without_a_control_socket_there_is_nothing_to_ask(script: Path) -> None:
    """With `control = "off"` no command is provided, as none could reach the server."""
    assert provide(None, trial=True, path=NOWHERE).directory == b""


def test_a_trial_has_a_link_while_it_lasts(script: Path, tmp_path: Path) -> None:
    """Login shells that set PATH anew find it, too; it is removed with the server, and an existing file stays."""
    link = tmp_path / "home" / ".local" / "bin" / "pyssh-gateway"
    (tmp_path / "home").mkdir()
    place = str(tmp_path / "run" / "control.sock")
    command = provide(place, trial=True, link_in=link.parent, path=NOWHERE)
    assert link.readlink() == script
    command.take_away()
    assert not list((tmp_path / "home").iterdir())
    link.parent.mkdir(parents=True)
    link.symlink_to("/nonexistent/of-a-server-that-was-killed")
    provide(place, trial=True, link_in=link.parent, path=NOWHERE).take_away()
    assert not os.path.lexists(link)
    killed = provide(place, trial=True, link_in=link.parent, path=NOWHERE)
    assert killed.directory
    again = provide(place, trial=True, link_in=link.parent, path=bytes(link.parent))
    assert link.readlink() == script
    again.take_away()
    assert not os.path.lexists(link)
    assert not os.path.lexists(tmp_path / "run" / "trial-link")
    link.write_text("somebody's")
    provide(place, trial=True, link_in=link.parent, path=NOWHERE).take_away()
    assert link.read_text() == "somebody's"


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary account logs in to itself, and can read its own")
def test_what_is_in_roots_home_is_copied_for_a_trial(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login account can't read a checkout under /root: it gets a copy that runs alone, without root's files."""
    monkeypatch.setattr(session_command, "_everybody_can_run", lambda _: False)
    monkeypatch.setattr(session_command, "_everybody_can_read", lambda _: True)
    link = tmp_path / "local" / "pyssh-gateway"
    provide(str(tmp_path / "run" / "control.sock"), trial=True, link_in=link.parent, path=NOWHERE)
    ran = subprocess.run(
        [link, "check", "--config", "/nonexistent/config.toml"],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "/nonexistent/config.toml: cannot be read" in ran.stderr
    assert "Traceback" not in ran.stderr
    # A module that the copy lacks is one line, and zstd, which the log's readers need, is there.
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "events.jsonl").write_bytes(b"")

    def audit(*words: str) -> str:
        command = ["env", "-i", "PATH=/usr/bin:/bin", str(link), "audit", *words, "--dir", str(tmp_path / "log")]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stderr

    for words in (["replay", "c9.9"], ["verify"], ["show", "c9"]):
        said = audit(*words)
        assert "Traceback" not in said
        assert "Python package" not in said
    (tmp_path / "run" / "command" / "library" / "msgspec" / "__init__.py").rename(tmp_path / "msgspec.py")
    (tmp_path / "run" / "command" / "library" / "msgspec").rename(tmp_path / "away")
    assert re.fullmatch(r".*this needs the Python package msgspec, which .* does not have\n", audit("show", "c9"))
    everything = [path for path in (tmp_path / "run" / "command").rglob("*") if not path.is_symlink()]
    assert len(everything) > 100
    assert all(path.stat().st_mode & 0o004 and not path.stat().st_mode & 0o022 for path in everything)
    assert provide(str(tmp_path / "run" / "control.sock"), trial=False, path=NOWHERE).directory == b""
