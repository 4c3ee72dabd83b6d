"""The rights of each kind of process in a working server, as the kernel shows them (proc(5))."""

import asyncio
import os
import pwd
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyssh_gateway.system.accounts import monitor_account
from pyssh_gateway.system.syscalls import seccomp
from tests.conftest import KeyPair
from tests.support import processes
from tests.support.account import PREAUTH_NAME, other_account, scratch_directory
from tests.support.client import Client
from tests.support.connections import held_by
from tests.support.load import load
from tests.support.server import DEFAULTS, Server
from tests.support.waiting import PATIENCE, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only a server that root has started has accounts to part"),
    pytest.mark.skipif(os.uname().machine not in seccomp.MACHINES, reason="there is no filter for this machine"),
]

NOTHING = "0" * 16
"""An empty set of capabilities."""

FILTERED = "2"
"""SECCOMP_MODE_FILTER, as it appears in /proc/PID/status (proc(5))."""


class Seen(NamedTuple):
    """A process of a server under load.

    `root` has the entries of its root directory, `owner` the uid that owns /proc/PID/environ.
    """

    status: dict[str, list[str]]
    descriptors: "Counter[str]"
    root: list[str]
    owner: int

    @property
    def walls(self) -> tuple[str, ...]:
        """NoNewPrivs, Seccomp, and all capability sets but the ambient one."""
        return tuple(self.status[name][0] for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapInh", "CapBnd"))

    @property
    def account(self) -> tuple[set[str], set[str], set[str]]:
        """Its uids, gids and groups."""
        return set(self.status["Uid"]), set(self.status["Gid"]), set(self.status["Groups"])


LOCKED_IN = ("1", FILTERED, NOTHING, NOTHING, NOTHING, NOTHING)
FREE = ("0", "0", NOTHING, NOTHING, NOTHING)


def look(pid: int) -> Seen:
    """The kernel's view of `pid`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    kinds = Counter(target.partition(":")[0] for target in processes.descriptors(pid))
    root = [path.name for path in Path(f"/proc/{pid}/root").iterdir()]
    return Seen(fields, kinds, root, Path(f"/proc/{pid}/environ").stat().st_uid)


NOT_ON = "daemon"
"""An account that every machine has, and that may log in but does not."""


WHEN_IT_WAITS = 7


def unassigned(server: Server) -> Seen | None:
    """The process that is kept ready for this account, once it waits for its assignment."""
    for pid in named(server, "pyssh-ahead"):
        found = look(pid)
        if found.descriptors.total() == WHEN_IT_WAITS:  # during its rehearsal it has more
            return found
    return None


class Under(NamedTuple):
    """The processes under load. `told` is the output of a user's session about its own postauth process."""

    spawner: Seen
    monitor: Seen
    preauth: Seen
    ahead: Seen
    postauth: dict[str, Seen]
    shell: Seen
    sftp: Seen
    told: str
    setuid: str
    user: pwd.struct_passwd
    other: pwd.struct_passwd


def named(server: Server, name: str) -> list[int]:
    """The processes of the server with that name."""
    return [process.pid for process in processes.descendants(server.pid) if process.name == name]


@pytest.fixture(scope="module")
def under(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Under]:
    """Looks at all processes while two accounts work and a stranger has connected."""
    with other_account("walls") as other, scratch_directory(account) as scratch:
        keys = [f"file:{user_key.public}"]
        settings = {"login": [{"user": name, "keys": keys} for name in (account.pw_name, other.pw_name, NOT_ON)]}
        tool = scratch / "id"
        shutil.copy("/usr/bin/id", tool)
        tool.chmod(0o4755)
        with Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys, settings=settings) as server:
            yield asyncio.run(seen(server, user_key, account, other, tool))


