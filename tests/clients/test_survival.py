"""Failures around the server: memory runs out, its spawner is killed, an account is removed while it is logged in."""

import asyncio
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.account import other_account
from tests.support.client import Client
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can")

CAP_SYS_RESOURCE = 24
"""The capability to lower oom_score_adj (capabilities(7)), which many containers don't have."""

STARTED_WITH = 300
"""The value with which a test starts its server: every process may raise its own."""


def oom_score(pid: int) -> int:
    """How likely the kernel chooses `pid` when memory runs out (proc(5), oom_score_adj)."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def may_lower() -> bool:
    """Whether this process, and so a server that it starts, may lower it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")]
    return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)


def test_the_server_is_not_what_the_kernel_ends_first(
    make_server: MakeServer, user_key: KeyPair, scratch: Path
) -> None:
    """Protects the server when users fill the memory: like sshd's listener; its children get the original value."""
    written = scratch / "service"
    service = {"name": "one", "command": f"cat /proc/self/oom_score_adj >{written}; exec sleep 1000"}
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text(str(STARTED_WITH))
    try:
        me = pwd.getpwuid(os.geteuid()).pw_name
        server = make_server({"boot.service": [service | {"user": me}]})
    finally:
        own.write_text(before)
    client = Client(server, user_key.private)
    lowered = may_lower()
    assert oom_score(server.pid) == (-1000 if lowered else STARTED_WITH)
    assert oom_score(server.gateway_pid) == (-500 if lowered else STARTED_WITH)
    assert client.output("cat /proc/self/oom_score_adj") == f"{STARTED_WITH}\n"
    assert client.run("echo -1 >/proc/self/oom_score_adj").status == 1
    assert until(lambda: written.exists() and written.read_text(), what="the service's line") == f"{STARTED_WITH}\n"


# -- a spawner that was killed --------------------------------------------------------------------------------------


def status(server: Server) -> "subprocess.CompletedProcess[str]":
    """The result of `pyssh-gateway status` for this server's configuration."""
    command = [sys.executable, "-m", "pyssh_gateway", "status", "--config", str(server.config), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=ROOT)


def serves(server: Server) -> bool:
    """Whether this server answers, and not the previous one."""
    answer = status(server)
    return answer.returncode == 0 and f'"pid":{server.gateway_pid}' in answer.stdout.replace(" ", "")


def successor(server: Server, *, same_port: bool) -> Server:
    """A server with the configuration of `server`, to be started."""
    settings = {"stop": {"drain": "30s"}, "metrics": {"listen": str(server.directory / "metrics.sock")}}
    port = {"listen": {"port": server.port}} if same_port else {}
    keys = [f"file:{server.directory / 'user.pub'}"]
    return Server(server.directory, login=server.login, keys=keys, settings=settings | port)


@pytest.fixture
def first(make_server: MakeServer, user_key: KeyPair) -> Server:
    """A server whose spawner the test kills, with time for its sessions to end."""
    server = make_server({"stop": {"drain": "30s"}, "metrics": {"listen": "off"}}, start=False)
    (server.directory / "user.pub").write_bytes(user_key.public.read_bytes())
    first = successor(server, same_port=False)
    first.start()
    return first


def test_after_a_killed_spawner_the_next_server_is_whole(first: Server, user_key: KeyPair) -> None:
    """Protects `status`, `hold` and metrics after `kill -9` and an immediate restart, with a session still on."""
    session = Client(first, user_key.private).popen("echo on; sleep 1000")
    try:
        assert session.stdout is not None
        assert session.stdout.readline() == b"on\n"
        first.signal(signal.SIGKILL)
        with successor(first, same_port=True) as second:
            assert Client(second, user_key.private).run("true").status == 0
            until(lambda: serves(second), AT_ONCE, what="status of the new server")
            assert (second.directory / "metrics.sock").is_socket()
    finally:
        session.kill()
        session.communicate(timeout=PATIENCE)
    first.wait()


def test_sockets_that_are_still_taken_are_taken_over_later(first: Server, user_key: KeyPair) -> None:
    """Protects the first login, which does not wait for the old gateway, and `status`, which reaches the new server."""
    old = first.gateway_pid
    os.kill(old, signal.SIGSTOP)
    first.signal(signal.SIGKILL)
    try:
        with successor(first, same_port=False) as second:
            assert Client(second, user_key.private).run("true").status == 0
            assert "another server does; trying for 60 s" in second.stderr
            assert processes.is_running(old)
            os.kill(old, signal.SIGCONT)
            until(lambda: serves(second), what="status of the new server")
            until(lambda: second.stderr.count("has taken over the ") == 2, what="lines about both sockets")
    finally:
        if processes.is_running(old):
            os.kill(old, signal.SIGCONT)
        first.wait()


