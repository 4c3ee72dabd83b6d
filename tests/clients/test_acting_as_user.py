"""Everything that is done for a user is done by a process with that user's rights, also when the server is root."""

import os
import pwd
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, dial, echo, free_port, listening_addresses, read_exactly
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else, and has to prove it")


@pytest.fixture
def master(client: Client, tmp_path: Path) -> Iterator[Master]:
    """A connection to the module's server, to which tests add forwards."""
    with Master(client, tmp_path) as running:
        yield running


@pytest.fixture
def roots() -> Iterator[Path]:
    """A directory that everybody may enter, with files of root's; pytest's directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="pyssh-test-roots-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def sftp(client: Client, batch: str) -> subprocess.CompletedProcess[bytes]:
    """OpenSSH's sftp with the commands of `batch`."""
    argv = ["sftp", "-q", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    return subprocess.run(
        argv, input=batch.encode(), capture_output=True, check=False, env=client_environment(), timeout=30
    )


def scp(client: Client, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """OpenSSH's scp; the server is `far:` in `arguments`."""
    far = f"scp://{client.server.login}@127.0.0.1:{client.server.port}/"
    argv = ["scp", "-q", *client.options(), *(argument.replace("far:", far) for argument in arguments)]
    return subprocess.run(argv, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE)


# -- files --------------------------------------------------------------------------------------------------------


def test_sftp_can_not_read_roots_files(client: Client, roots: Path, tmp_path: Path) -> None:
    """Protects /etc/shadow, and everything like it, from the account by way of SFTP and scp."""
    secret = roots / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    for path in (Path("/etc/shadow"), secret):
        got = sftp(client, f"get {path} {tmp_path}/stolen\n")
        assert got.returncode != 0
        assert b"Permission denied" in got.stderr
        assert scp(client, f"far:{path}", str(tmp_path / "stolen")).returncode != 0
        assert scp(client, "-O", f"far:{path}", str(tmp_path / "stolen")).returncode != 0
    assert not (tmp_path / "stolen").exists() or not (tmp_path / "stolen").stat().st_size
    assert sftp(client, "ls /root\n").returncode != 0


def test_sftp_can_not_write_where_the_account_can_not(client: Client, roots: Path, tmp_path: Path) -> None:
    """Protects the system's files: clients create, change, rename and remove only what the account may."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    file = roots / "file"
    file.write_text("root's")
    for command in (
        f"put {mine} {roots}/new",
        f"put {mine} {file}",
        f"rm {file}",
        f"rename {file} {roots}/other",
        f"chmod 777 {file}",
        f"mkdir {roots}/directory",
        f"ln -s /etc/passwd {roots}/link",
        f"put {mine} /etc/pyssh-test",
    ):
        assert sftp(client, f"{command}\n").returncode != 0, command
    assert file.read_text() == "root's"
    assert [entry.name for entry in roots.iterdir()] == ["file"]
    assert not Path("/etc/pyssh-test").exists()


def test_what_is_made_is_the_accounts(
    client: Client, scratch: Path, tmp_path: Path, account: pwd.struct_passwd
) -> None:
    """Protects the account's files: it owns what it creates, with the modes that a login would give."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    mine.chmod(0o666)
    assert sftp(client, f"mkdir {scratch}/d\nput {mine} {scratch}/d/sftp\nln -s d {scratch}/l\n").returncode == 0
    assert scp(client, str(mine), f"far:{scratch}/scp").returncode == 0
    assert scp(client, "-O", str(mine), f"far:{scratch}/scp-legacy").returncode == 0
    assert client.run(f"echo x >{scratch}/shell").status == 0
    made = {path.relative_to(scratch): path.lstat() for path in scratch.rglob("*")}
    assert len(made) == 6
    assert {(found.st_uid, found.st_gid) for found in made.values()} == {(account.pw_uid, account.pw_gid)}
    regular = {stat.S_IMODE(found.st_mode) for found in made.values() if stat.S_ISREG(found.st_mode)}
    assert regular == {0o644}
    assert stat.S_IMODE(made[Path("d")].st_mode) == 0o755


# -- sockets ------------------------------------------------------------------------------------------------------


def test_sockets_of_others_can_not_be_reached(master: Master, roots: Path, tmp_path: Path) -> None:
    """Protects docker.sock and its like: `-L` is refused to a socket that only root may use, and allowed to others."""
    path = roots / "sock"
    local = tmp_path / "l"
    with Target(echo, str(path)):
        path.chmod(0o600)
        master.forward("-L", f"{local}:{path}")
        with dial(str(local)) as sock:
            assert read_exactly(sock, 1) == b""
        until(lambda: "connect failed: Permission denied" in master.said, what="the reason")
        path.chmod(0o666)
        with dial(str(local)) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"


def test_peer_of_a_socket_is_the_account(
    master: Master, scratch: Path, tmp_path: Path, account: pwd.struct_passwd
) -> None:
    """Protects servers that ask the kernel for their peer (PostgreSQL's peer authentication): it is the account."""
    path = str(scratch / "sock")
    with Target(echo, path) as target:
        master.forward("-L", f"{tmp_path}/l:{path}")
        with dial(f"{tmp_path}/l") as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
        assert target.peers == [account.pw_uid]


def test_tcp_sockets_are_the_accounts(master: Master, tmp_path: Path, account: pwd.struct_passwd) -> None:
    """Protects firewall rules by owner: the kernel says that the account made both kinds of TCP socket."""
    with Target(echo) as target:
        master.forward("-L", f"{tmp_path}/l:127.0.0.1:{target.port}")
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        with dial(f"{tmp_path}/l") as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
            assert owners("remote", target.port) == {account.pw_uid}
            assert owners("local", port) == {account.pw_uid}


def owners(end: str, port: int) -> set[int]:
    """The uids that own TCP sockets with `port` at this end, without root's, which is the test process's."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1 if end == "local" else 2]
            if int(address.rpartition(":")[2], 16) == port and fields[3] in {"01", "0A"}:
                found.add(int(fields[7]))
    return found


def test_privileged_ports_are_roots(master: Master) -> None:
    """Protects port 80 from being opened for an ordinary account."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 80:
        pytest.skip("this machine lets everybody have port 80")
    before = listening_addresses(80)
    assert master.control("forward", "-R", "80:127.0.0.1:1").status != 0
    assert listening_addresses(80) == before
    assert master.run("exit 3").status == 3


def test_sockets_are_only_made_where_the_account_may(master: Master, roots: Path) -> None:
    """Protects root's directories: a forwarded socket can't be created in them."""
    for path in (Path("/root/pyssh-test.sock"), roots / "sock"):
        assert master.control("forward", "-R", f"{path}:127.0.0.1:1").status != 0
        assert not path.exists()
    assert master.run("exit 3").status == 3


def test_sockets_of_others_are_not_replaced(master: Master, scratch: Path) -> None:
    """Protects a stale socket of another owner, in a directory where the account may not remove it."""
    scratch.chmod(0o1777)
    os.chown(scratch, 0, 0)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(scratch / "sock"))
    assert master.control("forward", "-R", f"{scratch}/sock:127.0.0.1:1").status != 0
    assert (scratch / "sock").stat().st_uid == 0


# -- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sockets", "sftp"])
def acting(request: pytest.FixtureRequest, client: Client, server: Server, tmp_path: Path) -> Iterator[int]:
    """A process that acts for the account and is not a program of the account's: postauth, or its SFTP server."""
    before = server.mark()
    sockets = request.param == "sockets"
    started = client.popen(None, "-N", "-R", f"{free_port()}:127.0.0.1:1") if sockets else client.popen("sftp", "-s")
    try:
        if sockets:
            server.wait_for("forward.listening", since=before)
            (pid,) = [each.pid for each in processes.descendants(server.pid) if each.name == "pyssh-postauth"]
        else:
            pid = server.wait_for("session.opened", since=before, kind="subsystem")["pid"]
        yield pid
    finally:
        started.kill()
        started.communicate(timeout=PATIENCE)


def test_acting_process_is_the_account(acting: int, account: pwd.struct_passwd) -> None:
    """Protects against leftover rights: the kernel shows the account's uids, gids, groups and no capabilities."""

    def status() -> dict[str, list[str]]:
        lines = Path(f"/proc/{acting}/status").read_text().splitlines()
        return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}

    until(lambda: status()["Uid"] == [str(account.pw_uid)] * 4, what="the account's uid")
    found = status()
    assert found["Gid"] == [str(account.pw_gid)] * 4
    expected = {account.pw_gid, *os.getgrouplist(account.pw_name, account.pw_gid)}
    assert {int(group) for group in found["Groups"]} | {account.pw_gid} == expected
    assert {int(found[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


def test_acting_process_holds_only_its_own(acting: int, account: pwd.struct_passwd) -> None:
    """Protects the server's keys and log: a process that the account might take over has none of these files open."""

    def foreign() -> list[str]:
        ours = ("pipe:", "socket:", "/dev/null", "anon_inode:[eventpoll]", "/memfd:pyssh-gateway-errors ")
        return [target for target in processes.descriptors(acting) if not target.startswith(ours)]

    until(lambda: not foreign(), what="closed descriptors")


def test_acting_process_can_not_be_looked_into(acting: int, client: Client, server: Server) -> None:
    """Protects what is left in the memory of a process that was root a moment ago: the account can't read it."""
    for name in ("environ", "mem", "maps", "fd/0"):
        result = client.run(f"exec 3</proc/{acting}/{name}")
        assert result.status != 0, name
        assert b"Permission denied" in result.stderr
    assert client.run(f"grep -c . /proc/{acting}/environ").stdout.strip() in {b"", b"0"}


def test_an_account_is_served_by_one_process(client: Client, server: Server, tmp_path: Path) -> None:
    """Protects the machine's memory: the second connection of an account takes a hundred KiB, and not megabytes."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with Master(client, first) as one:
        before = server.postauth_pid
        with Master(client, second) as other:
            assert other.run("exit 3").status == 3
            assert server.postauth_pid == before
        assert one.run("exit 3").status == 3
        assert server.postauth_pid == before