async def seen(server: Server, key: KeyPair, account: pwd.struct_passwd, other: pwd.struct_passwd, tool: Path) -> Under:
    """Look at the processes of `server`; `tool` is a setuid program of root's."""
    client = Client(server, key.private)
    async with (
        asyncio.timeout(PATIENCE),
        load(client, account.pw_name),
        load(client, other.pw_name),
        client.connect() as connection,
        connection.start_sftp_client(),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"SSH-2.0-test\r\n")
        await reader.readuntil(b"\n")
        await reader.readexactly(5)  # it has a process, which has sent KEXINIT
        port = writer.get_extra_info("sockname")[1]
        pid = until(lambda: held_by(server, port, "pyssh-preauth"), what="process that serves a stranger")
        assert pid is not None
        preauth = look(pid)
        ahead = until(lambda: unassigned(server), what="process for an account that is not on")
        assert ahead is not None
        owners = {pid: processes.owner(pid) for pid in named(server, "pyssh-postauth")}
        postauths = {
            entry.pw_name: pid for pid, uid in owners.items() for entry in (account, other) if entry.pw_uid == uid
        }
        shell = await connection.create_process("echo $$; read line")
        pid = int(await shell.stdout.readline())
        # An SFTP server is a fork of the spawner, without an exec.
        (sftp,) = [event["pid"] for event in server.find("session.opened", kind="subsystem")]
        told = await connection.run(
            f"for what in environ maps mem fd; do cat /proc/{postauths[account.pw_name]}/$what; done"
        )
        setuid = await connection.run(f"{tool} -u")
        found = Under(
            spawner=look(server.pid),
            monitor=look(server.gateway_pid),
            preauth=preauth,
            ahead=ahead,
            postauth={user: look(pid) for user, pid in postauths.items()},
            shell=look(pid),
            sftp=look(sftp),
            told=str(told.stderr),
            setuid=str(setuid.stdout),
            user=account,
            other=other,
        )
        writer.close()
        await writer.wait_closed()
        return found


def test_a_strangers_process_has_nothing(under: Under) -> None:
    """An attacker who breaks the SSH parser gets an account without rights, an empty directory, and one connection."""
    entry = pwd.getpwnam(PREAUTH_NAME)
    assert under.preauth.account == ({str(entry.pw_uid)}, {str(entry.pw_gid)}, set())
    assert under.preauth.walls == LOCKED_IN
    assert under.preauth.root == []
    assert under.preauth.owner == 0, "others of its account may look into it"
    # /dev/null, the file for its last words; client, monitor and the pair that wakes asyncio's loop; epoll.
    assert under.preauth.descriptors == {"/dev/null": 2, "/memfd": 1, "socket": 4, "anon_inode": 1}


def test_what_is_nobodys_yet_hears_the_spawner_alone(under: Under) -> None:
    """A process that is kept ready for a first login has the server's rights, so only the spawner can reach it."""
    assert under.ahead.account == under.spawner.account
    assert under.ahead.walls == under.spawner.walls
    assert under.ahead.owner == 0, "users may look into it"
    # /dev/null, the file for its last words; the assignment's socket and the pair that wakes asyncio's loop; epoll.
    assert under.ahead.descriptors == {"/dev/null": 2, "/memfd": 1, "socket": 3, "anon_inode": 1}


def test_the_monitor_is_an_account_that_can_start_nothing(under: Under) -> None:
    """An attacker who takes over the monitor can decide about logins, but gets no other account and starts nothing."""
    entry = monitor_account(DEFAULTS["account"])
    assert under.monitor.account == ({str(entry.pw_uid)}, {str(entry.pw_gid)}, set())
    assert under.monitor.walls == LOCKED_IN
    assert under.monitor.owner == 0, "others of its account may look into it"


def test_what_serves_a_user_is_the_user_and_no_more(under: Under) -> None:
    """An attacker who takes over postauth has that account, and gains nothing by setuid programs."""
    assert set(under.postauth) == {under.user.pw_name, under.other.pw_name}
    for entry in (under.user, under.other):
        seen = under.postauth[entry.pw_name]
        groups = {str(gid) for gid in os.getgrouplist(entry.pw_name, entry.pw_gid)}
        assert seen.account == ({str(entry.pw_uid)}, {str(entry.pw_gid)}, groups)
        assert seen.walls == LOCKED_IN


def test_users_cant_look_into_what_serves_them(under: Under) -> None:
    """Protects the keys of a shared account's other connections from anybody who has a shell of that account."""
    assert {seen.owner for seen in under.postauth.values()} == {0}
    assert under.told.count("Permission denied") == 4, under.told


def test_what_users_start_has_no_walls(under: Under) -> None:
    """Protects sudo: a session's processes have the user's groups and rights, as after any login."""
    groups = {str(gid) for gid in os.getgrouplist(under.user.pw_name, under.user.pw_gid)}
    for seen in (under.shell, under.sftp):
        assert seen.account == ({str(under.user.pw_uid)}, {str(under.user.pw_gid)}, groups)
        assert seen.walls[:-1] == FREE
        assert seen.walls[-1] == look(os.getpid()).walls[-1], "programs that it starts can't have all capabilities"
    assert under.setuid == "0\n"
