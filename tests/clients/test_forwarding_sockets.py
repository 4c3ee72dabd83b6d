"""Unix sockets, forwarded in both directions, and the agent's socket, which is one of them."""

import asyncio
import hashlib
import os
import pwd
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, answer, dial, digest, echo, exchange_at_once, read_all, read_exactly
from tests.support.server import Server
from tests.support.waiting import PATIENCE, listens, until

CHANNELS = 50


@pytest.fixture
def master(client: Client, tmp_path: Path) -> Iterator[Master]:
    """A connection to the module's server, to which tests add forwards."""
    with Master(client, tmp_path) as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, user_key: KeyPair) -> Iterator[str]:
    """The socket of an ssh-agent at the client, which holds the user's key."""
    path = str(tmp_path / "agent")
    running = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, env=client_environment())
    try:
        until(lambda: listens(path), what="agent")
        environ = client_environment(SSH_AUTH_SOCK=path)
        subprocess.run(["ssh-add", "-q", user_key.private], env=environ, check=True, timeout=PATIENCE)
        yield path
    finally:
        running.terminate()
        running.wait(PATIENCE)


# -- -L to a socket here ------------------------------------------------------------------------------------------


def test_forward_to_a_socket(master: Master, server: Server, scratch: Path, tmp_path: Path) -> None:
    """Protects `-L port:/path` (docker.sock, VS Code's socket mode), with half-close in both directions."""
    local, remote = str(tmp_path / "l"), str(scratch / "remote.sock")
    since = server.mark()
    with Target(digest, remote):
        master.forward("-L", f"{local}:{remote}")
        data = os.urandom(300_000)
        assert answer(local, data) == hashlib.sha256(data).digest()
    closed = server.wait_for("forward.closed", since=since)
    assert (closed["kind"], closed["target"]) == ("direct-streamlocal", remote)
    assert (closed["bytes_in"], closed["bytes_out"]) == (300_000, 32)


@pytest.mark.soak
def test_slow_target_gets_everything(master: Master, scratch: Path, tmp_path: Path) -> None:
    """Protects the end of an upload to a slow target, which still reads after the client has closed its channel."""
    local, remote = str(tmp_path / "l"), str(scratch / "remote.sock")
    heard: list[bytes] = []

    def read_slowly(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(100_000):
            heard.append(data)
            time.sleep(0.5)  # as a slow network would; the test is about this delay

    # More than a unix socket's buffer holds, less than a channel's window: the client has finished, the server has not.
    data = os.urandom(1_500_000)
    with Target(read_slowly, remote):
        master.forward("-L", f"{local}:{remote}")
        with dial(local) as sock:
            assert read_all(sock) == b""
            sock.sendall(data)
    assert sum(map(len, heard)) == len(data)
    assert b"".join(heard) == data


def test_many_channels_to_a_socket(master: Master, scratch: Path, tmp_path: Path) -> None:
    """Protects VS Code's windows on one socket: 50 channels at the same time."""
    local, remote = str(tmp_path / "l"), str(scratch / "remote.sock")
    with Target(echo, remote):
        master.forward("-L", f"{local}:{remote}")
        exchange_at_once(lambda: dial(local), CHANNELS, 64 * 1024)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/no/such/socket",
        b"/etc/passwd",
        b"/tmp",
        b"/" + b"x" * 200,
        b"/" + b"x" * 5000,
        b"/tmp/\xff",
        b"\0abstract",
    ],
)
def test_impossible_socket(client: Client, path: bytes) -> None:
    """Protects the connection from paths without a socket, and from invalid paths: the channel is refused."""

    async def try_it() -> int:
        async with client.connect() as connection:
            channel = connection.create_unix_channel()
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                await channel._open(  # noqa: SLF001 - asyncssh's own encoding takes only what is UTF-8
                    b"direct-streamlocal@openssh.com", _string(path), _string(b""), struct.pack(">I", 0)
                )
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
            return refused.value.code

    assert asyncio.run(try_it()) in {asyncssh.OPEN_CONNECT_FAILED, asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED}


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


