"""Requests of one connection are served in the order in which they came, and nothing else waits for them."""

import base64
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.forwards import free_port
from tests.support.server import Server
from tests.support.waiting import until
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_FAILURE,
    CHANNEL_OPEN,
    CHANNEL_SUCCESS,
    GLOBAL_REQUEST,
    OPEN_CONFIRMATION,
    OPEN_FAILURE,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    WINDOW_ADJUST,
    RawClient,
    connected,
    play,
    u32,
)

LISTENERS = 9

LONG = text(bytes(200 * 1024))
"""Makes a request nearly as long as a packet may be."""


def listen(client: RawClient, port: int) -> None:
    """Request a listener, as -R does."""
    client.say(GLOBAL_REQUEST, text(b"tcpip-forward"), b"\1", text(b"127.0.0.1") + u32(port))


def connect(client: RawClient, port: int) -> None:
    """Request a connection to a port of the machine, as -L does."""
    target = text(b"127.0.0.1") + u32(port) + text(b"127.0.0.1") + u32(1)
    client.say(CHANNEL_OPEN, text(b"direct-tcpip"), u32(50, 1 << 20, 32768), target)


def test_a_channel_is_opened_after_the_listeners_before_it(server: Server, user_key: KeyPair) -> None:
    """A connection to a port that was requested before it is not refused, however long opening the port takes."""
    ports = [free_port() for _ in range(LISTENERS)]

    async def scenario(client: RawClient) -> None:
        for port in ports:
            listen(client, port)
        connect(client, ports[-1])
        for _ in ports:
            assert (await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE, OPEN_FAILURE))[0] == REQUEST_SUCCESS
        pkttype, _ = await client.hear(OPEN_CONFIRMATION, OPEN_FAILURE)
        assert pkttype == OPEN_CONFIRMATION

    play(server, user_key, scenario)


def test_a_command_starts_after_the_listeners_before_it(server: Server, user_key: KeyPair) -> None:
    """A command can connect at once to a port that its client requested before, even without waiting for the reply."""
    ports = [free_port() for _ in range(LISTENERS)]

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        for port in ports:
            listen(client, port)
        command = f"exec 3<>/dev/tcp/127.0.0.1/{ports[-1]} && echo connected".encode()
        client.request(channel, b"exec", text(b"bash -c '" + command + b"'"), reply=False)
        output, status = await client.finish(channel)
        assert (output, status) == (b"connected\n", 0)

    play(server, user_key, scenario)


def have_proved(client: RawClient, server: Server) -> None:
    """Request the proof of a host key (OpenSSH's PROTOCOL, section 2.5), which the monitor makes."""
    blob = base64.b64decode((server.keys_dir / "ssh_host_ed25519_key.pub").read_text().split()[1])
    client.say(GLOBAL_REQUEST, text(b"hostkeys-prove-00@openssh.com"), b"\1", text(blob))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stops one of the server's processes for as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: [process.state for process in [processes.find(pid)] if process] == ["T"], what="stopped process")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_data_does_not_wait_for_a_slow_request(server: Server, user_key: KeyPair) -> None:
    """Open channels go on while a global request is being served; requests after it are served after it."""
    port = free_port()

    async def scenario(client: RawClient) -> None:
        running, later, closed = (
            await client.started(b"exec cat", window=5),
            *[await client.open_session() for _ in "12"],
        )
        with stopped(server.gateway_pid):
            have_proved(client, server)
            listen(client, port)
            client.request(closed, b"nonsense")
            client.say(CHANNEL_CLOSE, u32(closed))
            client.request(later, b"exec", text(b"echo done"))
            connect(client, port)
            client.say(CHANNEL_DATA, u32(running), text(b"one two"))
            assert (await client.hear(CHANNEL_DATA))[1][8:] == b"one t"
            client.say(WINDOW_ADJUST, u32(running, 100))
            assert (await client.hear(CHANNEL_DATA))[1][8:] == b"wo"
            assert client.connection.heard.empty()
        answers = (REQUEST_SUCCESS, CHANNEL_FAILURE, CHANNEL_CLOSE, CHANNEL_SUCCESS, OPEN_CONFIRMATION, OPEN_FAILURE)
        heard = [(await client.hear(*answers))[0] for _ in range(6)]
        assert heard[:4] == [REQUEST_SUCCESS, REQUEST_SUCCESS, CHANNEL_FAILURE, CHANNEL_CLOSE]
        assert set(heard[4:]) == {CHANNEL_SUCCESS, OPEN_CONFIRMATION}  # these two do not wait for each other
        client.say(CHANNEL_CLOSE, u32(running))

    play(server, user_key, scenario)


def test_requests_that_wait_are_bounded(server: Server, user_key: KeyPair) -> None:
    """Protects memory: a client with long requests is not read while they wait for a slow one."""

    async def scenario(client: RawClient) -> None:
        running = await client.started(b"exec cat")
        async with connected(server, user_key.private) as other:
            with stopped(server.gateway_pid):
                have_proved(client, server)
                for _ in range(3):
                    client.say(GLOBAL_REQUEST, text(b"nonsense"), b"\1", LONG)
                client.say(CHANNEL_DATA, u32(running), text(b"data"))
                assert await other.is_alive()
                assert client.connection.heard.empty()
            for expected in (REQUEST_SUCCESS, REQUEST_FAILURE, REQUEST_FAILURE, REQUEST_FAILURE, CHANNEL_DATA):
                assert (await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE, CHANNEL_DATA))[0] == expected
        client.say(CHANNEL_CLOSE, u32(running))

    play(server, user_key, scenario)


def test_requests_that_wait_on_a_channel_are_bounded(server: Server, user_key: KeyPair) -> None:
    """The same for the requests of one channel, but too many end the connection: no correct client does that."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        with stopped(server.pid):
            client.request(channel, b"exec", text(b"true"))
            for _ in range(3):
                client.request(channel, b"nonsense", LONG)
            await client.is_cut_off()

    play(server, user_key, scenario)
