"""Every client after the hand-over of its connection: it rekeys every 64 KiB, and no byte is changed.

The server under test also requests new keys after 64 KiB, for clients that never do so themselves.
"""

import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.matrix_libraries import Asyncssh, Paramiko
from tests.clients.matrix_node import NodeSsh2
from tests.clients.matrix_openssh import Sftp, Ssh
from tests.clients.matrix_programs import Curl, CurlScp, Dbclient, Plink, Psftp
from tests.conftest import KeyPair
from tests.support.client import Client
from tests.support.matrix import Driver, World, digest_of
from tests.support.matrix_features import Commands, Files
from tests.support.server import Server

pytestmark = pytest.mark.slow

REKEY_BYTES = 64 * 1024
SIZE = 3 * 1024 * 1024
"""Forty-eight key exchanges in each direction. dbclient takes 40 ms for one on an idle machine."""

COMMANDS: tuple[type[Commands], ...] = (Ssh, Plink, Dbclient, Paramiko, Asyncssh, NodeSsh2)
FILES: tuple[type[Files], ...] = (Sftp, Psftp, Curl, CurlScp, Paramiko)


@pytest.fixture(scope="module")
def data() -> bytes:
    """The data that is transferred."""
    return bytes(range(251)) * (SIZE // 251)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Server]:
    """A server that wants new keys every 64 KiB."""
    directory = tmp_path_factory.mktemp("server")
    keys = [f"file:{user_key.public}"]
    settings = {"session": {"rekey_bytes": REKEY_BYTES}}
    with Server(directory, login=account.pw_name, keys=keys, settings=settings) as running:
        assert Client(running, user_key.private).run("true").status == 0
        running.wait_for("connection.closed")
        yield running


@pytest.fixture
def world(server: Server, user_key: KeyPair, account: pwd.struct_passwd, tmp_path: Path, scratch: Path) -> World:
    """The environment of the clients."""
    return World(server, user_key.private, account, home=tmp_path, scratch=scratch)


@pytest.fixture
def driver(world: World) -> Callable[[type[Driver]], Driver]:
    """Makes a client, or skips the test if the machine does not have it."""

    def make(kind: type[Driver]) -> Driver:
        if reason := kind.absence():
            pytest.skip(reason)
        return kind(world)

    return make


def test_the_server_asks_for_new_keys(client: Client, data: bytes) -> None:
    """Checks what the other tests rely on: a client that would rekey only after gigabytes gets new keys."""
    result = client.run("cat", "-v", input=data)
    assert digest_of(result.stdout) == digest_of(data)
    assert result.stderr.count(b"SSH2_MSG_KEXINIT received") > SIZE // REKEY_BYTES // 2


def test_both_sides_ask_for_new_keys(client: Client, data: bytes) -> None:
    """Rekey requests that cross each other lead to one exchange."""
    result = client.run("cat", "-o", "RekeyLimit=64K", input=data)
    assert (result.status, digest_of(result.stdout)) == (0, digest_of(data)), result.stderr


@pytest.mark.parametrize("kind", COMMANDS, ids=[kind.name for kind in COMMANDS])
def test_pipes(kind: type[Commands], driver: Callable[[type[Driver]], Driver], data: bytes) -> None:
    """A long input comes back as a long output, followed by the exit status."""
    made = driver(kind)
    assert isinstance(made, Commands)
    result = made.run("cat; exit 3", data)
    assert (result.status, digest_of(result.stdout)) == (3, digest_of(data)), result.stderr


@pytest.mark.parametrize("kind", FILES, ids=[kind.name for kind in FILES])
@pytest.mark.parametrize("direction", ["put", "get"])
def test_files(
    kind: type[Files], direction: str, driver: Callable[[type[Driver]], Driver], world: World, data: bytes
) -> None:
    """A file arrives unchanged, in either direction."""
    made = driver(kind)
    assert isinstance(made, Files)
    local, remote = world.home / "local", world.scratch / "remote"
    (local if direction == "put" else remote).write_bytes(data)
    if direction == "put":
        made.copy_in(local, remote)
    else:
        made.copy_out(remote, local)
    assert digest_of(local.read_bytes()) == digest_of(remote.read_bytes()) == digest_of(data)