# -- -R from a socket here ----------------------------------------------------------------------------------------


def test_forward_from_a_socket(master: Master, server: Server, scratch: Path, account: pwd.struct_passwd) -> None:
    """Protects `-R /path:...` (gpg-agent): only the account can use the socket, and a cancel removes it."""
    path = scratch / "remote.sock"
    since = server.mark()
    with Target(digest) as target:
        spec = f"{path}:127.0.0.1:{target.port}"
        master.forward("-R", spec)
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o600, account.pw_uid, account.pw_gid)
        assert answer(str(path), b"hello") == hashlib.sha256(b"hello").digest()
        assert server.wait_for("forward.listening", since=since)["target"] == str(path)
        master.cancel("-R", spec)
        until(lambda: not path.exists(), what="removed socket")
    assert server.wait_for("forward.closed", since=since)["kind"] == "forwarded-streamlocal"


def test_forward_from_socket_to_socket(master: Master, scratch: Path, tmp_path: Path) -> None:
    """Protects `-R /path:/path`: half-close is passed on, whichever side ends first."""
    path, place = scratch / "remote.sock", str(tmp_path / "place")
    heard: list[bytes] = []

    def speak_first(sock: socket.socket) -> None:
        sock.sendall(b"first")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    with Target(speak_first, place):
        master.forward("-R", f"{path}:{place}")
        with dial(str(path)) as sock:
            assert read_all(sock) == b"first"
            sock.sendall(b"x" * 200_000)
    assert heard == [b"x" * 200_000]


def test_many_visitors_of_a_socket(master: Master, scratch: Path) -> None:
    """Protects a forwarded socket with many users: 50 connections at the same time."""
    path = scratch / "remote.sock"
    with Target(echo) as target:
        master.forward("-R", f"{path}:127.0.0.1:{target.port}")
        exchange_at_once(lambda: dial(str(path)), CHANNELS, 64 * 1024)


