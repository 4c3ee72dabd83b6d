"""Data at the limits and beyond them: windows, packet sizes, clients that do not read, input that is stuck."""

import asyncio
import socket
import time

import pytest

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, until
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_OPEN,
    CHANNEL_REQUEST,
    CLOSED,
    EXTENDED_DATA,
    GLOBAL_REQUEST,
    OPEN_FAILURE,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    WINDOW_ADJUST,
    RawClient,
    connected,
    play,
    u32,
)

WINDOW = 2 * 1024 * 1024
"""postauth.channel.WINDOW_BYTES: how much a client may send ahead."""

PACKET = 32 * 1024
HUGE_WINDOW = 300 * 1024 * 1024
GROWTH = 16 * 1024 * 1024
"""How much a client that does not read may make the gateway grow: the high-water marks and the allocator's slack."""


ANSWERS = 240_000
ANSWERS_GROWTH = 3 * 1024 * 1024
"""So many answers are 15 MB, of which the kernel's buffers take up to 6; without a limit we would hold the rest."""


class Growth:
    """Watches how much memory the gateway takes beyond what it held at first."""

    def __init__(self, server: Server, bound: int = GROWTH) -> None:
        self._pid = server.postauth_pid
        self._bound = bound
        self._before = processes.resident_bytes(self._pid)
        self.most = 0

    async def watch(self, seconds: float) -> None:
        """Watch the memory for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.most < self._bound:
            self.most = max(self.most, processes.resident_bytes(self._pid) - self._before)
            await asyncio.sleep(0.05)
        assert self.most < self._bound, f"the gateway grew by {self.most >> 20} MiB"


async def echo_is_prompt(server: Server, user_key: KeyPair) -> None:
    """Type into a session of another connection; every line has to come back soon."""
    async with connected(server, user_key.private, source="127.0.0.9") as other:
        channel = await other.started(b"exec cat")
        for _ in range(10):
            began = time.monotonic()
            other.say(CHANNEL_DATA, u32(channel), text(b"line\n"))
            await other.hear(CHANNEL_DATA)
            assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("command", [b"exec cat /dev/zero", b"exec yes", b"exec cat /dev/zero >&2"])
def test_a_client_that_does_not_read_costs_no_memory(server: Server, user_key: KeyPair, command: bytes) -> None:
    """A client with a huge window that stops reading stops the process that writes, and no other."""

    async def scenario(client: RawClient) -> None:
        await client.started(command, window=HUGE_WINDOW)
        client.connection.tcp.pause_reading()
        growth = Growth(server)
        await echo_is_prompt(server, user_key)
        await growth.watch(1.0)

    play(server, user_key, scenario)


def test_a_client_that_stops_in_the_middle_of_a_rekey_costs_no_memory(server: Server, user_key: KeyPair) -> None:
    """Data that waits for the end of a key exchange is limited, too, since that end may never come."""

    async def scenario(client: RawClient) -> None:
        await client.started(b"exec cat /dev/zero", window=HUGE_WINDOW)
        client.connection.tcp.pause_reading()
        growth = Growth(server)
        client.connection.restart_key_exchange()
        await growth.watch(1.5)

    play(server, user_key, scenario)


@pytest.mark.slow
def test_a_client_that_asks_and_never_reads_the_answers_costs_no_memory(server: Server, user_key: KeyPair) -> None:
    """Answers are limited as data is: a client that does not read them is no longer read, or is disconnected."""

    async def scenario(client: RawClient) -> None:
        tcp = client.connection.tcp
        tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tcp.pause_reading()
        growth = Growth(server, ANSWERS_GROWTH)
        deadline = time.monotonic() + 10
        for _ in range(ANSWERS // 4000):
            for _ in range(4000):  # each failure contains its reason, and so is larger than its request
                client.say(CHANNEL_OPEN, text(b"?"), u32(1, 1, 1))
            taken = time.monotonic() + 1
            # A transport reports only to its protocol when it is empty, so this polls.
            while tcp.get_write_buffer_size() and time.monotonic() < min(taken, deadline):  # noqa: ASYNC110 - as said
                await asyncio.sleep(0.01)
            await growth.watch(0.01)
            if tcp.get_write_buffer_size() or client.connection.is_closed():  # the server does not read any more
                return

    play(server, user_key, scenario)


def test_a_window_of_one_byte_loses_nothing(server: Server, user_key: KeyPair) -> None:
    """Output goes to a client with a tiny window bit by bit; all of it arrives, and then the exit status."""
    sent = b"".join(b"%03d." % number for number in range(100))

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"printf %s " + sent + b"; exit 6", window=1)
        received = b""
        while len(received) < len(sent):
            _, payload = await client.hear(CHANNEL_DATA)
            assert len(payload) == 9
            received += payload[8:]
            client.say(WINDOW_ADJUST, u32(channel, 1))
        assert received == sent
        assert await client.finish(channel) == (b"", 6)

    play(server, user_key, scenario)


def test_an_empty_window_holds_everything_back(server: Server, user_key: KeyPair) -> None:
    """With an empty window no output is sent; exit status and end come once the output has been sent."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo out; echo err >&2; exit 2", window=0)
        assert await client.is_alive()
        client.say(WINDOW_ADJUST, u32(channel, 100))
        output, status = await client.finish(channel)
        assert (sorted(output.split()), status) == ([b"err", b"out"], 2)

    play(server, user_key, scenario)


