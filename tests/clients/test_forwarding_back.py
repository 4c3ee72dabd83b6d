"""Ports that the server opens for the client: -R to one or several targets, any port, SOCKS, and their end."""

import asyncio
import hashlib
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.forwards import (
    Master,
    Target,
    answer,
    dial,
    digest,
    echo,
    exchange_at_once,
    free_port,
    listening_addresses,
    read_all,
    read_exactly,
    socks5,
)
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

LOOPBACK = {"127.0.0.1", "::1"}
ANYWHERE = {"0.0.0.0", "::"}

CHANNELS = 100

MOST = 1000
"""Forwarded connections that one client may have (MAX_FORWARDS)."""


@pytest.fixture
def master(client: Client, tmp_path: Path) -> Iterator[Master]:
    """A connection to the module's server, to which tests add forwards."""
    with Master(client, tmp_path) as running:
        yield running


def test_any_port(master: Master, server: Server) -> None:
    """Protects `-R 0:...`: one port, which is sent to the client, listens on both loopback addresses, and is logged."""
    since = server.mark()
    with Target(digest) as target:
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        assert listening_addresses(port) == LOOPBACK
        for host in LOOPBACK:
            data = os.urandom(300_000)
            assert answer((host, port), data) == hashlib.sha256(data).digest()
    assert server.wait_for("forward.listening", since=since)["target"] == f"localhost:{port}"
    closed = server.wait_for("forward.closed", since=since, count=2)
    assert (closed["kind"], closed["bytes_in"], closed["bytes_out"]) == ("forwarded-tcpip", 32, 300_000)


def test_several_ports(master: Master) -> None:
    """Protects several -R on one connection: each port, also one that the server chose, leads to its own target."""
    with Target(echo) as one, Target(digest) as other:
        asked = free_port()
        places = [master.forward("-R", f"0:127.0.0.1:{target.port}") for target in (one, other)]
        master.forward("-R", f"{asked}:127.0.0.1:{one.port}")
        answers = [answer(("127.0.0.1", port), b"hello") for port in (*places, asked)]
    assert answers == [b"hello", hashlib.sha256(b"hello").digest(), b"hello"]


def test_cancelled_port(master: Master) -> None:
    """Protects `ssh -O cancel -R`: the port closes, open connections go on, and it can be opened again."""
    port = free_port()
    with Target(echo) as target:
        spec = f"{port}:127.0.0.1:{target.port}"
        master.forward("-R", spec)
        with dial(("127.0.0.1", port)) as sock:
            sock.sendall(b"a")
            assert read_exactly(sock, 1) == b"a"
            master.cancel("-R", spec)
            # The client does not wait for an answer to its cancel request (ssh.c, muxclient: it asks for none).
            until(lambda: not listening_addresses(port), what="end of the listener")
            sock.sendall(b"b")
            assert read_exactly(sock, 1) == b"b"
        master.forward("-R", spec)
        assert answer(("127.0.0.1", port), b"again") == b"again"


def test_socks_from_here(master: Master) -> None:
    """Protects `-R port` without a target: a SOCKS proxy on the server whose connections leave from the client."""
    with Target(echo) as target:
        port = master.forward("-R", "0")
        with socks5(port, b"127.0.0.1", target.port) as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"


def test_half_close_by_the_visitor_and_the_target(master: Master) -> None:
    """Protects half-close through -R: a target that speaks and ends first still receives what the visitor sends."""
    heard: list[bytes] = []

    def speak_first(sock: socket.socket) -> None:
        sock.sendall(b"first")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    with Target(speak_first) as target:
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        with dial(("127.0.0.1", port)) as sock:
            assert read_all(sock) == b"first"
            sock.sendall(b"x" * 200_000)
    assert heard == [b"x" * 200_000]


def test_many_visitors_at_once(master: Master, server: Server) -> None:
    """Protects a forwarded port for a whole browser: 100 connections at the same time."""
    since = server.mark()
    with Target(echo) as target:
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        exchange_at_once(lambda: dial(("127.0.0.1", port)), CHANNELS, 64 * 1024)
    server.wait_for("forward.closed", since=since, count=CHANNELS)


