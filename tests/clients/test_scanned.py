"""A scanner that wakes a socket-activated server costs seconds, and the next person learns what it has cost."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support.activation import Activated, MakeActivated
from tests.support.client import Client
from tests.support.commands import as_root, program
from tests.support.idle_stop import stops_after
from tests.support.waiting import AT_ONCE, PATIENCE

FIRST = ("-o", "StrictHostKeyChecking=accept-new")
"""For a client that comes before the host key is known."""

Scan = Callable[[Activated], "subprocess.Popen[bytes]"]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory for a control socket that every account can reach; pytest's directories are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def keyscan(server: Activated) -> "subprocess.Popen[bytes]":
    """OpenSSH's scanner: it speaks SSH up to the host key, on a connection for each type of key, and leaves."""
    command = ["ssh-keyscan", "-p", str(server.port), "-T", str(int(PATIENCE)), "127.0.0.1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def banner_grab(server: Activated) -> "subprocess.Popen[bytes]":
    """What scanners of the whole internet do: connect, read the first line, and reset the connection."""
    script = (
        "import socket, struct, sys\n"
        "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "print(sock.recv(255).decode(), end='')\n"
        "sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
    )
    return subprocess.Popen(["python3", "-c", script, str(server.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("scan", "sees"), [(keyscan, b"ssh-ed25519"), (banner_grab, b"SSH-2.0-")])
def test_a_scanner_costs_seconds(
    make_activated: MakeActivated, user_key: KeyPair, reachable: Path, scan: Scan, sees: bytes
) -> None:
    """Protects the bill: a server that a scanner has woken stops seconds after it; `why` and `status` tell of it."""
    server = make_activated(
        {"control": str(reachable / "control.sock"), "idle": {"timeout": "10m", "wake_grace": "2s"}}
    )
    for _ in range(2):
        scanner = scan(server)
        server.wait_for_client()
        server.start()
        seen, said = scanner.communicate(timeout=PATIENCE)
        assert sees in seen, said
        assert stops_after(server, seconds=2)
        assert server.find("server.stopping", reason="idle", detail="woken by 127.0.0.1, no login")

    client = Client(server, user_key.private)
    person = client.popen("cat", *FIRST)
    server.wait_for_client()
    server.start()
    server.wait_for("session.opened", command="cat")
    told = json.loads(as_root(client, "why", "--json").stdout)
    (source,) = told["for_nobody"]["sources"]
    assert (source["kind"], source["source"], source["count"]) == ("address", "127.0.0.1", 2)
    assert 2 * 2 <= source["seconds"] < 2 * (2 + AT_ONCE)
    assert all(stop["for_nobody"] for stop in told["stops"])
    line = "awake for nobody in the last 7 days: 2 times, "
    assert f"\n{line}" in as_root(client, "why").stdout
    assert f"\n{line}" in as_root(client, "status").stdout
    typed = program(client)
    assert f"\n{line}" in client.output(f"{typed} why")
    status = json.loads(client.output(f"{typed} status --json"))["for_nobody"]
    assert (status["count"], status["sources"]) == (2, [])
    person.communicate(timeout=PATIENCE)


def test_a_client_that_comes_back_by_itself_is_counted_by_its_person(
    make_activated: MakeActivated, user_key: KeyPair
) -> None:
    """Protects the bill from a loop around `ssh -N`: what it wakes the machine for is known, and whose it is."""
    idle = {"timeout": "1s", "client_idle": "1s", "lost_client_grace": 0}
    server = make_activated({"idle": idle})
    client = Client(server, user_key.private)
    for _ in range(2):
        ssh = client.popen("", "-N", *FIRST)
        server.wait_for_client()
        server.start()
        assert server.wait() == 0
        ssh.communicate(timeout=PATIENCE)
    (login,) = server.find("connection.authenticated")
    assert login["probation"]

    server.start()
    (source,) = json.loads(as_root(client, "why", "--json").stdout)["for_nobody"]["sources"]
    assert (source["kind"], source["source"]) == ("person", login["identity"]["person"])
    assert source["count"] == 1
