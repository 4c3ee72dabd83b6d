"""One client does not delay others, whatever it sends and however little it reads.

The attacker is a process of its own (`bench.flooder`, with which the benchmark floods both servers); it floods until
it is stopped. The bystander is another connection.
"""

import asyncio
import hashlib
import os
import pwd
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import pytest

from bench.flooder import EXEC_CONNECTIONS
from bench.floods import NAMES, flooding
from tests.conftest import KeyPair
from tests.support.account import other_account
from tests.support.server import Server
from tests.support.waiting import PATIENCE
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_OPEN,
    GLOBAL_REQUEST,
    OPEN_CONFIRMATION,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    WINDOW_ADJUST,
    RawClient,
    connected,
    end_processes,
    play,
    u32,
)
from tests.wire.test_flow import Growth

TIMES_AS_LONG = 10
AT_LEAST = 1.0
"""A key or a login may take ten times as long under a flood as before it, and a second in any case: what takes a
millisecond on an idle machine takes many when an attacker and a client compete for two processors. Without turns it
always takes several seconds or more."""

KEYS, LOGINS = 20, 3

LOGGED_IN = {"early": 0, "execs": EXEC_CONNECTIONS}
"""The number of connections on which the attacker logs in; the default is one."""

FORWARDS = 60
READ = 32 * 1024
"""postauth.pump.READ_BYTES: how much is read from a socket at a time. In packets of one byte this becomes 1.2 MB."""

BYSTANDER = "127.0.0.9"


async def slowest(server: Server, user_key: KeyPair) -> tuple[float, float]:
    """The longest time until a key's echo, and the longest time of a login."""
    keys, logins = [], []
    async with connected(server, user_key.private, source=BYSTANDER) as client:
        channel = await client.started(b"exec cat")
        for _ in range(KEYS):
            began = time.monotonic()
            client.say(CHANNEL_DATA, u32(channel), text(b"x"))
            await client.hear(CHANNEL_DATA)
            keys.append(time.monotonic() - began)
    for _ in range(LOGINS):
        began = time.monotonic()
        async with connected(server, user_key.private, source=BYSTANDER) as client:
            logins.append(time.monotonic() - began)
    return max(keys), max(logins)


def measure(server: Server, user_key: KeyPair) -> tuple[float, float]:
    """The same for callers that are not coroutines."""

    async def whole() -> tuple[float, float]:
        async with asyncio.timeout(PATIENCE):
            return await slowest(server, user_key)

    return asyncio.run(whole())


class Flooded(NamedTuple):
    """A server, and the attacker's account, which differs from the bystander's, the server's `login`."""

    server: Server
    attacker: str


@pytest.fixture(scope="module")
def flooded(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Flooded]:
    """A server to flood. Only root can serve two accounts; otherwise the attacker is another connection."""
    keys = [f"file:{user_key.public}"]
    with ExitStack() as stack:
        attacker = account.pw_name
        if os.geteuid() == 0:
            attacker = stack.enter_context(other_account("flooder")).pw_name
        logins = [{"user": user, "keys": keys} for user in {account.pw_name, attacker}]
        directory = tmp_path_factory.mktemp("server")
        server = Server(directory, login=account.pw_name, keys=keys, settings={"login": logins})
        yield Flooded(stack.enter_context(server), attacker)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_a_flood_holds_up_nobody_else(flooded: Flooded, user_key: KeyPair, kind: str) -> None:
    """Other people's keys and logins go on while another account sends, or requests, tiny packets without end."""
    server = flooded.server
    mark = server.mark()
    key_before, login_before = measure(server, user_key)
    with flooding(server.port, flooded.attacker, str(user_key.private), kind) as attacker:
        key, login = measure(server, user_key)
        assert attacker.poll() is None, "the flood ended before it was measured"
    server.wait_for("connection.closed", since=mark, count=2 * (1 + LOGINS) + LOGGED_IN.get(kind, 1))
    end_processes(server, mark)
    assert key < max(TIMES_AS_LONG * key_before, AT_LEAST), f"{key:.3f} s for a key, {key_before:.3f} s before"
    assert login < max(TIMES_AS_LONG * login_before, AT_LEAST), f"{login:.3f} s, {login_before:.3f} s before"
    assert not server.find("internal.error", mark)


@contextmanager
def talkative(data: bytes) -> Iterator[int]:
    """A TCP server that sends `data`, which fits into the kernel's buffer, and the end to each client; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=FORWARDS) as listening:
        streams: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    streams.append(listening.accept()[0])
                    streams[-1].sendall(data)
                    streams[-1].shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for stream in streams:
                stream.close()


async def forwarded(client: RawClient, port: int, *, window: int, packet: int, number: int) -> int:
    """Open a forwarded connection; returns the server's number for its channel."""
    origin = text(b"127.0.0.1") + u32(1)
    client.say(CHANNEL_OPEN, text(b"direct-tcpip"), u32(number, window, packet), text(b"127.0.0.1"), u32(port), origin)
    _, payload = await client.hear(OPEN_CONFIRMATION)
    return int.from_bytes(payload[4:8], "big")