def test_socket_goes_with_its_connection(client: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects the next login from a socket without a listener: a killed client's socket is removed, too."""
    path = scratch / "remote.sock"
    with Target(echo) as target, Master(client, tmp_path, "-R", f"{path}:127.0.0.1:{target.port}") as master:
        until(path.exists, what="socket")
        master.process.kill()
        master.process.wait()
        until(lambda: not path.exists(), what="removed socket")


def test_socket_in_the_way(master: Master, scratch: Path) -> None:
    """Protects a file that already is at the path: the request fails, unless the configuration says otherwise."""
    path = scratch / "remote.sock"
    with Target(echo, str(path)):
        result = master.control("forward", "-R", f"{path}:127.0.0.1:1")
        assert result.status != 0
        assert answer(str(path), b"mine") == b"mine"
    assert master.run("exit 3").status == 3


@pytest.mark.parametrize(("mask", "mode"), [("0177", 0o600), ("0117", 0o660), ("0111", 0o666), ("0000", 0o777)])
def test_socket_mask(
    make_server: MakeServer, user_key: KeyPair, scratch: Path, tmp_path: Path, *, mask: str, mode: int
) -> None:
    """Protects the counterpart of StreamLocalBindMask: a forwarded socket has the configured mode."""
    client = Client(make_server({"forwarding": {"socket_mask": mask}}), user_key.private)
    path = scratch / "remote.sock"
    with Master(client, tmp_path) as master:
        master.forward("-R", f"{path}:127.0.0.1:1")
        assert path.stat().st_mode & 0o7777 == mode


@pytest.fixture
def unlinking(make_server: MakeServer, user_key: KeyPair) -> Client:
    """A client of a server with the counterpart of StreamLocalBindUnlink."""
    return Client(make_server({"forwarding": {"socket_unlink": True}}), user_key.private)


def test_stale_socket_is_replaced(unlinking: Client, scratch: Path, tmp_path: Path, account: pwd.struct_passwd) -> None:
    """Protects people who come back after their machine has died: its stale socket is replaced."""
    path = scratch / "remote.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    os.chown(path, account.pw_uid, account.pw_gid)
    with Target(echo) as target, Master(unlinking, tmp_path) as master:
        master.forward("-R", f"{path}:127.0.0.1:{target.port}")
        assert answer(str(path), b"hello") == b"hello"


@pytest.mark.parametrize("kind", ["file", "link to a socket", "directory"])
def test_only_sockets_are_replaced(unlinking: Client, scratch: Path, tmp_path: Path, kind: str) -> None:
    """Protects files, and links to sockets, from being mistaken for stale sockets and replaced."""
    path = scratch / "remote.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(scratch / "other.sock"))
        path.symlink_to(scratch / "other.sock")
    with Master(unlinking, tmp_path) as master:
        assert master.control("forward", "-R", f"{path}:127.0.0.1:1").status != 0
        assert os.path.lexists(path)
        assert master.run("exit 3").status == 3
    assert kind != "link to a socket" or (scratch / "other.sock").is_socket()


def test_replaced_socket_outlives_the_one_it_replaced(unlinking: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects a reconnect: the end of the old connection must not remove the socket of the new one."""
    path = scratch / "remote.sock"
    places = [tmp_path / "old", tmp_path / "new"]
    for place in places:
        place.mkdir()
    with Target(echo) as target:
        spec = f"{path}:127.0.0.1:{target.port}"
        with Master(unlinking, places[1]) as new:
            with Master(unlinking, places[0]) as old:
                old.forward("-R", spec)
                new.forward("-R", spec)
                assert answer(str(path), b"hello") == b"hello"
            unlinking.server.wait_for("connection.closed")
            # One more request to the process that removes sockets: when it is answered, earlier ones are done.
            new.forward("-R", f"{scratch}/another.sock:127.0.0.1:1")
            assert answer(str(path), b"still here") == b"still here"


@pytest.mark.parametrize(
    "path", [b"", b"/" + b"x" * 5000, b"/no/such/directory/sock", b"/tmp/pyssh-test-nul\0b", b"\0abstract", b"/tmp"]
)
def test_impossible_place_for_a_socket(client: Client, path: bytes) -> None:
    """Protects the connection, and other forwards, from an invalid socket path: the answer is a failure."""

    async def ask() -> bool:
        async with client.connect() as connection:
            kind, _ = await connection._make_global_request(  # noqa: SLF001 - there is no public method
                b"streamlocal-forward@openssh.com", _string(path)
            )
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
            return bool(kind == asyncssh.constants.MSG_REQUEST_SUCCESS)

    assert asyncio.run(ask()) is False


def names_in(directory: Path) -> list[bytes]:
    """The names of a directory's entries."""
    return [os.fsencode(entry.name) for entry in directory.iterdir()]


def test_socket_with_a_name_that_is_not_utf8(client: Client, scratch: Path) -> None:
    """Protects paths in other encodings: they are passed as bytes in both directions."""
    path = os.fsencode(scratch) + b"/\xff\xe9"

    async def ask() -> None:
        async with client.connect() as connection:
            kind, _ = await connection._make_global_request(  # noqa: SLF001 - there is no public method
                b"streamlocal-forward@openssh.com", _string(path)
            )
            assert kind == asyncssh.constants.MSG_REQUEST_SUCCESS
            assert names_in(scratch) == [b"\xff\xe9"]

    asyncio.run(ask())
    until(lambda: not Path(os.fsdecode(path)).exists(), what="removed socket")


# -- the agent ----------------------------------------------------------------------------------------------------


def test_agent(client: Client, agent: str, server: Server, account: pwd.struct_passwd, user_key: KeyPair) -> None:
    """Protects `ssh -A`: only the account can use the client's keys, and only while the client is connected."""
    show = 'ssh-add -l; echo "$SSH_AUTH_SOCK"; stat -c "%a %u" "$SSH_AUTH_SOCK" "$(dirname "$SSH_AUTH_SOCK")"'
    since = server.mark()
    result = client.run(show, "-o", f"IdentityAgent={agent}", "-A")
    assert result.status == 0, result
    keys, path, sock, directory = result.stdout.decode().splitlines()
    key = subprocess.run(["ssh-keygen", "-lf", user_key.public], capture_output=True, check=True, text=True).stdout
    assert keys.split()[1] == key.split()[1]
    assert (sock, directory) == (f"600 {account.pw_uid}", f"700 {account.pw_uid}")
    assert server.wait_for("forward.closed", since=since)["kind"] == "auth-agent"
    until(lambda: not Path(path).parent.exists(), what="removed agent socket")


def test_agent_signs(client: Client, agent: str, make_server: MakeServer, user_key: KeyPair, scratch: Path) -> None:
    """Protects the purpose of -A: a login from the server to another machine with a key that only the client has."""
    behind = Client(make_server(), user_key.private)
    known = scratch / "known_hosts"
    known.write_bytes(behind.server.known_hosts.read_bytes())
    known.chmod(0o644)
    hop = f"ssh -F none -p {behind.server.port} -o UserKnownHostsFile={known} -o BatchMode=yes 127.0.0.1 'exit 7'"
    assert client.run(hop, "-o", f"IdentityAgent={agent}", "-A").status == 7


def test_agent_is_one_for_the_connection(client: Client, agent: str, tmp_path: Path) -> None:
    """Protects ControlMaster: its sessions share one agent socket, which stays when one of them ends."""
    with Master(client, tmp_path, "-A", "-o", f"IdentityAgent={agent}") as master:
        paths = [master.run('echo "$SSH_AUTH_SOCK"; ssh-add -l >&2', "-A").stdout.decode().strip() for _ in range(3)]
        assert len(set(paths)) == 1
        assert Path(paths[0]).exists()
        master.process.kill()
        master.process.wait()
        until(lambda: not Path(paths[0]).parent.exists(), what="removed agent socket")


def test_no_agent_unless_asked(client: Client, agent: str) -> None:
    """Protects a client's keys: without -A there is no agent socket."""
    assert client.run('echo "${SSH_AUTH_SOCK-unset}"', "-o", f"IdentityAgent={agent}").stdout == b"unset\n"


def test_agent_can_be_switched_off(make_server: MakeServer, user_key: KeyPair, agent: str) -> None:
    """Protects `forwarding.agent = false`: the session runs without a socket, and the log has the request."""
    client = Client(make_server({"forwarding": {"agent": False}}), user_key.private)
    assert client.run('echo "${SSH_AUTH_SOCK-unset}"', "-o", f"IdentityAgent={agent}", "-A").stdout == b"unset\n"
    assert "agent" in client.server.wait_for("request.denied")["reason"]


def test_agent_that_has_gone(client: Client, tmp_path: Path) -> None:
    """Protects the session from an agent that ended at the client: only ssh-add fails."""
    gone = tmp_path / "gone"
    with Target(lambda sock: None, str(gone)):
        ssh = client.popen("read _; ssh-add -l; echo $?", "-A", "-o", f"IdentityAgent={gone}")
    gone.unlink()
    out, _ = ssh.communicate(b"\n", timeout=PATIENCE)
    assert out.split()[-1] in {b"1", b"2"}


def test_agent_socket_takes_many(client: Client, agent: str, tmp_path: Path) -> None:
    """Protects `parallel ssh` with a forwarded agent: ten requests at a time are all answered."""
    command = "for i in 1 2 3 4 5 6 7 8 9 10; do ssh-add -l & done; wait"
    result = client.run(command, "-A", "-o", f"IdentityAgent={agent}")
    assert result.stdout.count(b"SHA256:") == 10


def test_agent_data_is_whole(client: Client, tmp_path: Path) -> None:
    """Protects the agent protocol's messages: bytes pass unchanged, half-close included."""
    place = str(tmp_path / "echo")
    with Target(echo, place), Master(client, tmp_path, "-A", "-o", f"IdentityAgent={place}") as master:
        path = master.run('echo "$SSH_AUTH_SOCK"', "-A").stdout.decode().strip()
        with dial(path) as sock:
            sock.sendall(b"\x00\x00\x00\x01\x0b")
            assert read_exactly(sock, 5) == b"\x00\x00\x00\x01\x0b"
