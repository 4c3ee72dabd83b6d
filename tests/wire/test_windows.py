"""How far ahead a client may send: windows over a long distance, and the limit for all channels of an account."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_OPEN,
    OPEN_CONFIRMATION,
    OPEN_FAILURE,
    WINDOW_ADJUST,
    RawClient,
    connected,
    play,
    u32,
)
from tests.wire.test_flow import echo_is_prompt

PACKET = 32 * 1024
FIRST_BYTES = 2 * 1024 * 1024
FLOOR_BYTES = PACKET
ACCOUNT_BYTES = 64 * 1024 * 1024
"""The promises of core.windows: a channel's first window, its guaranteed window, and an account's total."""

FORWARDS = 150
"""So many forwards once made the gateway hold 310 MB."""

FLOORS = FORWARDS * FLOOR_BYTES
OTHER_GROWTH = 32 * 1024 * 1024
"""The memory for reading, encryption and the objects of so many forwards, in addition to the data that is held."""

ROUND_TRIP = 0.05
"""Seconds; so long that a window of 2 MiB is the limit."""


@pytest.fixture
def stuck(scratch: Path) -> Iterator[str]:
    """A socket whose connections are never read."""
    path = scratch / "stuck"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen(4 * FORWARDS)
        yield str(path)


async def forward(client: RawClient, path: str) -> tuple[int, int]:
    """Open a channel to the unix socket at `path`; the server's number for it, and its window."""
    client.say(CHANNEL_OPEN, text(b"direct-streamlocal@openssh.com"), u32(9, 1 << 21, PACKET), text(path.encode()))
    pkttype, payload = await client.hear(OPEN_CONFIRMATION, OPEN_FAILURE)
    assert pkttype == OPEN_CONFIRMATION, payload
    return int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[8:12], "big")


async def fill(client: RawClient, path: str, count: int) -> int:
    """Open `count` channels to `path`, then send everything that their windows allow; returns the number of bytes."""
    opened = [await forward(client, path) for _ in range(count)]
    for channel, window in opened:
        send(client, channel, window)
    return sum(window for _, window in opened)


def send(client: RawClient, channel: int, count: int) -> None:
    """Send so many bytes on the channel."""
    while count:
        packet = min(count, PACKET)
        client.say(CHANNEL_DATA, u32(channel), text(bytes(packet)))
        count -= packet


async def adjustment(client: RawClient) -> int:
    """Wait until the server offers more on the client's first session, number 1; how much."""
    while True:
        _, payload = await client.hear(WINDOW_ADJUST)
        if payload[:4] == u32(1):
            return int.from_bytes(payload[4:8], "big")


