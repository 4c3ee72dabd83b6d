"""A forced internal-sftp, with the real clients: what it permits, how it refuses other commands, and nologin shells."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.clients.test_machine_rules import admin
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, Result, client_environment
from tests.support.commands import as_root
from tests.support.server import Server
from tests.support.waiting import PATIENCE

ONLY = b"This service allows sftp connections only."


def sftp(client: Client, batch: str) -> Result:
    """OpenSSH's sftp with these commands."""
    argv = ["sftp", "-q", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    done = subprocess.run(
        argv, input=batch.encode(), capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def forced(make_server: MakeServer, user_key: KeyPair, scratch: Path) -> Client:
    """A client of a server that forces a read-only SFTP server which starts in `scratch`."""
    command = f"internal-sftp -R -d {scratch}"
    return Client(make_server(login_settings={"force_command": command}), user_key.private)


def test_it_is_obeyed(forced: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects the purpose of a read-only key: reading works, from the configured directory, and nothing is changed."""
    (scratch / "f").write_bytes(b"content")
    done = sftp(forced, f"get f {tmp_path}/f\n-put {tmp_path}/f g\n-rm f\n-mkdir d\n")
    assert done.status == 0
    assert done.stderr.count(b"Permission denied") == 3, done
    assert (tmp_path / "f").read_bytes() == b"content"
    assert [path.name for path in scratch.iterdir()] == ["f"]
    opened = forced.server.wait_for("session.opened")
    assert (opened["kind"], opened["requested"]) == ("subsystem", "subsystem sftp")
    assert opened["command"] == f"internal-sftp -R -d {scratch}"


@pytest.mark.parametrize("asked", [["ls"], [], ["-tt"]], ids=["command", "shell", "terminal"])
def test_others_are_told(forced: Client, asked: list[str]) -> None:
    """Protects people who run `ssh` with a key for copies only: sshd's message and status come at once."""
    options = ["-T"] if not asked else asked if asked == ["-tt"] else []
    done = forced.run("ls" if asked == ["ls"] else None, *options)
    assert (done.status, done.stdout.strip()) == (1, ONLY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the account another shell")
@pytest.mark.alone
def test_the_shell_is_not_asked(forced: Client, account: pwd.struct_passwd, scratch: Path) -> None:
    """Protects accounts for copies only, whose shell is nologin: as with sshd, the forced SFTP is served."""
    admin("usermod", "--shell", "/usr/sbin/nologin", account.pw_name)
    try:
        done = sftp(forced, "pwd\n")
        assert (done.status, str(scratch).encode() in done.stdout) == (0, True)
    finally:
        admin("usermod", "--shell", account.pw_shell, account.pw_name)


def test_a_key_that_can_not_be_obeyed(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects against a restriction without effect: the line lets nobody in, and `check` says what is wrong."""
    lines = tmp_path / "lines"
    lines.write_text(f'command="internal-sftp -P remvoe" {user_key.public.read_text()}')
    server = make_server(login_settings={"keys": [f"file:{lines}"]})
    client = Client(server, user_key.private)
    assert sftp(client, "pwd\n").status == 255
    checked = as_root(client, "check")
    assert checked.returncode == 1
    assert "line 1: options: command= can't be obeyed: internal-sftp -P: there is no request 'remvoe'" in (
        checked.stdout
    )


def test_a_configuration_that_can_not_be_obeyed(make_server: MakeServer, user_key: KeyPair) -> None:
    """The same for `login.force_command`: the server does not start, and says why."""
    server: Server = make_server(login_settings={"force_command": "internal-sftp -u 9"}, start=False)
    server.launch()
    assert server.wait() != 0
    problem = "login[0].force_command: internal-sftp -u: '9' is no mask of octal digits up to 777"
    assert problem in server.stderr
    checked = as_root(Client(server, user_key.private), "check")
    assert (checked.returncode, problem in checked.stdout) == (1, True)