def test_target_that_refuses(master: Master, server: Server) -> None:
    """Protects a forwarded port whose program at the client is not running: visitors are cut, the port stays open."""
    since = server.mark()
    port = master.forward("-R", f"0:127.0.0.1:{free_port()}")
    for _ in range(3):
        with dial(("127.0.0.1", port)) as sock:
            assert read_all(sock) == b""
    assert "the client refused" in server.wait_for("request.denied", since=since, count=3)["reason"]
    assert master.run("exit 3").status == 3


def test_port_that_is_taken(master: Master) -> None:
    """Protects a program that already has the port, and the client from believing that the port was opened."""
    with Target(echo) as target:
        result = master.control("forward", "-R", f"{target.port}:127.0.0.1:{target.port}")
        # Only 127.0.0.1 is taken: sshd, too, accepts ::1 alone in that case.
        assert (result.status == 0) == (listening_addresses(target.port) == LOOPBACK)
        assert answer(("127.0.0.1", target.port), b"mine") == b"mine"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        port = six.getsockname()[1]
        with socket.create_server(("127.0.0.1", port)):
            assert master.control("forward", "-R", f"{port}:127.0.0.1:1").status != 0
    assert master.run("exit 3").status == 3


def test_ports_close_with_the_connection(client: Client, server: Server, tmp_path: Path) -> None:
    """Protects the port's next user: the port is free as soon as the client that had it opened is killed."""
    with Target(echo) as target, Master(client, tmp_path) as master:
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        since = server.mark()
        with dial(("127.0.0.1", port)) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
            master.process.kill()
            master.process.wait()
            server.wait_for("connection.closed", since=since)
            assert read_all(sock) == b""
        assert listening_addresses(port) == set()


def test_client_that_leaves_while_a_port_is_opened(client: Client, server: Server) -> None:
    """Protects against ports that stay open for a client that left before they were opened."""

    async def leave() -> None:
        connection = await client.connect()
        opening = [asyncio.ensure_future(connection.forward_remote_port("", 0, "127.0.0.1", 1)) for _ in range(5)]
        await asyncio.sleep(0)  # every request has been sent, none has been answered
        connection.abort()
        await asyncio.gather(*opening, return_exceptions=True)

    since = server.mark()
    for _ in range(5):
        asyncio.run(leave())
    server.wait_for("connection.closed", since=since, count=5)
    # The fixture that looks for leaks finds anything that is left open.


@pytest.mark.parametrize(
    ("setting", "bind", "expected"),
    [
        ("no", "", LOOPBACK),
        ("no", "*:", LOOPBACK),
        ("no", "127.0.0.1:", {"127.0.0.1"}),
        ("no", "192.0.2.99:", LOOPBACK),
        ("yes", "", ANYWHERE),
        ("yes", "localhost:", ANYWHERE),
        ("clientspecified", "", LOOPBACK),
        ("clientspecified", "*:", ANYWHERE),
        ("clientspecified", "0.0.0.0:", {"0.0.0.0"}),
        ("clientspecified", "127.0.0.2:", {"127.0.0.2"}),
        ("clientspecified", "[::1]:", {"::1"}),
        ("clientspecified", "localhost:", LOOPBACK),
    ],
)
def test_gateway_ports(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, *, setting: str, bind: str, expected: set[str]
) -> None:
    """Protects the machine's other networks: the configuration decides who can reach a forwarded port."""
    client = Client(make_server({"forwarding": {"gateway_ports": setting}}), user_key.private)
    with Master(client, tmp_path) as master, Target(echo) as target:
        port = master.forward("-R", f"{bind}0:127.0.0.1:{target.port}")
        assert listening_addresses(port) == expected
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first := min(expected), first)
        assert answer((host, port), b"hello") == b"hello"


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (b"a..b", 0),
        (b"x" * 70, 0),
        (b"x" * 5000, 0),
        (b"\0", 0),
        (b"\xff", 0),
        (b"no-such-host.invalid", 0),
        (b"192.0.2.99", 0),
        (b"127.0.0.1", 70000),
        (b"127.0.0.1", 2**32 - 1),
    ],
)
def test_impossible_place_to_listen(make_server: MakeServer, user_key: KeyPair, host: bytes, port: int) -> None:
    """Protects the connection from a request for an invalid listening address: the answer is a failure."""
    client = Client(make_server({"forwarding": {"gateway_ports": "clientspecified"}}), user_key.private)
    assert global_request(client, b"tcpip-forward", _string(host) + struct.pack(">I", port)) is False


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (b"cancel-tcpip-forward", struct.pack(">I", 9) + b"localhost" + struct.pack(">I", 1)),
        (b"cancel-streamlocal-forward@openssh.com", struct.pack(">I", 4) + b"/tmp"),
    ],
)
def test_cancelling_what_there_is_not(client: Client, name: bytes, arguments: bytes) -> None:
    """Protects the connection of a client that cancels twice."""
    assert global_request(client, name, arguments) is False