def test_an_account_holds_no_more_than_it_may(server: Server, user_key: KeyPair, stuck: str) -> None:
    """Protects everybody's memory: many forwards of two connections are full, and a third one's keys still arrive."""

    async def scenario(client: RawClient) -> None:
        before = processes.resident_bytes(server.postauth_pid)
        async with connected(server, user_key.private, source="127.0.0.8") as other:
            offered = await fill(client, stuck, FORWARDS // 2) + await fill(other, stuck, FORWARDS // 2)
            assert offered <= ACCOUNT_BYTES + FLOORS
            await echo_is_prompt(server, user_key)  # then all data has come, and another channel's keys get through
            assert await client.is_alive()
            grown = processes.resident_bytes(server.postauth_pid) - before
            assert grown < ACCOUNT_BYTES + FLOORS + OTHER_GROWTH, f"{grown >> 20} MiB"

    play(server, user_key, scenario)


def test_uploads_go_on_beside_forwards_that_are_stuck(server: Server, user_key: KeyPair, stuck: str) -> None:
    """Protects against a standstill: each channel has a guaranteed window, whatever the account's others hold."""
    size = 20 * FLOOR_BYTES

    async def scenario(client: RawClient) -> None:
        for _ in range(3):  # a window that was small when little was left is offered again when all has been used
            await fill(client, stuck, FORWARDS)
        channel = await client.open_session()
        client.request(channel, b"exec", text(b"wc -c"), reply=False)
        window, left = FLOOR_BYTES, size
        while left:
            count = min(window, left)
            send(client, channel, count)
            left -= count
            window = await adjustment(client) if left else 0
        client.say(CHANNEL_EOF, u32(channel))
        assert await client.finish(channel) == (b"%d\n" % size, 0)

    play(server, user_key, scenario)


def test_input_that_outlives_its_channel_still_counts(server: Server, user_key: KeyPair, stuck: str) -> None:
    """Protects the limit from a client that fills and closes channels: data that waits for a reader still counts."""

    async def scenario(client: RawClient) -> None:
        while True:
            began = time.monotonic()
            channel, first = await forward(client, stuck)
            assert first == FIRST_BYTES
            send(client, channel, first)
            client.say(CHANNEL_CLOSE, u32(channel))
            await client.hear(CHANNEL_CLOSE)
            channel, second = await forward(client, stuck)
            if time.monotonic() - began < 4:  # a reader has 5 s; on a machine that stood still the check proves nothing
                break
            client.say(CHANNEL_CLOSE, u32(channel))
            await asyncio.sleep(6)
        assert second < FIRST_BYTES
        client.say(CHANNEL_CLOSE, u32(channel))
        # After the reader's time the data is no longer held.
        deadline = time.monotonic() + PATIENCE
        while second != FIRST_BYTES:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
            channel, second = await forward(client, stuck)
            client.say(CHANNEL_CLOSE, u32(channel))
            await client.hear(CHANNEL_CLOSE)

    play(server, user_key, scenario)


def test_input_for_no_process_does_not_count(server: Server, user_key: KeyPair, stuck: str) -> None:
    """Protects an account's windows: data on a session without a process is not held after the session's end."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        send(client, channel, FIRST_BYTES)
        client.say(CHANNEL_CLOSE, u32(channel))
        await client.hear(CHANNEL_CLOSE)
        assert (await forward(client, stuck))[1] == FIRST_BYTES

    play(server, user_key, scenario)


def test_over_a_distance_the_window_grows_until_the_line_is_full(server: Server, user_key: KeyPair) -> None:
    """Protects distant uploads: the window is refilled after a few packets, and doubled if a round trip uses it up."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        await asyncio.sleep(ROUND_TRIP)  # simulates the distance: the client answers everything this much later
        client.request(channel, b"exec", text(b"exec cat >/dev/null"), reply=False)
        known, largest, first = FIRST_BYTES, 0, 0
        deadline = time.monotonic() + PATIENCE
        while largest < 4 * FIRST_BYTES:
            assert time.monotonic() < deadline, f"the window got no larger than {largest}"
            send(client, channel, known)
            known = await adjustment(client)
            first = first or known
            await asyncio.sleep(ROUND_TRIP)
            while not client.connection.heard.empty():
                pkttype, payload = client.connection.heard.get_nowait()
                known += int.from_bytes(payload[4:8], "big") if pkttype == WINDOW_ADJUST else 0
            largest = max(largest, known)
        assert first < 6 * PACKET

    play(server, user_key, scenario)


@pytest.mark.alone
@pytest.mark.slow
def test_memory_is_given_back(make_server: MakeServer, user_key: KeyPair, stuck: str) -> None:
    """Protects small machines: the memory for an account's channels is returned when nobody is on."""
    server = make_server()
    client = Client(server, user_key.private)
    for _ in range(3):
        assert client.run("true").status == 0
    before = processes.resident_bytes(server.postauth_pid)

    async def scenario(raw: RawClient) -> None:
        held = await fill(raw, stuck, FORWARDS)
        assert await raw.is_alive()
        assert processes.resident_bytes(server.postauth_pid) - before > held // 4

    play(server, user_key, scenario)
    until(
        lambda: processes.resident_bytes(server.postauth_pid) - before < OTHER_GROWTH // 2,
        what=f"less than {(before + OTHER_GROWTH // 2) >> 20} MiB",
    )