def test_a_second_server_with_the_same_directories_is_refused(first: Server) -> None:
    """Protects the log from two servers that would number its lines separately; the error says who has the log."""
    second = successor(first, same_port=False)
    second.launch()
    assert second.wait() == 2
    assert second.stderr.splitlines() == [
        f"pyssh-gateway: {key}: the server that is process {first.pid} uses {directory}: stop it, or set {key} to "
        "another directory"
        for key, directory in (("keys_dir", first.keys_dir), ("audit_dir", first.audit_dir))
    ]
    first.stop()
    lines = (first.audit_dir / "events.jsonl").read_text().splitlines()
    numbers = [json.loads(line)["seq"] for line in lines]
    assert numbers == list(range(1, len(numbers) + 1))


def named(server: Server, name: str) -> list[int]:
    """The server's processes of that name."""
    return [process.pid for process in processes.descendants(server.pid) if process.name == name]


def test_a_killed_spawner_lets_all_drain(first: Server, user_key: KeyPair) -> None:
    """Protects connected clients' work: it goes on, and all processes exit when nobody is on any more."""
    with Client(first, user_key.private).popen("echo on; cat") as session:
        assert session.stdin is not None
        assert session.stdout is not None
        assert session.stdout.readline() == b"on\n"
        left = [first.gateway_pid, *named(first, "pyssh-postauth")]
        assert len(left) == 2
        first.signal(signal.SIGKILL)
        session.stdin.write(b"still\n")
        session.stdin.flush()
        assert session.stdout.readline() == b"still\n"
        assert all(map(processes.is_running, left))
        session.kill()
        session.communicate(timeout=PATIENCE)
    until(lambda: not any(map(processes.is_running, left)), AT_ONCE, what="end of the server's processes")
    first.wait()


# -- a process of an account that was killed ------------------------------------------------------------------------


@needs_root
def test_a_killed_postauth_ends_its_accounts_sessions_alone(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects other accounts when the process that serves one account is killed, and that account's next login."""
    with other_account("second") as second:
        keys = [f"file:{user_key.public}"]
        mine = pwd.getpwuid(os.geteuid()).pw_name
        server = make_server({"login": [{"user": mine, "keys": keys}, {"user": second.pw_name, "keys": keys}]})
        client = Client(server, user_key.private)
        with (
            client.popen("echo on; cat; exit 3", "-l", mine) as kept,
            client.popen("echo on; cat; exit 3", "-l", second.pw_name) as lost,
        ):
            for session in (kept, lost):
                assert session.stdout is not None
                assert session.stdout.readline() == b"on\n"
            (pid,) = [pid for pid in named(server, "pyssh-postauth") if processes.owner(pid) == second.pw_uid]
            os.kill(pid, signal.SIGKILL)
            lost.communicate(timeout=PATIENCE)
            assert lost.returncode == 255
            closed = server.wait_for("connection.closed", user=second.pw_name)
            assert (closed["reason"], closed["goodbye"]) == ("its process ended", False)
            assert client.run("exit 4", user=second.pw_name).status == 4
            kept.communicate(b"still", timeout=PATIENCE)
            assert kept.returncode == 3


# -- an account that is gone ----------------------------------------------------------------------------------------


@needs_root
def test_an_account_that_was_removed_is_said(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person from a bare "exec request failed": they read the reason, and the log has it."""
    with other_account("removed") as gone:
        server = make_server({"login": [{"user": gone.pw_name, "keys": [f"file:{user_key.public}"]}]})
        client = Client(server, user_key.private)

        def administer(*command: str) -> None:
            subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

        async def scenario() -> None:
            async with client.connect(username=gone.pw_name) as connection:
                assert (await connection.run("true")).exit_status == 0
                administer("userdel", "--force", gone.pw_name)  # postauth still runs as this account
                try:
                    reason = f"there is no account {gone.pw_name} on this machine"
                    ended = await connection.run("true")
                    assert (ended.exit_status, ended.stdout, ended.stderr) == (254, "", f"pyssh-gateway: {reason}\n")
                    ended = await connection.run(term_type="xterm", request_pty="force")
                    assert (ended.exit_status, ended.stdout) == (254, f"pyssh-gateway: {reason}\r\n")
                    with pytest.raises(asyncssh.Error):
                        await connection.start_sftp_client()
                    server.wait_for("request.denied", count=3, reason=reason)
                finally:
                    administer("useradd", "--no-create-home", "--uid", str(gone.pw_uid), gone.pw_name)

        asyncio.run(scenario())
