"""What `make run` adds: who may log in with what, when nothing is configured."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.startup import trial
from tests.support.waiting import PATIENCE

ME = pwd.getpwuid(os.geteuid()).pw_name
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with an empty .ssh."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setattr(trial, "_home", lambda: directory)
    return directory


def test_github_keys_are_taken_as_asked(tmp_path: Path) -> None:
    """`make run GITHUB=<login>` lets in that account's keys and nobody else's."""
    tried = trial.set_up(ME, "example", tmp_path)
    assert tried.login == {"user": ME, "keys": ["github:example"]}
    assert tried.identity == ""
    assert not list(tmp_path.iterdir())


def test_own_public_keys_are_found(home: Path, tmp_path: Path) -> None:
    """Without a GitHub login, the public keys in ~/.ssh; certificates and private keys are none."""
    for name in ("id_ed25519", "id_ed25519.pub", "id_rsa.pub", "id_ed25519-cert.pub", "config"):
        (home / ".ssh" / name).write_text("x")
    tried = trial.set_up(ME, None, tmp_path)
    assert tried.login["keys"] == [f"file:{home}/.ssh/id_ed25519.pub", f"file:{home}/.ssh/id_rsa.pub"]
    assert tried.identity == ""


def test_without_a_key_there_is_a_demo_key(home: Path, tmp_path: Path) -> None:
    """Who has no key gets one to try with, is told so, and gets the same one the next time."""
    keys_dir = tmp_path / "keys"
    tried = trial.set_up(ME, None, keys_dir)
    assert tried.identity == str(keys_dir / trial.DEMO_KEY_NAME)
    assert tried.login["keys"] == [f"file:{tried.identity}.pub"]
    assert "made a demo key pair" in tried.remarks[-1]
    private = Path(tried.identity)
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes()
    again = trial.set_up(ME, None, keys_dir)
    assert private.read_bytes() == before
    assert "using the demo key pair" in again.remarks[-1]


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary account's own login needs no naming")
def test_root_has_to_name_an_account(tmp_path: Path) -> None:
    """Started by root, nobody is guessed: the message says what to do."""
    with pytest.raises(trial.TrialError, match="make run USER_NAME=<account>"):
        trial.set_up(None, "example", tmp_path)
    with pytest.raises(trial.TrialError, match="useradd can't make the account"):
        trial.set_up("no:such:name", "example", tmp_path)


@pytest.mark.skipif(IS_ROOT, reason="root may start sessions as anybody")
def test_others_can_only_let_in_themselves(tmp_path: Path) -> None:
    """Started by an ordinary account, only that account can log in."""
    assert trial.set_up(None, "example", tmp_path).login["user"] == ME
    with pytest.raises(trial.TrialError, match=f"only {ME} can log in"):
        trial.set_up("root", "example", tmp_path)


def test_a_keys_directory_that_can_not_be_written_is_named(home: Path, tmp_path: Path) -> None:
    """One line says which directory it is."""
    (tmp_path / "file").write_text("")
    with pytest.raises(trial.TrialError, match=f"{tmp_path}/file"):
        trial.set_up(ME, None, tmp_path / "file" / "keys")


@pytest.mark.skipif(not IS_ROOT, reason="only root can make accounts")
def test_root_gets_the_account_for_strangers() -> None:
    """`make run` as root starts on a machine that has nothing yet; the account can't log in, and stays as it is."""
    name = f"pyssh-trial-{os.getpid()}"
    try:
        remark = trial.make_preauth_account(name)
        assert remark == f"made the account {name}, which serves connections until they have logged in"
        entry = pwd.getpwnam(name)
        assert entry.pw_shell == "/usr/sbin/nologin"
        assert entry.pw_uid not in {0, pwd.getpwnam("nobody").pw_uid}
        assert trial.make_preauth_account(name) is None
        assert pwd.getpwnam(name) == entry
    finally:
        subprocess.run(["/usr/sbin/userdel", name], check=True, capture_output=True, timeout=PATIENCE)


@pytest.mark.skipif(IS_ROOT, reason="for an ordinary account there is nothing to make")
def test_an_ordinary_account_makes_no_account() -> None:
    """Nobody but root could, and nobody but root needs it."""
    assert trial.make_preauth_account("pyssh-nobody-makes-this") is None
