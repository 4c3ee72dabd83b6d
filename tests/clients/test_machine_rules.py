"""The machine's own rules about a login: login records, expired accounts, shells that permit no login."""

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.system.sftp_program import SFTP_SERVERS
from tests.support.client import Client
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.alone


def admin(*command: str) -> None:
    """Change the account, as root."""
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    program = shutil.which(command[0], path=path)
    assert program is not None
    subprocess.run([program, *command[1:]], check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def root_only(is_root: bool) -> None:
    """Skips a test unless root runs it, who alone may change the machine's files and accounts."""
    if not is_root:
        pytest.skip("only root can change accounts and login records")


@pytest.fixture
def expired(root_only: None, account: pwd.struct_passwd) -> Iterator[None]:
    """The account has expired, for as long as the test lasts."""
    admin("chage", "-E", "1", account.pw_name)
    yield
    admin("chage", "-E", "-1", account.pw_name)


@pytest.fixture
def without_shell(root_only: None, account: pwd.struct_passwd) -> Iterator[None]:
    """The account's shell is nologin, for as long as the test lasts."""
    admin("usermod", "--shell", "/usr/sbin/nologin", account.pw_name)
    yield
    admin("usermod", "--shell", account.pw_shell, account.pw_name)


@pytest.fixture
def own_shell(root_only: None, account: pwd.struct_passwd, scratch: Path) -> Iterator[Path]:
    """The account's shell is a program that /etc/shells does not list, while the test lasts; at first it is bash."""
    shell = scratch / "mysh"
    shutil.copy("/bin/bash", shell)
    admin("usermod", "--shell", str(shell), account.pw_name)
    yield shell
    admin("usermod", "--shell", account.pw_shell, account.pw_name)


@pytest.mark.skipif(not Path("/var/log/wtmp").exists(), reason="this machine keeps no wtmp")
@pytest.mark.skipif(shutil.which("last") is None, reason="last is not installed")
def test_last_shows_the_session(root_only: None, client: Client, account: pwd.struct_passwd) -> None:
    """Protects `last`: it shows the person, the source, and that the session is over."""

    def lines(tty: str, state: str) -> list[str]:
        shown = subprocess.run(
            ["last", "-w", account.pw_name], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return [line for line in shown.stdout.splitlines() if f" {tty} " in line and state in line]

    with client.terminal("tty; read x") as terminal:
        tty = terminal.expect(r"/dev/(pts/\d+)")[1].decode()
        until(lambda: lines(tty, "still logged in"), what="session in wtmp")
        assert all("127.0.0.1" in line for line in lines(tty, "still logged in"))
        terminal.send("x\n")
        assert terminal.wait() == 0
    until(lambda: not lines(tty, "still"), what="end of the session in wtmp")


def test_an_expired_account_is_told_so(expired: None, client: Client) -> None:
    """Protects the machine from accounts that have expired: nothing runs, and the person is told why."""
    for command in (None, "echo ran"):
        result = client.run(command)
        assert result.status == 254
        assert b"ran" not in result.stdout
        assert b"expired" in result.stderr


def test_an_account_without_shell_gets_nothing(without_shell: None, client: Client, tmp_path: Path) -> None:
    """Protects accounts that are not for people: no command, and no files over SFTP, which would not use the shell."""
    result = client.run("echo ran")
    assert result.status != 0
    assert b"ran" not in result.stdout
    assert b"not available" in result.stdout + result.stderr
    command = ["sftp", *client.options(), f"{client.server.login}@127.0.0.1:/etc/passwd", str(tmp_path)]
    copied = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert copied.returncode != 0
    assert not list(tmp_path.iterdir())


def test_a_shell_that_no_list_has_gets_files(own_shell: Path, client: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects images with shells of their own: a shell that permits commands permits copies, and a menu does not."""
    if not any(Path(server).exists() for server in SFTP_SERVERS):
        pytest.skip("no sftp-server; the account can't run the Python of whoever runs the tests")
    (scratch / "file").write_text("content")
    command = ["sftp", *client.options(), f"{client.server.login}@127.0.0.1:{scratch}/file", str(tmp_path)]
    copied = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (copied.returncode, (tmp_path / "file").read_text()) == (0, "content"), copied.stderr
    (tmp_path / "file").unlink()
    own_shell.unlink()
    own_shell.write_text("#!/bin/sh\necho 'Press 1 for the news' >&2\n")
    own_shell.chmod(0o755)
    copied = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert copied.returncode != 0
    assert b"Press 1" in copied.stderr
    assert not list(tmp_path.iterdir())
