"""The server's host keys as clients see them: all types, and the next key before it is used."""

import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.commands import as_root
from tests.support.linkless import without_links
from tests.support.server import Server
from tests.support.waiting import PATIENCE

TYPES = ["rsa", "ecdsa", "ed25519"]
OFFERED = "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519"
LEARN = ("-o", "UpdateHostKeys=yes")

# The client accepts new keys some time after it has verified them, while the command still has to run.
LONG_ENOUGH = "sleep 0.5"


def public_keys(server: Server) -> dict[str, str]:
    """The base64 blobs of the keys in use, by key type."""
    names = {kind: server.keys_dir / f"ssh_host_{kind}_key.pub" for kind in TYPES}
    return {kind: path.read_text().split()[1] for kind, path in names.items() if path.exists()}


def know(server: Server, *blobs: str) -> None:
    """Make these the only keys that clients know."""
    host = f"[127.0.0.1]:{server.port}"
    lines = [(server.keys_dir / f"ssh_host_{kind}_key.pub").read_text() for kind in TYPES]
    server.known_hosts.write_text("".join(f"{host} {line}" for line in lines if line.split()[1] in blobs))


@pytest.fixture(scope="module")
def with_all_types(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Server]:
    """A server with a key of every type."""
    directory = tmp_path_factory.mktemp("server")
    keys = [f"file:{user_key.public}"]
    with Server(directory, login=account.pw_name, keys=keys, settings={"host_keys": {"types": TYPES}}) as running:
        yield running


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("rsa-sha2-512", "rsa"), ("rsa-sha2-256", "rsa"), ("ecdsa-sha2-nistp256", "ecdsa"), ("ssh-ed25519", "ed25519")],
)
def test_clients_learn_every_key_with_every_algorithm(
    with_all_types: Server, user_key: KeyPair, algorithm: str, kind: str
) -> None:
    """Protects clients that know one key only: whatever the key exchange used, they verify and learn the others."""
    server, client = with_all_types, Client(with_all_types, user_key.private)
    keys = public_keys(server)
    know(server, keys[kind])
    others = ",".join(other for other in OFFERED.split(",") if other != algorithm)
    result = client.run(LONG_ENOUGH, *LEARN, "-o", f"HostKeyAlgorithms={algorithm},{others}", "-v")
    assert result.status == 0
    assert f"kex: host key algorithm: {algorithm}".encode() in result.stderr
    learned = server.known_hosts.read_text()
    assert {kind: blob in learned for kind, blob in keys.items()} == dict.fromkeys(TYPES, True)


def test_algorithms_are_offered_as_configured(with_all_types: Server, user_key: KeyPair) -> None:
    """Protects the configured order of algorithms, and that no SHA-1 signature is offered."""
    server = with_all_types
    know(server, *public_keys(server).values())
    result = Client(server, user_key.private).run("true", "-vv")
    theirs = result.stderr.decode().split("peer server KEXINIT proposal")[1]
    assert f"host key algorithms: {OFFERED}\r\n" in theirs
    assert Client(server, user_key.private).run("true", "-o", "HostKeyAlgorithms=ssh-rsa").status == 255


def test_a_next_key_of_another_type_is_not_used(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the promise that a next key is only announced, also where no key of its type is in use."""
    server = make_server(start=False)
    server.keys_dir.mkdir(mode=0o700)
    for kind in ("ecdsa", "ed25519"):
        following = server.keys_dir / f"ssh_host_{kind}_key_next"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(following)], check=True, timeout=PATIENCE)
    server.start()
    client = Client(server, user_key.private)
    result = client.run(LONG_ENOUGH, *LEARN, "-vv")
    assert "host key algorithms: ssh-ed25519\r\n" in result.stderr.decode().split("peer server KEXINIT proposal")[1]
    learned = server.known_hosts.read_text()
    assert Path(f"{server.keys_dir}/ssh_host_ed25519_key_next.pub").read_text().split()[1] in learned
    # No key of this type is configured.
    assert Path(f"{server.keys_dir}/ssh_host_ecdsa_key_next.pub").read_text().split()[1] not in learned
    assert len(server.find("server.started")[0]["host_keys"]) == 2


def test_the_next_host_key_is_learned_before_it_is_used(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects people from a warning about a changed key: clients learn the next key while the old one is in use."""
    server = make_server()
    server.stop()
    command = [sys.executable, "-m", "pyssh_gateway", "keys", "rotate-host", "--config", str(server.config)]
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)
    server.start()
    client = Client(server, user_key.private)
    old, following = (
        (server.keys_dir / f"ssh_host_ed25519_key{suffix}.pub").read_text().split()[1] for suffix in ("", "_next")
    )
    assert client.run(LONG_ENOUGH, *LEARN).status == 0
    learned = server.known_hosts.read_text()
    assert old in learned
    assert following in learned
    server.stop()
    subprocess.run([*command, "--finish", "--now"], check=True, timeout=PATIENCE, capture_output=True)
    server.start()
    # `start` has written the server's present key to the file; a client that has learned the key does not need that.
    assert following in server.known_hosts.read_text()
    port = learned.split("]:")[1].split()[0]
    server.known_hosts.write_text(learned.replace(f"]:{port} ", f"]:{server.port} "))
    assert client.run(LONG_ENOUGH, *LEARN).status == 0
    assert old not in server.known_hosts.read_text(), "the client forgets the old key when it is announced no more"


def test_a_power_cut_that_empties_the_key_stops_no_start(make_server: MakeServer, user_key: KeyPair) -> None:
    """A machine whose host key file is empty gets a new key, and says so on the screen, in the log and in `check`."""
    server = make_server()
    path = server.keys_dir / "ssh_host_ed25519_key"
    assert server.wait_for("host_key.created")["reason"] == "missing"
    assert server.stop() == 0
    path.write_bytes(b"")
    client = Client(server, user_key.private)
    assert f"! {path} is empty, as a power cut may leave a file" in as_root(client, "check").stdout
    server.start()
    created = server.wait_for("host_key.created")
    assert (created["reason"], created["path"]) == ("empty", str(path))
    assert f"NEW HOST KEY: {path} was empty; clients that know another one will be warned" in server.stderr
    assert client.run("exit 3").status == 3
    assert server.stop() == 0
    server.start()
    assert not server.find("host_key.created")
    assert "NEW HOST KEY" not in server.stderr


def test_keys_dir_may_be_where_there_are_no_links(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """A server whose keys_dir is on a share without hard links works as any other, and keeps its key."""
    with without_links(tmp_path) as mount:
        server = make_server({"keys_dir": str(mount / "keys")}, start=False)
        server.keys_dir = mount / "keys"
        fingerprints = []
        for _ in range(2):
            server.start()
            fingerprints.append(server.find("server.started")[0]["host_keys"])
            assert Client(server, user_key.private).run("exit 3").status == 3
            assert server.stop() == 0
        assert fingerprints[0] == fingerprints[1]
        assert list((mount / "keys" / "fetched").glob("file-*.keys"))
