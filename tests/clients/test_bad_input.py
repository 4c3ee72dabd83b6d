"""Mistakes in a configuration and on a machine: each is reported in a clear line, and nothing is started."""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair
from tests.support.account import other_account
from tests.support.places import ROOT
from tests.support.server import DEFAULTS, Settings, to_toml
from tests.support.waiting import PATIENCE

MISSING = "pyssh-no-such-account"
"""An account that no machine has. The default name would not do: the server may be installed on this machine."""


class Refusal(NamedTuple):
    """The exit of a server that could not start."""

    status: int
    lines: list[str]
    stdout: str


class Machine(NamedTuple):
    """A place for a server, with a good configuration."""

    directory: Path
    settings: Settings

    def serve(self, *arguments: str, text: str | None = None, environ: dict[str, str] | None = None) -> Refusal:
        """Run the server on this configuration, or on `text`, until it gives up."""
        config = self.directory / "config.toml"
        config.write_text(to_toml(self.settings) if text is None else text)
        ended = subprocess.run(
            [sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(config), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=os.environ | (environ or {}),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in ended.stderr
        return Refusal(ended.returncode, ended.stderr.splitlines(), ended.stdout)


@pytest.fixture
def machine(tmp_path: Path, account: pwd.struct_passwd, user_key: KeyPair) -> Machine:
    """A machine on which a server would start."""
    places = {name: str(tmp_path / name.removesuffix("_dir")) for name in ("keys_dir", "audit_dir", "control")}
    login = [{"user": account.pw_name, "keys": [f"file:{user_key.public}"]}]
    return Machine(tmp_path, DEFAULTS | places | {"login": login})


def assert_one_line(refusal: Refusal, *words: str) -> None:
    """Fail unless the refusal is exit code 2 and one line with all of `words`."""
    assert refusal.status == 2, refusal
    assert refusal.stdout == ""
    assert len(refusal.lines) == 1, refusal.lines
    missing = [word for word in words if word not in refusal.lines[0]]
    assert not missing, f"{missing} not in {refusal.lines[0]!r}"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_port_taken(machine: Machine, taken_port: int) -> None:
    """Protects somebody who starts a second server: the error names the address, the port and the reason."""
    assert_one_line(machine.serve("--port", str(taken_port)), f"127.0.0.1:{taken_port}", "Address already in use")


def test_address_of_another_machine(machine: Machine) -> None:
    """Protects against an address that this machine does not have."""
    machine.settings["listen"] = {"address": "192.0.2.1", "port": 0}
    assert_one_line(machine.serve(), "192.0.2.1", "Cannot assign requested address")


def test_missing_key_file(machine: Machine) -> None:
    """Protects against a login that nobody could use: the error names the missing key file."""
    machine.settings["login"][0]["keys"] = [f"file:{machine.directory}/absent.pub"]
    assert_one_line(machine.serve(), f"{machine.directory}/absent.pub", "No such file")


def test_unreadable_key_file(machine: Machine, is_root: bool) -> None:
    """Protects against a key file that the server may not read: the start reports it, not the first login."""
    if is_root:
        pytest.skip("root reads everything")
    path = machine.directory / "secret.pub"
    path.touch(mode=0)
    machine.settings["login"][0]["keys"] = [f"file:{path}"]
    assert_one_line(machine.serve(), str(path), "Permission denied")


def test_directory_as_key_file(machine: Machine) -> None:
    """Protects against a key file that is a directory."""
    machine.settings["login"][0]["keys"] = [f"file:{machine.directory}"]
    assert_one_line(machine.serve(), str(machine.directory), "irectory")


def test_keys_directory_is_a_file(machine: Machine) -> None:
    """Protects against a keys_dir that is a file."""
    path = machine.directory / "keys"
    path.touch()
    assert_one_line(machine.serve(), str(path))


def test_keys_directory_not_writable(machine: Machine, is_root: bool) -> None:
    """Protects against a host key that can't be saved and would change at every start."""
    if is_root:
        pytest.skip("root writes everywhere")
    path = machine.directory / "keys"
    path.mkdir(mode=0o500)
    assert_one_line(machine.serve(), str(path), "Permission denied")


def test_audit_directory_is_a_file(machine: Machine) -> None:
    """Protects the log: a server that can't write it does not start."""
    path = machine.directory / "audit"
    path.touch()
    assert_one_line(machine.serve(), "audit_dir", str(path))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_host_key_that_others_can_read(machine: Machine, make_key: Callable[..., KeyPair], mode: int) -> None:
    """Protects the server's identity: a private key that others can read is not used."""
    path = machine.directory / "keys" / "ssh_host_ed25519_key"
    path.parent.mkdir()
    path.write_bytes(make_key().private.read_bytes())
    path.chmod(mode)
    assert_one_line(machine.serve(), str(path), f"{mode:04o}", "chmod 600")


def test_host_key_that_is_none(machine: Machine) -> None:
    """Protects against a broken host key file: the error names it, and it is not overwritten."""
    path = machine.directory / "keys" / "ssh_host_ed25519_key"
    path.parent.mkdir()
    path.write_text("nonsense\n")
    path.chmod(0o600)
    assert_one_line(machine.serve(), str(path), "not an ed25519 private key")
    assert path.read_text() == "nonsense\n"


def test_login_user_that_does_not_exist(machine: Machine) -> None:
    """Protects against a misspelt account."""
    machine.settings["login"][0]["user"] = "no-such-account"
    assert_one_line(machine.serve(), "login[0].user", "no-such-account")


def test_login_of_somebody_else(machine: Machine, is_root: bool) -> None:
    """Protects against a configuration that an ordinary account can't fulfil: only root can let in other accounts."""
    if is_root:
        pytest.skip("root can let in anybody")
    machine.settings["login"][0]["user"] = "root"
    assert_one_line(machine.serve(), "login[0].user", "only")


def test_no_login(machine: Machine) -> None:
    """Protects against a server that lets in nobody: the error says how to change that."""
    del machine.settings["login"]
    assert_one_line(machine.serve(), "[[login]]")


def test_configuration_that_is_not_there(machine: Machine) -> None:
    """Protects against starting with defaults when the named file is missing."""
    assert_one_line(machine.serve("--config", "/nonexistent/config.toml"), "/nonexistent/config.toml")


def test_configuration_that_is_not_toml(machine: Machine) -> None:
    """Protects against a syntax error in the file: the error names the line."""
    assert_one_line(machine.serve(text='keys_dir = "a"\n[listen\nport = 1\n'), "config.toml", "line 2")


def test_environment_with_a_mistake(machine: Machine) -> None:
    """Protects against a misspelt variable: it is reported by name and not ignored."""
    refusal = machine.serve(environ={"PYSSH_GATEWAY_IDLE__TIMEOUT": "soon"})
    assert_one_line(refusal, "idle.timeout", "soon", "PYSSH_GATEWAY_IDLE__TIMEOUT")


def test_every_mistake_is_told_at_once(machine: Machine) -> None:
    """Protects people's patience: one start reports every mistake, each in its own line with its path."""
    machine.settings.update(
        listen={"port": "ssh", "address": "example.org"},
        idle={"timout": "5m"},
        limits={"auth_attempts": 0},
        colour=True,
    )
    machine.settings["login"].append({"keys": []})
    refusal = machine.serve()
    assert (refusal.status, refusal.stdout) == (2, "")
    paths = ["listen.port", "listen.address", "idle.timout", "limits.auth_attempts", "colour", "login[1]"]
    for path in paths:
        assert [line for line in refusal.lines if f" {path}" in line], (path, refusal.lines)
    assert len(refusal.lines) == len(paths) + 1  # the second login lacks its user and has no keys


def test_mistakes_of_the_machine_are_told_at_once(machine: Machine) -> None:
    """Protects the same for mistakes that only the machine can show: accounts and files."""
    machine.settings["login"] = [
        {"user": "no-such-account", "keys": ["file:/nonexistent/one.pub"]},
        {"user": "nor-this-one", "keys": ["file:/nonexistent/two.pub"]},
    ]
    refusal = machine.serve()
    assert refusal.status == 2
    for words in ("no-such-account", "nor-this-one", "one.pub", "two.pub"):
        assert [line for line in refusal.lines if words in line], (words, refusal.lines)


@pytest.mark.parametrize("arguments", [("--bogus",), ("--port", "many"), ("--port",), ("--user", "somebody")])
def test_wrong_usage(machine: Machine, arguments: tuple[str, ...]) -> None:
    """Protects against a slip on the command line: the error says what is wrong, and shows the usage."""
    refusal = machine.serve(*arguments)
    assert refusal.status == 2
    assert refusal.lines[0].startswith("pyssh-gateway: ")
    assert any(line.startswith("usage:") for line in refusal.lines)


def test_nothing_is_left_of_a_failed_start(machine: Machine) -> None:
    """Protects the directory: a server that could not start has made no keys and no log."""
    machine.settings["login"][0]["user"] = "no-such-account"
    machine.serve()
    assert [path.name for path in machine.directory.iterdir()] == ["config.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two accounts")
@pytest.mark.parametrize("whose", ["root's", "a login's"])
def test_another_name_of_the_same_uid_is_the_same_account(
    machine: Machine, account: pwd.struct_passwd, whose: str
) -> None:
    """Protects the boundary between accounts: they are told apart by uid, as the kernel does."""
    uid, name = (0, "root") if whose == "root's" else (account.pw_uid, account.pw_name)
    with other_account("alias", "--non-unique", "--uid", str(uid)) as alias:
        changed = Machine(machine.directory, machine.settings | {"account": alias.pw_name})
        assert_one_line(
            changed.serve(), "account:", f"can't run as {alias.pw_name}", f"its uid, {uid}, is that of {name}"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two accounts")
def test_the_account_that_stands_in_is_nobody_that_logs_in(machine: Machine, user_key: KeyPair) -> None:
    """Protects the boundary where the network side has no account of its own: no login may be `nobody` then."""
    settings = {"login": [{"user": "nobody", "keys": [f"file:{user_key.public}"]}], "account": MISSING}
    refusal = Machine(machine.directory, machine.settings | settings).serve()
    assert_one_line(refusal, f"can't run as nobody, which stands in for {MISSING}", "make an account of its own")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary account serves strangers itself")
@pytest.mark.parametrize("name", [MISSING, "nobody"])
def test_strangers_need_an_account_of_their_own(machine: Machine, name: str) -> None:
    """Protects the isolation before a login: without the account, root can't start; the error names useradd."""
    settings = {"preauth_account": name, "account": MISSING}
    refusal = Machine(machine.directory, machine.settings | settings).serve()
    assert_one_line(refusal, "preauth_account: ", name, "useradd --system --no-create-home --shell /usr/sbin/nologin")
