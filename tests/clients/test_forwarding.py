"""Outgoing connections for the client: -L, -D, -W and -J, with the real ssh, and everything that can go wrong."""

import asyncio
import hashlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.forwards import (
    Address,
    Master,
    Target,
    answer,
    dial,
    digest,
    echo,
    exchange_at_once,
    free_port,
    read_all,
    read_exactly,
    socks5,
)
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

CHANNELS = 150
"""More than any client is known to open at once: VS Code in a browser needs 75."""

ENOUGH = 8 * 1024 * 1024
"""More than the windows and socket buffers on the way to a target hold."""


@pytest.fixture
def master(client: Client, tmp_path: Path) -> Iterator[Master]:
    """A connection to the module's server, to which tests add forwards."""
    with Master(client, tmp_path) as running:
        yield running


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_local_forward(master: Master, server: Server, tmp_path: Path, host: str) -> None:
    """Protects -L to an IPv4 address, an IPv6 address and a name, with half-close in both directions."""
    local = str(tmp_path / "l")
    since = server.mark()
    with Target(digest, ("::1" if host == "::1" else "127.0.0.1", 0)) as target:
        master.forward("-L", f"{local}:[{host}]:{target.port}")
        data = os.urandom(300_000)
        assert answer(local, data) == hashlib.sha256(data).digest()
        closed = server.wait_for("forward.closed", since=since)
    assert (closed["kind"], closed["target"]) == ("direct-tcpip", f"{host}:{target.port}")
    assert (closed["bytes_in"], closed["bytes_out"]) == (len(data), 32)


def test_half_close_by_the_target(master: Master, tmp_path: Path) -> None:
    """Protects a target that stops sending but still receives: each direction's end is passed on when it happens."""
    local = str(tmp_path / "l")
    heard: list[bytes] = []

    def speak_first(sock: socket.socket) -> None:
        sock.sendall(b"all that I have to say")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    with Target(speak_first) as target:
        master.forward("-L", f"{local}:127.0.0.1:{target.port}")
        with dial(local) as sock:
            assert read_all(sock) == b"all that I have to say"
            sock.sendall(b"x" * 200_000)
    assert heard == [b"x" * 200_000]


def test_target_that_hangs_up_ends_the_upload(master: Master, server: Server, tmp_path: Path) -> None:
    """Protects an upload to a server that has closed its socket: the sender gets an error, and stops sending."""
    local = str(tmp_path / "l")
    with Target(lambda sock: None) as target:
        master.forward("-L", f"{local}:127.0.0.1:{target.port}")
        since = server.mark()
        with dial(local) as sock:
            assert read_all(sock) == b""  # the target's EOF has been passed on
            with pytest.raises(OSError, match=r"Broken pipe|reset"):
                sock.sendall(bytes(20 * ENOUGH))
            server.wait_for("forward.closed", since=since)