def test_what_waits_for_its_turn_waits_as_it_was_read(server: Server, user_key: KeyPair) -> None:
    """Data for a client that takes one byte per packet, and reads nothing, is not stored as packets in our memory."""

    async def scenario(client: RawClient) -> None:
        with talkative(bytes(READ)) as port:
            channels = [await forwarded(client, port, window=0, packet=1, number=number) for number in range(FORWARDS)]
            tcp = client.connection.tcp
            tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            tcp.pause_reading()
            growth = Growth(server)
            for channel in channels:
                client.say(WINDOW_ADJUST, u32(channel, 1 << 20))
            async with connected(server, user_key.private, source=BYSTANDER) as other:
                assert await other.is_alive()
            await growth.watch(1.0)

    play(server, user_key, scenario)


@pytest.mark.parametrize("packet", [1, 7, 1000])
def test_data_in_tiny_packets_arrives_whole_and_in_order(server: Server, user_key: KeyPair, packet: int) -> None:
    """Many turns neither lose nor reorder data, and the end comes after the last byte."""
    sent = b"".join(b"%05d" % number for number in range(4000))

    async def scenario(client: RawClient) -> None:
        with talkative(sent) as port:
            channel = await forwarded(client, port, window=1 << 20, packet=packet, number=1)
            received, end = bytearray(), False
            while not end:
                pkttype, payload = await client.hear(CHANNEL_DATA, CHANNEL_EOF)
                end = pkttype == CHANNEL_EOF
                assert len(payload) <= 8 + packet
                received += payload[8:]
            assert received == sent
            client.say(CHANNEL_CLOSE, u32(channel))
            await client.hear(CHANNEL_CLOSE)

    play(server, user_key, scenario)


def test_other_channels_have_their_turns_beside_tiny_packets(server: Server, user_key: KeyPair) -> None:
    """Also on one connection, a channel with much to send does not go before the others."""

    async def scenario(client: RawClient) -> None:
        quick = await client.started(b"exec cat")
        with talkative(bytes(READ)) as port:
            slow = await forwarded(client, port, window=0, packet=1, number=2)
            assert await client.is_alive()  # meanwhile everything has been read, and waits for a window
            client.say(WINDOW_ADJUST, u32(slow, READ))
            client.say(CHANNEL_DATA, u32(quick), text(b"hello"))
            received, payload = -1, b""
            while not payload.endswith(b"hello"):
                received += 1
                _, payload = await client.hear(CHANNEL_DATA)
            assert received < READ - 1, "all of a read went before the other channel's data"

    play(server, user_key, scenario)


def test_what_is_said_behind_a_request_to_log_in_waits_for_its_answer(server: Server, user_key: KeyPair) -> None:
    """A login decision may take time; messages that came with the request are served after it, in their order."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key)
        for number in range(200):
            client.say(CHANNEL_OPEN if number == 100 else GLOBAL_REQUEST, *_asked(number))
        answers = [(await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE, OPEN_CONFIRMATION))[0] for _ in range(200)]
        assert answers.count(OPEN_CONFIRMATION) == 1

    play(server, user_key, scenario, authenticate=False)


def _asked(number: int) -> tuple[bytes, ...]:
    if number == 100:
        return text(b"session"), u32(1, 1, 1)
    return text(b"keepalive@openssh.com"), b"\1"


def test_who_asks_ahead_is_heard_again_when_all_is_answered(server: Server, user_key: KeyPair) -> None:
    """A client with more waiting requests than allowed is not read until all are answered, and nothing is lost."""

    async def scenario(client: RawClient) -> None:
        for _ in range(3):
            client.say(GLOBAL_REQUEST, text(b"tcpip-forward"), b"\1", text(b"localhost"), u32(0))
            for _ in range(200):
                client.say(GLOBAL_REQUEST, text(b"keepalive@openssh.com"), b"\1")
        for number in range(603):
            _, payload = await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE)
            assert len(payload) == (4 if number % 201 == 0 else 0)
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_thousands_of_messages_in_one_read_are_all_served(server: Server, user_key: KeyPair) -> None:
    """A budget for each turn changes when a message is served, but neither whether it is served, nor the order."""
    lines = b"".join(b"%d\n" % number for number in range(5000))

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"sha256sum")
        for number in range(5000):
            client.say(CHANNEL_DATA, u32(channel), text(b"%d\n" % number))
        client.say(CHANNEL_EOF, u32(channel))
        output, status = await client.finish(channel)
        assert (output.split()[0].decode(), status) == (hashlib.sha256(lines).hexdigest(), 0)

    play(server, user_key, scenario)
