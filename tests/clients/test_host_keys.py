"""The server's keys as clients see them."""

import subprocess
from pathlib import Path

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client


def test_the_next_host_key_is_learned_before_it_is_used(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects people from a warning about a changed key: clients learn the next one while the old one is in use."""
    server = make_server(start=False)
    server.keys_dir.mkdir(mode=0o700)
    following = server.keys_dir / "ssh_host_ed25519_key_next"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(following)], check=True, timeout=30)
    server.start()
    client = Client(server, user_key.private)
    known = server.known_hosts.read_text()
    # The client takes new keys when it has verified them, at the next chance: with the command still running.
    assert client.run("sleep 0.5", "-o", "UpdateHostKeys=yes").status == 0
    blob = Path(f"{following}.pub").read_text().split()[1]
    assert blob not in known
    assert blob in server.known_hosts.read_text()
    assert len(server.find("server.started")[0]["host_keys"]) == 2
    server.stop()
    following.rename(server.keys_dir / "ssh_host_ed25519_key")
    Path(f"{following}.pub").rename(server.keys_dir / "ssh_host_ed25519_key.pub")
    learned = server.known_hosts.read_text()
    server.start()
    server.known_hosts.write_text(learned.replace(learned.split("]:")[1].split()[0], str(server.port)))
    assert client.run("exit 3").status == 3