def test_client_that_hangs_up_ends_the_download(master: Master, tmp_path: Path) -> None:
    """Protects the target from sending to a client that has gone: its socket gets an error."""
    local = str(tmp_path / "l")
    broken: list[bool] = []

    def send(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(bytes(65536))
        except (BrokenPipeError, ConnectionResetError):
            broken.append(True)

    with Target(send) as target:
        master.forward("-L", f"{local}:127.0.0.1:{target.port}")
        with dial(local) as sock:
            assert read_exactly(sock, 1000)
    assert broken == [True]


def test_target_that_does_not_read(master: Master, tmp_path: Path) -> None:
    """Protects backpressure: a sender is stopped if its target reads nothing, and other channels go on."""
    local, other = str(tmp_path / "l"), str(tmp_path / "o")
    received: list[bytes] = []
    with Target(echo) as quick, socket.create_server(("127.0.0.1", 0)) as slow:
        master.forward("-L", f"{local}:127.0.0.1:{slow.getsockname()[1]}", "-L", f"{other}:127.0.0.1:{quick.port}")
        slow.settimeout(PATIENCE)
        with dial(local) as sock:
            target, _ = slow.accept()
            sock.settimeout(1)  # with backpressure no event happens to wait for
            data = memoryview(os.urandom(4 * ENOUGH))
            sent = send_what_is_taken(sock, data)
            assert sent < len(data)
            assert answer(other, b"still here") == b"still here"
            with target:
                target.settimeout(PATIENCE)
                while sum(map(len, received)) < sent:
                    received.append(target.recv(1 << 20))
    assert b"".join(received) == data[:sent]


def send_what_is_taken(sock: socket.socket, data: memoryview) -> int:
    """Send until the socket's timeout; returns the number of bytes that were taken."""
    sent = 0
    with suppress(TimeoutError):
        while sent < len(data):
            sent += sock.send(data[sent : sent + 65536])
    return sent


def test_many_channels_at_once(master: Master, server: Server, tmp_path: Path) -> None:
    """Protects 150 channels open at the same time on one connection, each with its own bytes."""
    local = str(tmp_path / "l")
    since = server.mark()
    with Target(echo) as target:
        master.forward("-L", f"{local}:127.0.0.1:{target.port}")
        exchange_at_once(lambda: dial(local), CHANNELS, 64 * 1024)
    server.wait_for("forward.closed", since=since, count=CHANNELS)
    assert {event["bytes_in"] for event in server.find("forward.closed", since)} == {64 * 1024}


def test_refused_and_unresolvable(master: Master, server: Server, tmp_path: Path) -> None:
    """Protects a person whose forward leads nowhere: ssh shows the reason, and the connection goes on."""
    refused, unknown = str(tmp_path / "r"), str(tmp_path / "u")
    master.forward("-L", f"{refused}:127.0.0.1:{free_port()}", "-L", f"{unknown}:no-such-host.invalid:80")
    since = server.mark()
    for local in (refused, unknown):
        assert answer_or_cut(local) == b""
    until(lambda: "connect failed: Connection refused" in master.said, what="the reason")
    until(lambda: master.said.count("open failed: connect failed: ") == 2, what="both reasons")
    assert master.run("exit 3").status == 3
    reasons = {event["request"].partition(" ")[2]: event["reason"] for event in server.find("request.denied", since)}
    assert any(reason == "Connection refused" for reason in reasons.values())
    assert "no-such-host.invalid:80" in reasons


def answer_or_cut(address: Address) -> bytes:
    """The bytes that come from `address` until it closes or resets the connection."""
    try:
        return answer(address, b"x")
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_unreachable(master: Master, tmp_path: Path) -> None:
    """Protects the same for an unreachable network."""
    try:
        socket.create_connection(("255.255.255.255", 9), 1).close()
    except OSError as error:
        expected = error.strerror
    local = str(tmp_path / "l")
    master.forward("-L", f"{local}:255.255.255.255:9")
    assert answer_or_cut(local) == b""
    until(lambda: f"open failed: connect failed: {expected}" in master.said, what=f"the reason {expected!r}")


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 80),
        ("a..b", 80),
        (f"{'x' * 70}.example", 80),
        ("x" * 300, 80),
        ("\0", 80),
        ("127.0.0.1\0", 80),
        ("127.0.0.1 ", 80),
        ("\udcff\udcfe", 80),
        ("ä.invalid", 80),
        ("-", 80),
        ("%", 80),
        ("::g", 80),
        ("fe80::1%no-such-interface", 80),
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", 70000),
        ("127.0.0.1", 2**32 - 1),
    ],
)
def test_impossible_destination(client: Client, host: str, port: int) -> None:
    """Protects the connection, and all channels on it, from invalid destinations."""

    async def try_it() -> int:
        async with client.connect() as connection:
            channel = connection.create_tcp_channel()
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                # Bypasses asyncssh's encoding of the name, which takes only valid UTF-8.
                await channel._open(  # noqa: SLF001 - the public way takes only UTF-8
                    b"direct-tcpip",
                    _string(host.encode("utf-8", "surrogateescape")),
                    struct.pack(">I", port),
                    _string(b"127.0.0.1"),
                    struct.pack(">I", 1),
                )
            assert (await connection.run("exit 3", timeout=PATIENCE)).exit_status == 3
            return refused.value.code

    assert asyncio.run(try_it()) in {asyncssh.OPEN_CONNECT_FAILED, asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED}


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_socks(master: Master, scheme: str) -> None:
    """Protects -D with every kind of SOCKS that a program may speak."""
    proxy = free_port()
    master.forward("-D", f"127.0.0.1:{proxy}")

    def page(sock: socket.socket) -> None:
        while read_exactly(sock, 1) != b"\n" or read_exactly(sock, 2) != b"\r\n":
            pass
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with Target(page) as target:
        url = f"http://127.0.0.1:{target.port}/"
        command = ["curl", "-q", "-sS", "--max-time", str(PATIENCE), "-x", f"{scheme}://127.0.0.1:{proxy}", url]
        done = subprocess.run(command, capture_output=True, check=False, env=client_environment(), timeout=2 * PATIENCE)
    assert (done.stdout, done.stderr) == (b"hi", b"")