def test_tiny_packets_are_kept_to(server: Server, user_key: KeyPair) -> None:
    """A client whose maximum packet size is one byte gets one byte per packet."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session(packet=1)
        client.request(channel, b"exec", text(b"echo -n tiny; echo -n err >&2"), reply=False)
        received = [await client.hear(CHANNEL_DATA, EXTENDED_DATA) for _ in range(7)]
        assert {len(payload) - (8 if pkttype == CHANNEL_DATA else 12) for pkttype, payload in received} == {1}

    play(server, user_key, scenario)


def test_packets_of_nothing_end_the_connection(server: Server, user_key: KeyPair) -> None:
    """A client whose maximum packet size is zero can't be served, and must not make us loop."""

    async def scenario(client: RawClient) -> None:
        client.say(CHANNEL_OPEN, text(b"session"), u32(1, 1000, 0))
        await client.hear(CLOSED, OPEN_FAILURE)

    play(server, user_key, scenario)


def test_packets_without_data_are_harmless(server: Server, user_key: KeyPair) -> None:
    """Any number of empty data packets counts neither as data nor as an end."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"wc -c")
        for _ in range(1000):
            client.say(CHANNEL_DATA, u32(channel), text(b""))
            client.say(WINDOW_ADJUST, u32(channel, 0))
        client.say(CHANNEL_DATA, u32(channel), text(b"12345"))
        client.say(CHANNEL_EOF, u32(channel))
        assert await client.finish(channel) == (b"5\n", 0)

    play(server, user_key, scenario)


def test_a_window_that_overflows_ends_the_connection(server: Server, user_key: KeyPair) -> None:
    """A window is at most 2^32 - 1 (RFC 4254 section 5.2); sshd disconnects a client that adjusts it beyond that."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo ready; sleep 5", window=0xFFFFFFFF)
        await client.hear(CHANNEL_DATA)
        client.say(WINDOW_ADJUST, u32(channel, len(b"ready\n")))  # as much as was used: the window is full again
        client.say(GLOBAL_REQUEST, text(b"keepalive@openssh.com"), b"\1")
        await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE)
        client.say(WINDOW_ADJUST, u32(channel, 1))
        assert "overflows" in str(await client.is_cut_off())

    play(server, user_key, scenario)


@pytest.mark.parametrize("command", [b"sleep 20", b"exec cat >/dev/null"])
def test_more_than_the_window_ends_the_connection(server: Server, user_key: KeyPair, command: bytes) -> None:
    """A client that sends more than its window allows is disconnected."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(command)
        client.connection.tcp.set_write_buffer_limits(high=1 << 30)
        for _ in range(4 * WINDOW // PACKET):
            client.say(CHANNEL_DATA, u32(channel), text(bytes(PACKET)))
        if command == b"sleep 20":
            assert "Window exceeded" in str(await client.is_cut_off())

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    ("pkttype", "payload"),
    [
        (CHANNEL_DATA, b"\xff\xff\xff\xff"),
        (CHANNEL_DATA, text(b"x") + b"more"),
        (EXTENDED_DATA, u32(1) + text(b"x")),
        (EXTENDED_DATA, u32(99) + text(b"x")),
        (WINDOW_ADJUST, b""),
    ],
)
def test_malformed_data_is_the_peers_error(server: Server, user_key: KeyPair, pkttype: int, payload: bytes) -> None:
    """Extended data from a client, and wrong lengths, end the connection or are ignored."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"sleep 20")
        client.say(pkttype, u32(channel), payload)
        client.say(GLOBAL_REQUEST, text(b"keepalive@openssh.com"), b"\1")
        await client.hear(CLOSED, 81)

    play(server, user_key, scenario)


