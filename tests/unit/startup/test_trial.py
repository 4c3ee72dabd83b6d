"""What `make run` adds without a configuration: which account may log in with which keys."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.startup import trial
from tests.support.account import other_account
from tests.support.key_lines import ed25519
from tests.support.waiting import PATIENCE

KEY = ed25519().decode() + " amos\n"
ME = pwd.getpwuid(os.geteuid()).pw_name
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with an empty .ssh."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setattr(trial, "_home", lambda: directory)
    entry = pwd.struct_passwd((ME, "x", os.geteuid(), os.getegid(), "", str(directory), "/bin/bash"))
    looked_up = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry if name == ME else looked_up(name))
    return directory


def test_github_keys_are_taken_as_asked(tmp_path: Path) -> None:
    """`make run GITHUB=<login>` accepts that account's keys and no others."""
    tried = trial.set_up(ME, "example", tmp_path)
    assert tried.login == {"user": ME, "keys": ["github:example"]}
    assert tried.identity == ""
    assert not list(tmp_path.iterdir())


def test_own_public_keys_are_found(home: Path, tmp_path: Path) -> None:
    """Without a GitHub login the public keys in ~/.ssh are used, but no certificates, private keys or nonsense."""
    for name in ("id_ed25519", "id_ed25519.pub", "id_rsa.pub", "id_ed25519-cert.pub", "config"):
        (home / ".ssh" / name).write_text(KEY)
    (home / ".ssh" / "broken.pub").write_text("this is no key\n")
    tried = trial.set_up(ME, None, tmp_path)
    assert tried.login["keys"] == [f"file:{home}/.ssh/id_ed25519.pub", f"file:{home}/.ssh/id_rsa.pub"]
    assert tried.identity == ""
    assert tried.remarks == [f"{home}/.ssh/broken.pub is left out: there is no usable public key in it"]


def test_the_keys_of_a_cloud_machine_are_in_authorized_keys(home: Path, tmp_path: Path) -> None:
    """The keys in authorized_keys, sshd's file, are used, as on a cloud machine, and no demo key is made."""
    (home / ".ssh" / "authorized_keys").write_text(f"# provisioned\n{KEY}")
    tried = trial.set_up(ME, None, tmp_path)
    assert tried.login["keys"] == [f"file:{home}/.ssh/authorized_keys"]
    assert (tried.identity, tried.remarks) == ("", [])


@pytest.mark.parametrize("text", ["", "# nothing yet\n", f'command="echo Please login as the user debian" {KEY}'])
def test_a_key_file_that_lets_nobody_into_a_shell_is_none(text: str, home: Path, tmp_path: Path) -> None:
    """A file that is empty, or whose key has a command, as root's in cloud images, is left out."""
    (home / ".ssh" / "authorized_keys").write_text(text)
    tried = trial.set_up(ME, None, tmp_path)
    assert tried.identity
    assert any("authorized_keys is left out" in remark for remark in tried.remarks)


def test_without_a_key_there_is_a_demo_key(home: Path, tmp_path: Path) -> None:
    """A person without a key gets a demo key, with a remark, and the same key the next time."""
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


@pytest.mark.skipif(not IS_ROOT, reason="only root can make accounts")
def test_root_gets_an_account_to_log_in_to(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make run` as root, on a new machine, makes an account and says so; the next run uses it."""
    name = f"pyssh-dev-{os.getpid()}"
    monkeypatch.setattr(trial, "DEFAULT_ACCOUNT", name)
    try:
        tried = trial.set_up(None, "example", tmp_path)
        assert tried.login["user"] == name
        assert tried.remarks == [
            f"started by root: the account to log in to is {name}; USER_NAME=<account> names another",
            f"made the account {name}; to remove it: userdel --remove {name}",
        ]
        assert Path(pwd.getpwnam(name).pw_dir).is_dir()
        assert trial.set_up(None, "example", tmp_path).remarks == tried.remarks[:1]
    finally:
        subprocess.run(["/usr/sbin/userdel", "--remove", name], check=True, capture_output=True, timeout=PATIENCE)


@pytest.mark.skipif(not IS_ROOT, reason="only root can be behind sudo")
def test_behind_sudo_the_person_logs_in_as_themselves(home: Path, tmp_path: Path) -> None:
    """`sudo make run` lets the account that called sudo log in, with the keys in its own home."""
    with other_account("sudoer") as person:
        directory = Path(person.pw_dir, ".ssh")
        directory.mkdir()
        (directory / "authorized_keys").write_text(KEY)
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, person.pw_uid, person.pw_gid)
        tried = trial.set_up(None, None, tmp_path, person.pw_name)
        assert tried.login == {"user": person.pw_name, "keys": [f"file:{directory}/authorized_keys"]}


@pytest.mark.skipif(not IS_ROOT, reason="root has to name an account that is no person's")
def test_an_account_of_the_machines_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system account that has the default name is not used; the message says what to do."""
    monkeypatch.setattr(trial, "DEFAULT_ACCOUNT", "daemon")
    with pytest.raises(trial.TrialError, match="make run USER_NAME=<account>"):
        trial.set_up(None, "example", tmp_path)
    with pytest.raises(trial.TrialError, match="useradd can't make the account"):
        trial.set_up("no:such:name", "example", tmp_path)


@pytest.mark.skipif(IS_ROOT, reason="root may start sessions as anybody")
def test_others_can_only_let_in_themselves(tmp_path: Path) -> None:
    """If an ordinary account starts it, only that account can log in."""
    assert trial.set_up(None, "example", tmp_path).login["user"] == ME
    with pytest.raises(trial.TrialError, match=f"only {ME} can log in"):
        trial.set_up("root", "example", tmp_path)


def test_a_keys_directory_that_can_not_be_written_is_named(home: Path, tmp_path: Path) -> None:
    """The error names the directory, in one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(trial.TrialError, match=f"{tmp_path}/file"):
        trial.set_up(ME, None, tmp_path / "file" / "keys")


@pytest.mark.skipif(not IS_ROOT, reason="only root can make accounts")
def test_root_gets_the_account_for_strangers() -> None:
    """`make run` as root makes the account for strangers on a new machine; it can't log in, and is kept unchanged."""
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
    """An ordinary account makes none: it could not, and needs none."""
    assert trial.make_preauth_account("pyssh-nobody-makes-this") is None