def global_request(client: Client, name: bytes, arguments: bytes) -> bool:
    """Whether the server grants a request; the connection has to serve a session afterwards."""

    async def ask() -> bool:
        async with client.connect() as connection:
            kind, _ = await connection._make_global_request(name, arguments)  # noqa: SLF001 - there is no public method
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
            return bool(kind == asyncssh.constants.MSG_REQUEST_SUCCESS)

    return asyncio.run(ask())


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_same_port_twice(client: Client) -> None:
    """Protects the first of two requests for one port: the second fails, and the first goes on."""

    async def ask() -> None:
        async with client.connect() as connection:
            first = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", first.get_port(), "127.0.0.1", 1)
            assert listening_addresses(first.get_port()) == {"127.0.0.1"}

    asyncio.run(ask())


def test_ports_are_bounded(client: Client) -> None:
    """Protects the machine's ports from one client that asks for all of them."""

    async def ask() -> int:
        opened = 0
        async with client.connect() as connection:
            while opened < 1000:
                try:
                    await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
                except asyncssh.ChannelListenError:
                    break
                opened += 1
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
        return opened

    assert asyncio.run(ask()) == 100


@pytest.mark.slow
def test_visitors_of_a_stopped_client_are_bounded(master: Master, server: Server) -> None:
    """Protects the server's descriptors: visitors that a client has not answered count towards its limit."""
    port = master.forward("-R", "0:127.0.0.1:1")
    before = len(processes.descriptors(server.postauth_pid))
    master.process.send_signal(signal.SIGSTOP)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with ExitStack() as visitors:
            for _ in range(MOST + 300):
                visitors.enter_context(dial(("127.0.0.1", port)))
            # Each visitor that is held has one descriptor or more; those above the limit have been closed.
            until(lambda: _queued(port) == 0, what="empty queue")
            assert len(processes.descriptors(server.postauth_pid)) - before <= MOST
    finally:
        master.process.send_signal(signal.SIGCONT)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _queued(port: int) -> int:
    """The number of connections to `port` that wait to be accepted (a listener's rx_queue in proc_net_tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [fields for fields in lines if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port]
    return sum(int(fields[4].partition(":")[2], 16) for fields in mine)


def test_connections_at_once_are_bounded(client: Client, server: Server) -> None:
    """Protects the same from a client that opens more channels at once than its limit, before any is answered."""

    async def go(port: int) -> int:
        async with client.connect() as connection, asyncio.timeout(60):
            opening = (connection.open_connection("127.0.0.1", port) for _ in range(MOST + 300))
            opened = await asyncio.gather(*opening, return_exceptions=True)
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
        return sum(not isinstance(one, BaseException) for one in opened)

    with socket.create_server(("127.0.0.1", 0), backlog=2 * MOST) as target:
        assert asyncio.run(go(target.getsockname()[1])) <= MOST


def test_every_listener_is_gone(server: Server) -> None:
    """Protects the machine: after all these tests the server's processes listen on its own port only."""
    own = {f"socket:[{inode}]" for inode in _listening_inodes()}

    def held() -> set[str]:
        pids = (server.pid, *(process.pid for process in processes.descendants(server.pid)))
        return {target for pid in pids for target in processes.descriptors(pid) if target in own}

    until(lambda: len(held()) == 1, what="one listening socket")


def _listening_inodes() -> list[str]:
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [fields[9] for fields in lines if fields[3] == "0A"]
