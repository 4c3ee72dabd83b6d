"""The log of a real server is one tree over its whole life, and is signed as it grows."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from pyssh_gateway.audit.proving.names import KEY_NAME
from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.log_files import write_much
from tests.support.verified import audit, verify
from tests.support.waiting import until

SMALL = {"audit": {"segment_size": "64KiB"}}
LINES = 20
"""Long lines that are more than a small file has."""


def test_one_tree(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the record: the checkpoints fit over starts, a killed monitor and closed files, up to the last line."""
    server = make_server(SMALL)
    client = Client(server, user_key.private)
    write_much(client, LINES)
    until(lambda: list(server.audit_dir.glob("events-*.zst")), what="a closed file")
    since = server.mark()
    os.kill(server.gateway_pid, signal.SIGKILL)
    server.wait_for("server.started", since=since)
    assert client.run("true").status == 0
    server.stop()
    assert json.loads((server.audit_dir / "events.jsonl").read_bytes().splitlines()[-1])["event"] == "server.stopped"
    server.start()
    client.run("true")
    server.stop()
    assert "closed" not in server.stderr

    key = (server.audit_dir / KEY_NAME).read_text().strip()
    collected = tmp_path / "collected"
    collected.write_bytes(b"".join(b"Jan  2 03:04:05 dev pyssh-gateway[7]: " + line for line in server.checkpoints))
    found = verify(server, "--checkpoints", str(collected), "--key", key)
    assert found["intact"], found
    assert (found["first"], found["uncovered"], found["broken"]) == (0, 0, [])
    assert found["checkpoints"] == 2 * len(server.checkpoints) >= 6
    assert len(list(server.audit_dir.glob("checkpoints-*.jsonl"))) == found["files"] - 1 == 1

    code, note = audit(server, "checkpoint")
    assert code == 0
    assert verify(server, "--checkpoints", "-", "--key", key, given=note.encode())["intact"]
    assert audit(server, "key") == (0, f"{key}\n")
    proof = tmp_path / "proof.json"
    proof.write_text(audit(server, "prove", "7")[1])
    assert json.loads(json.loads(proof.read_text())["line"])["seq"] == 7
    assert audit(server, "prove", "--check", str(proof), "--key", key)[0] == 0

    lines = (server.audit_dir / "events.jsonl").read_bytes().splitlines(keepends=True)
    (server.audit_dir / "events.jsonl").write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"signal"', b'"idle"')]))
    found = verify(server, "--checkpoints", str(collected))
    assert [one["kind"] for one in found["broken"]] == ["changed"]


def has_in_memory(pid: int, secret: bytes) -> bool:
    """Whether a process has this anywhere in its memory."""
    place = Path("/proc", str(pid))
    with (place / "maps").open() as maps, (place / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            area, modes, *_, name = f"{line.strip()} -".split()[:7]
            if not modes.startswith("rw") or name.startswith("[v"):
                continue
            begin, end = (int(one, 16) for one in area.split("-"))
            memory.seek(begin)
            if secret in memory.read(end - begin):
                return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into the processes")
def test_who_has_the_key(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the signatures: the key is root's file, is kept, and is in the memory of the monitor alone."""
    server = make_server(start=False)
    server.start()
    path = server.keys_dir / "audit_key"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    server.stop()
    server.start()
    assert path.read_bytes() == before
    key = load_ssh_private_key(before, None)
    assert isinstance(key, Ed25519PrivateKey)
    with (
        Client(server, user_key.private).popen("cat") as ssh,
        socket.create_connection(("127.0.0.1", server.port)) as on,
    ):
        server.wait_for("session.opened", command="cat")
        on.sendall(b"SSH-2.0-stranger\r\n")
        names = {"pyssh-monitor", "pyssh-postauth", "pyssh-preauth"}

        def running() -> list[processes.Process]:
            found = [one for one in processes.descendants(server.pid) if one.name.startswith("pyssh")]
            return found if {one.name for one in found} >= names else []

        others = until(running, what="all kinds of processes")
        assert [one.name for one in others if has_in_memory(one.pid, key.private_bytes_raw())] == ["pyssh-monitor"]
        assert not has_in_memory(server.pid, key.private_bytes_raw())
        assert ssh.stdin is not None
        ssh.stdin.close()


def test_a_key_that_cannot_be_used(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects logins: without a usable key there are no checkpoints, which is said, and everybody gets in."""
    server = make_server(start=False)
    server.keys_dir.mkdir()
    (server.keys_dir / "audit_key").write_text("no key\n")
    (server.keys_dir / "audit_key").chmod(0o600)
    server.start()
    assert Client(server, user_key.private).run("true").status == 0
    server.stop()
    assert server.checkpoints == []
    assert "the log is not signed" in server.stderr
