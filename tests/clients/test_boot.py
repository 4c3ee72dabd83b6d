"""What the machine sets up at boot, as a client sees it: a missing account, services, and nobody who is delayed."""

import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.spawner.boot.accounts import SUDOERS
from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.boot import remove, volume
from tests.support.client import Client
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the machine ready")

pytestmark = pytest.mark.usefixtures("account")
"""The fixture also makes the account that serves strangers."""

USERS = ("pyssh-boot-a", "pyssh-boot-b", "pyssh-boot-c")
GROUP = "pyssh-boot-extra"


@pytest.fixture
def data() -> Iterator[Path]:
    """The volume; the accounts of these tests are removed before and after."""
    with volume("data", USERS, GROUP) as directory:
        yield directory


def settings(data: Path, *, accounts: int = 1, links: int = 1, services: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of what is made at boot, with homes and link targets in `data`."""
    wanted = {
        "link": [{"path": f"{data}/lib/{number}", "target": f"{data}/links/{number}"} for number in range(links)],
        "directory": [{"path": f"{data}/own", "owner": USERS[0], "mode": "0750"}],
        "account": [
            {
                "user": user,
                "home": f"{data}/home/{user}",
                "shell": "/bin/sh",
                "groups": [GROUP],
                "sudo": SUDOERS.is_dir(),
            }
            for user in reversed(USERS[:accounts])
        ],
        "service": [{"name": f"service-{number}", "command": command} for number, command in enumerate(services)],
    }
    return {f"boot.{kind}": entries for kind, entries in wanted.items() if entries}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until a connection succeeds, as a client does that has just woken the machine."""

    def connects() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    until(connects, PATIENCE, what="open port")


@needs_root
def test_an_account_is_made_while_its_owner_waits(tmp_path: Path, data: Path, user_key: KeyPair) -> None:
    """Protects the first login to a new machine: its account is complete when the shell starts; the log says how."""
    keys = [f"file:{user_key.public}"]
    server = Server(tmp_path, login=USERS[0], keys=keys, settings=settings(data))
    with server:
        result = Client(server, user_key.private).run(
            "id -nG; pwd; ls -A; stat -c %U . ~/.profile; stat -c %U%a ../../own"
        )
        home = data / "home" / USERS[0]
        assert result.status == 0, result
        lines = result.stdout.decode().splitlines()
        assert lines[:2] == [f"{USERS[0]} {GROUP}", str(home)]
        assert ".profile" in lines
        assert lines[-3:] == [USERS[0], USERS[0], f"{USERS[0]}750"]
        steps = {step["step"]: step["outcome"] for step in server.find("boot.step")}
        assert steps == {
            f"link {data}/lib/0 -> {data}/links/0": "ok",
            f"account {USERS[0]}": "ok",
            f"directory {data}/own": "ok",
        }
    uid = pwd.getpwnam(USERS[0]).pw_uid
    (home / "work").write_text("precious")
    os.chown(home / "work", uid, uid)
    remove(USERS, GROUP)  # a new root file system, and the old volume
    with server:
        result = Client(server, user_key.private).run("cat work; id -u")
        assert result.stdout.decode() == f"precious{uid}\n"


def test_services_run_beside_the_sessions_and_stop_before_the_end(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects dockerd and its log: its output and exits are events, a crash leads to a restart, the stop is last."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    services = [
        {"name": "keeps", "user": me, "command": "echo ready; exec sleep 100"},
        {"name": "dies", "user": me, "command": "echo oops >&2; exit 3"},
    ]
    server = make_server({"boot.service": services})
    assert Client(server, user_key.private).run("true").status == 0
    server.wait_for("service.output", service="keeps", line="ready")
    keeps = server.wait_for("service.started", service="keeps")["pid"]
    server.wait_for("service.output", service="dies", line="oops")
    assert server.wait_for("service.ended", service="dies", cause="exit code 3")["again"] == 0.5
    assert server.wait_for("service.started", service="dies", count=2)["restarts"] == 1
    os.kill(server.gateway_pid, signal.SIGKILL)
    server.wait_for("server.started", generation=2)
    assert processes.is_running(keeps)
    assert server.stop() == 0
    assert server.find("service.ended", service="keeps", cause="SIGTERM", again=None, pid=keeps)
    assert server.events[-1]["event"] == "server.stopped"
    assert not processes.is_running(keeps)


@contextmanager
def account_files_locked() -> Iterator[None]:
    """Have useradd wait, as long as its patience lasts: 15 seconds (lckpwdf(3))."""
    with Path("/etc/.pwd.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


@needs_root
@pytest.mark.alone
def test_a_boot_with_much_to_do_delays_nobody(
    make_server: MakeServer, data: Path, user_key: KeyPair, account: pwd.struct_passwd
) -> None:
    """Protects the person who woke the machine: they are served before accounts of others are made and services run."""
    server = make_server(settings(data, accounts=3, links=10, services=("exec sleep 100",) * 3), start=False)
    with account_files_locked():
        server.start()
        assert Client(server, user_key.private).run("id -un").stdout.decode() == f"{account.pw_name}\n"
        server.wait_for("session.closed")
    server.wait_for("service.started", count=3)
    names = [event["event"] if event["event"] != "boot.step" else event["step"] for event in server.events]
    for other in (*(f"account {user}" for user in USERS), "service.started"):
        assert names.index("session.closed") < names.index(other)


@needs_root
def test_a_stop_signal_to_the_first_process_is_kept(
    tmp_path: Path, user_key: KeyPair, account: pwd.struct_passwd
) -> None:
    """Protects `docker stop` in the first moments: the kernel drops a signal to PID 1 that has no handler yet."""
    server = Server(
        tmp_path, login=account.pw_name, keys=[f"file:{user_key.public}"], settings={"listen": {"port": free_port()}}
    )
    port = int(server.config.read_text().partition("port = ")[2].split()[0])
    inside = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    with subprocess.Popen(
        [*inside, sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(server.config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
    ) as outside:
        try:
            wait_for_port(port)
            init = next(process for process in processes.descendants(outside.pid) if process.parent == outside.pid)
            os.kill(init.pid, signal.SIGTERM)
            assert outside.wait(PATIENCE) == 0
        finally:
            outside.kill()