@pytest.mark.parametrize("host", [b"a..b", b"x" * 70 + b".example", b"no-such-host.invalid", b"127.0.0.1\0", b"\xff"])
def test_socks_with_an_impossible_name(master: Master, host: bytes) -> None:
    """Protects a browser's other tabs behind -D from a tab whose host name does not exist."""
    proxy = free_port()
    master.forward("-D", f"127.0.0.1:{proxy}")
    with pytest.raises(ConnectionError):
        socks5(proxy, host, 80)
    with Target(echo) as target, socks5(proxy, b"127.0.0.1", target.port) as sock:
        sock.sendall(b"still here")
        assert read_exactly(sock, 10) == b"still here"
    assert master.run("exit 3").status == 3


def test_standard_streams(client: Client) -> None:
    """Protects `ssh -W`, on which jump hosts are built: the standard streams are the connection."""
    with Target(digest) as target:
        result = client.run(None, "-W", f"127.0.0.1:{target.port}", input=b"x" * 100_000)
    assert result == (0, hashlib.sha256(b"x" * 100_000).digest(), b"")


def test_jump_through_us(make_server: MakeServer, client: Client, server: Server, user_key: KeyPair) -> None:
    """Protects `ssh -J`: a jump through one of our servers to a second one, which sees an ordinary connection."""
    behind = Client(make_server(), user_key.private)
    # -J takes no identity or known hosts, so the test uses what it stands for (ssh_config(5), ProxyJump).
    jump = " ".join(client.argv(None, "-W", "[%h]:%p"))
    result = behind.run("cat; exit 4", "-o", f"ProxyCommand={jump}", input=b"x" * 1_000_000)
    assert (result.status, len(result.stdout)) == (4, 1_000_000)
    assert server.find("forward.opened", target=f"127.0.0.1:{behind.server.port}")


def test_forward_ends_with_its_connection(client: Client, server: Server, tmp_path: Path) -> None:
    """Protects targets from a killed client: its open forwards are closed, and the log says so."""
    local = str(tmp_path / "l")
    with Target(echo) as target, Master(client, tmp_path, "-L", f"{local}:127.0.0.1:{target.port}") as master:
        since = server.mark()
        with dial(local) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
            master.process.kill()
            master.process.wait()
            closed = server.wait_for("forward.closed", since=since)
    assert (closed["bytes_in"], closed["bytes_out"]) == (1, 1)


def test_client_that_leaves_while_a_connection_is_made(client: Client, server: Server) -> None:
    """Protects against leaks between the request and the socket: the fixture looks for them."""

    async def leave(port: int) -> None:
        connection = await client.connect()
        opening = [asyncio.ensure_future(connection.open_connection("127.0.0.1", port)) for _ in range(20)]
        await asyncio.sleep(0)  # every request has been sent, none has been answered
        connection.abort()
        await asyncio.gather(*opening, return_exceptions=True)

    with Target(echo) as target:
        since = server.mark()
        for _ in range(5):
            asyncio.run(leave(target.port))
        server.wait_for("connection.closed", since=since, count=5)


def test_every_forward_of_the_log_is_closed(client: Client, server: Server) -> None:
    """Protects the log: as many forwards were closed as were opened."""

    def open_ones() -> int:
        return len(server.find("forward.opened")) - len(server.find("forward.closed"))

    until(lambda: open_ones() == 0, what="balance")