def test_data_after_the_end_of_data_is_thrown_away(server: Server, user_key: KeyPair) -> None:
    """RFC 4254 section 5.3: no data follows an EOF. sshd discards data that comes all the same, and goes on."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"cat; sleep 1000")
        client.say(CHANNEL_EOF, u32(channel))
        client.say(CHANNEL_DATA, u32(channel), text(b"more"))
        client.say(CHANNEL_EOF, u32(channel))
        assert await client.is_alive()
        client.say(CHANNEL_CLOSE, u32(channel))
        assert (await client.finish(channel))[0] == b""

    play(server, user_key, scenario)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("command", [b"exec yes", b"sleep 100"])
def test_a_closed_channel_ends_its_session_though_its_input_is_stuck(
    server: Server, user_key: KeyPair, command: bytes, terminal: bool
) -> None:
    """Unread input must not keep a closed channel open, nor turn its output into a loop of errors."""

    async def scenario(client: RawClient) -> None:
        mark = server.mark()
        channel = await client.started(command, terminal=terminal, window=HUGE_WINDOW)
        for _ in range(client.offered // PACKET):
            client.say(CHANNEL_DATA, u32(channel), text(b"x" * PACKET))
        client.say(CHANNEL_CLOSE, u32(channel))
        await client.hear(CHANNEL_CLOSE)
        await asyncio.to_thread(server.wait_for, "session.closed", since=mark)
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_input_that_nobody_read_does_not_outlive_its_session(server: Server, user_key: KeyPair) -> None:
    """A hundred sessions in a row leave input unread, and none of them keeps its slot."""

    async def scenario(client: RawClient) -> None:
        for _ in range(100):
            channel = await client.started(b"exit 3")
            client.say(CHANNEL_DATA, u32(channel), text(b"x" * PACKET))
            assert await client.finish(channel) == (b"", 3)

    play(server, user_key, scenario)


def test_a_session_that_its_client_never_closes_holds_nothing(server: Server, user_key: KeyPair) -> None:
    """After the exit status the descriptors are closed, even if the client never closes its side."""

    async def scenario(client: RawClient) -> None:
        assert await client.is_alive()
        before = len(processes.descriptors(server.postauth_pid))
        for terminal in (False, True) * 10:
            await client.started(b"true", terminal=terminal)
            await client.hear(CHANNEL_CLOSE)
        until(lambda: len(processes.descriptors(server.postauth_pid)) <= before, what="closed descriptors")
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_exit_status_comes_after_the_output_and_before_the_close(server: Server, user_key: KeyPair) -> None:
    """The order that OpenSSH's clients expect: all output, exit-status, EOF, close."""

    async def scenario(client: RawClient) -> None:
        await client.started(b"head -c 1000000 /dev/zero; exit 1", window=HUGE_WINDOW)
        heard, size = [], 0
        while CHANNEL_CLOSE not in heard:
            pkttype, payload = await client.hear(CHANNEL_DATA, CHANNEL_REQUEST, CHANNEL_EOF, CHANNEL_CLOSE)
            size += len(payload) - 8 if pkttype == CHANNEL_DATA else 0
            heard.append(pkttype)
        assert size == 1_000_000
        assert heard[-3:] == [CHANNEL_REQUEST, CHANNEL_EOF, CHANNEL_CLOSE]
        assert set(heard[:-3]) == {CHANNEL_DATA}

    play(server, user_key, scenario)


def test_a_process_without_reader_is_told_so(server: Server, user_key: KeyPair) -> None:
    """If the client closes the channel, a writing process gets SIGPIPE, as from any pipe, and does not run for ever."""

    async def scenario(client: RawClient) -> None:
        mark = server.mark()
        channel = await client.started(b"exec yes", window=HUGE_WINDOW)
        pid = server.find("session.opened", mark)[-1]["pid"] if server.find("session.opened", mark) else 0
        pid = pid or (await asyncio.to_thread(server.wait_for, "session.opened", since=mark))["pid"]
        client.say(CHANNEL_CLOSE, u32(channel))
        await asyncio.to_thread(until, lambda: not processes.is_running(pid), what=f"end of {pid}")

    play(server, user_key, scenario)
