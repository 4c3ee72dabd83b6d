"""A login in a chroot, with the real clients: what it can copy, what it can't reach, and the errors that it gets."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.chroots import roots_own_directory
from tests.support.client import Client, Result, client_environment
from tests.support.forwards import Master, Target, answer, dial, echo
from tests.support.reloads import Config
from tests.support.server import Server
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another root directory")

SECRET = b"not for the one who is locked in"


@pytest.fixture(scope="module")
def outside(account: pwd.struct_passwd) -> Iterator[Path]:
    """The directory of the jail, with a secret beside it that the account could read without the chroot."""
    with roots_own_directory() as path:
        (path / "secret").write_bytes(SECRET)
        incoming = path / account.pw_name / "in"
        incoming.mkdir(parents=True)
        os.chown(incoming, account.pw_uid, account.pw_gid)
        yield path


@pytest.fixture(scope="module")
def jailed(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair, outside: Path
) -> Iterator[Client]:
    """A client of a server that confines its login to the chroot."""
    settings = {"chroot": f"{outside}/%u", "force_command": "internal-sftp -d /in"}
    keys = [f"file:{user_key.public}"]
    with Server(tmp_path_factory.mktemp("jail"), login=account.pw_name, keys=keys, login_settings=settings) as server:
        yield Client(server, user_key.private)


@pytest.fixture(autouse=True)
def clean(outside: Path, account: pwd.struct_passwd) -> Iterator[None]:
    """Restores the jail after each test."""
    yield
    jail = outside / account.pw_name
    jail.chmod(0o755)
    for left in (jail / "in").iterdir():
        left.unlink()


def run(client: Client, program: str, *arguments: str, batch: str = "") -> Result:
    """OpenSSH's sftp or scp, with these arguments."""
    argv = [program, "-q", *client.options(), *arguments]
    done = subprocess.run(
        argv, input=batch.encode(), capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    return Result(done.returncode, done.stdout, done.stderr)


def sftp(client: Client, batch: str) -> Result:
    """OpenSSH's sftp with these commands."""
    return run(client, "sftp", "-b", "-", f"{client.server.login}@127.0.0.1", batch=batch)


def test_copies(jailed: Client, outside: Path, account: pwd.struct_passwd, tmp_path: Path) -> None:
    """Protects the purpose of a chroot: sftp and scp work both ways, where the account alone may write."""
    (tmp_path / "f").write_bytes(b"content")
    jail = outside / account.pw_name
    done = sftp(jailed, f"pwd\nput {tmp_path}/f\n-put {tmp_path}/f /g\nls -la /\nget f {tmp_path}/g\nrename f h\n")
    assert done.status == 0, done
    assert b"Remote working directory: /in\n" in done.stdout
    assert account.pw_name.encode() in done.stdout  # although the jail has no /etc/passwd
    assert b'dest open "/g": Permission denied' in done.stderr
    assert (tmp_path / "g").read_bytes() == (jail / "in" / "h").read_bytes() == b"content"
    assert (jail / "in" / "h").stat().st_uid == account.pw_uid
    far = f"{jailed.server.login}@127.0.0.1:"
    assert run(jailed, "scp", str(tmp_path / "f"), f"{far}/in/i").status == 0
    assert run(jailed, "scp", f"{far}i", str(tmp_path / "i")).status == 0
    assert (tmp_path / "i").read_bytes() == b"content"


def test_ways_out(jailed: Client, outside: Path, account: pwd.struct_passwd, tmp_path: Path) -> None:
    """Protects the machine: no path, link or name leads out, even to what the account may read otherwise."""
    jail = outside / account.pw_name
    (jail / "in" / "roots").symlink_to(outside / "secret")  # made by root, by mistake
    secret = f"{outside}/secret"
    ways = [
        *(f"/../{secret}", "../../secret", f"/in/../../..{secret}", secret, "roots"),
        *("up", f"root{secret}", "/proc/self/root/etc/passwd", "/proc/1/root/etc/passwd", "/etc/passwd", "hard"),
    ]
    links = "-ln -s ../../secret up\n-ln -s / root\n-ln ../../secret hard\n-rename ../../secret moved\n"
    gets = "".join(f"-get {way} {tmp_path}/taken{number}\n" for number, way in enumerate(ways))
    done = sftp(jailed, f"{links}{gets}cd root\npwd\nls\ncd ../../../..\npwd\nls /\n-mkdir /../new\n")
    assert done.status == 0, done
    assert not list(tmp_path.glob("taken*")), done
    assert done.stderr.count(b"not found") == len(ways) - 2, done  # sftp says nothing about links that lead nowhere
    assert done.stdout.count(b"Remote working directory: /\n") == 2
    assert sorted(path.name for path in outside.iterdir()) == sorted([account.pw_name, "secret"])
    assert (outside / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("options", [("-T",), ("-tt",)], ids=["pipes", "terminal"])
def test_nothing_but_sftp(jailed: Client, options: tuple[str, ...]) -> None:
    """Protects people who run `ssh` there: they are refused at once, with sshd's message."""
    for command in ("id", None, "scp -f /etc/passwd"):
        done = jailed.run(command, *options)
        assert (done.status, done.stdout.strip()) == (1, b"This service allows sftp connections only.")


def test_forwarding(jailed: Client, outside: Path, scratch: Path, tmp_path: Path) -> None:
    """Protects sockets outside, which the account could reach otherwise; ports follow the configuration, as in sshd."""
    with Target(echo) as port, Target(echo, str(scratch / "s")), Master(jailed, tmp_path) as master:
        master.forward("-L", f"{tmp_path}/a:127.0.0.1:{port.port}")
        assert answer(str(tmp_path / "a"), b"hello") == b"hello"
        master.forward("-L", f"{tmp_path}/b:{scratch}/s")
        with dial(str(tmp_path / "b")) as sock, suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        assert master.control("forward", "-R", f"{scratch}/r:127.0.0.1:1").status != 0
    assert not (scratch / "r").exists()
    denied = jailed.server.wait_for("request.denied", request=f"direct-streamlocal {scratch}/s")
    assert denied["reason"] == "forwarding is not permitted"


def test_a_directory_that_others_may_write_to(jailed: Client, outside: Path, account: pwd.struct_passwd) -> None:
    """Protects against a jail that confines nobody: the session is refused and names the directory that is wrong."""
    (outside / account.pw_name).chmod(0o777)
    done = sftp(jailed, "pwd\n")
    assert done.status == 255
    wrong = f"can't start the session: {outside}/{account.pw_name} has mode 0777, and only root may write there"
    assert wrong.encode() in done.stderr


def test_what_is_started_is_inside(jailed: Client, outside: Path, account: pwd.struct_passwd) -> None:
    """Protects against what no client can see: its root is there, no other directory is open, it has no rights."""
    since = jailed.server.mark()
    argv = ["sftp", "-q", *jailed.options(), f"{jailed.server.login}@127.0.0.1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(argv, env=client_environment(), **pipes) as running:  # type: ignore[call-overload]  # by name
        try:
            # The end of an earlier client's session may be in the log only now, so this client's own is asked for.
            conn = jailed.server.wait_for("connection.authenticated", since=since)["conn"]
            process = Path("/proc") / str(jailed.server.wait_for("session.opened", conn=conn)["pid"])
            running.stdin.write(b"pwd\n")
            running.stdin.flush()
            assert b"/in" in running.stdout.readline() + running.stdout.readline()
            jail = outside / account.pw_name
            assert ((process / "root").readlink(), (process / "cwd").readlink()) == (jail, jail / "in")
            assert {str(each.readlink()).partition(":")[0] for each in (process / "fd").iterdir()} == {"pipe"}
            status = (process / "status").read_text()
            assert f"Uid:\t{account.pw_uid}\t{account.pw_uid}\t{account.pw_uid}" in status
            assert "CapEff:\t0000000000000000" in status
        finally:
            running.stdin.close()


def test_a_reload_locks_in(make_server: MakeServer, user_key: KeyPair, outside: Path, tmp_path: Path) -> None:
    """Protects a chroot that is configured later: a connection from before it gets no shell any more."""
    server = make_server()
    client = Client(server, user_key.private)
    with Master(client, tmp_path) as master:
        assert master.run("true").status == 0
        (login,) = server.settings["login"]
        Config(server).reload({"login": [login | {"chroot": f"{outside}/%u"}]})
        refused = master.run("true")
        assert (refused.status, b"nothing but SFTP is served to this account" in refused.stderr) == (254, True)
    done = sftp(client, "ls /\n")
    assert (done.status, done.stdout.split()[-1]) == (0, b"/in")
