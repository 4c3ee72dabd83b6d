"""Data between descriptors and channels, with real pipes, sockets and ptys."""

import asyncio
import os
import tty
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from pyssh_gateway.postauth.pump import READ_BYTES, Sink, Source
from tests.support.waiting import PATIENCE


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it, with a timeout."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(whole())


class Taker:
    """A channel's part for a source: it takes data, and may be full."""

    def __init__(self, descriptor: int, *, size: int = READ_BYTES, is_pty: bool = False) -> None:
        self.data = bytearray()
        self.reads: list[int] = []
        self.ends = 0
        self.changed = asyncio.Event()
        self.source = Source(
            asyncio.get_running_loop(),
            descriptor,
            deliver=self.deliver,
            at_end=self.at_end,
            size=size,
            is_pty=is_pty,
        )

    def deliver(self, data: bytes) -> None:
        """Take data."""
        self.data += data
        self.reads.append(len(data))
        self.changed.set()

    def at_end(self) -> None:
        """Count the end."""
        self.ends += 1
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, and check it whenever something arrives."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def turns(count: int = 5) -> None:
    """Let the loop look at its descriptors."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_all_of_a_pipe_arrives_and_then_its_end() -> None:
    """Every byte arrives in order, in reads of a packet's size, then the end once, and the descriptor is closed."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        taker = Taker(reader, size=1000)
        taker.source.set_reading(True)
        os.write(writer, bytes(range(256)) * 10)
        await taker.until(lambda: len(taker.data) == 2560)
        os.close(writer)
        await taker.until(lambda: taker.ends > 0)
        assert bytes(taker.data) == bytes(range(256)) * 10
        assert max(taker.reads) == 1000
        assert (taker.ends, taker.source.ended) == (1, True)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(reader)
        taker.source.close()
        taker.source.set_reading(True)
        assert not taker.source.read_now()
        assert taker.ends == 1

    run(scenario)


def test_nothing_is_read_while_the_channel_is_full() -> None:
    """With backpressure, data stays in the kernel, which blocks the writer."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        taker = Taker(reader)
        os.write(writer, b"one")
        await turns()
        assert not taker.data
        taker.source.set_reading(True)
        await taker.until(lambda: taker.data == b"one")
        taker.source.set_reading(False)
        taker.source.set_reading(False)
        os.write(writer, b"two")
        os.close(writer)
        await turns()
        assert (bytes(taker.data), taker.ends) == (b"one", 0)
        taker.source.set_reading(True)
        await taker.until(lambda: taker.ends == 1)
        assert taker.data == b"onetwo"

    run(scenario)


def test_reading_by_hand_does_not_wait() -> None:
    """`read_now` delivers what is there; when nothing is there, that is not an end."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        taker = Taker(reader)
        assert not taker.source.read_now()
        assert taker.ends == 0
        os.write(writer, b"x")
        assert taker.source.read_now()
        os.close(writer)
        assert not taker.source.read_now()
        assert (bytes(taker.data), taker.ends) == (b"x", 1)

    run(scenario)


def test_a_pty_ends_when_nobody_has_it_open() -> None:
    """EIO is the end of a pty and not an error, and data written before it is not lost."""

    async def scenario() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        taker = Taker(master, is_pty=True)
        os.write(slave, b"last words")
        os.close(slave)
        taker.source.set_reading(True)
        await taker.until(lambda: taker.ends == 1)
        assert taker.data == b"last words"

    run(scenario)


def test_a_pty_is_read_in_packets_not_in_lines() -> None:
    """Reads from a pty, of at most 4 KiB each, are joined up to a packet or until a read would block."""

    async def scenario() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(slave, False)
        taker = Taker(master, is_pty=True)
        written = os.write(slave, b"x" * 12_000)
        assert written > 4096
        assert taker.source.read_now()
        assert max(taker.reads) > 4096
        while len(taker.data) < written:
            assert taker.source.read_now() or await asyncio.sleep(0.001, True)
        taker.source.close()
        os.close(slave)
        assert taker.ends == 0

    run(scenario)


def test_a_packet_is_never_larger_than_the_client_takes() -> None:
    """A pty's reads never exceed the packet size, like a pipe's."""

    async def scenario() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        taker = Taker(master, size=100, is_pty=True)
        os.write(slave, b"x" * 1000)
        while len(taker.data) < 1000:
            taker.source.read_now()
        assert max(taker.reads) == 100
        taker.source.close()
        os.close(slave)

    run(scenario)


def test_what_fits_is_written_at_once() -> None:
    """A keystroke is written at once, and not only in the next turn of the loop."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        sink = Sink(asyncio.get_running_loop(), writer, lambda: None)
        assert sink.write(b"key")
        assert os.read(reader, 10) == b"key"
        sink.end()
        assert sink.closed
        assert os.read(reader, 10) == b""
        os.close(reader)

    run(scenario)


def test_what_does_not_fit_waits_and_is_written_in_order() -> None:
    """Data that exceeds the pipe waits in order: the writer is told to wait, and once when there is room again."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        room = asyncio.Event()
        calls: list[int] = []

        def on_room() -> None:
            calls.append(1)
            room.set()

        sink = Sink(asyncio.get_running_loop(), writer, on_room)
        sent = os.urandom(300_000)
        assert not sink.write(sent[:200_000])
        assert not sink.write(sent[200_000:])
        sink.end()
        assert sink.write(b"after the end")
        received = bytearray()
        os.set_blocking(reader, False)
        while len(received) < len(sent):
            try:
                received += os.read(reader, 65536)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        await room.wait()
        assert bytes(received) == sent
        assert calls == [1]
        assert sink.closed
        assert os.read(reader, 10) == b""
        os.close(reader)

    run(scenario)


def test_a_reader_that_is_gone_is_no_error() -> None:
    """When a process has closed its input, the rest is discarded, at once or while it waits."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        sink = Sink(asyncio.get_running_loop(), writer, lambda: None)
        assert sink.write(b"x")
        assert sink.closed
        assert sink.write(b"y")
        sink.close()

        reader, writer = os.pipe()
        room = asyncio.Event()
        sink = Sink(asyncio.get_running_loop(), writer, room.set)
        assert not sink.write(bytes(1_000_000))
        os.close(reader)
        await room.wait()
        assert sink.closed

    run(scenario)


def test_closing_throws_away_what_waits() -> None:
    """After `close` no byte is written and no callback is made."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        calls: list[int] = []
        sink = Sink(asyncio.get_running_loop(), writer, lambda: calls.append(1))
        assert not sink.write(bytes(1_000_000))
        sink.close()
        await turns()
        assert calls == []
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(writer)
        os.close(reader)

    run(scenario)


@pytest.mark.parametrize("end", ["written", "refused", "closed"])
def test_what_waits_is_counted_until_it_is_gone(end: str) -> None:
    """The account's budget counts each byte that waits for a reader, and no byte after that."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        held = [0]
        room = asyncio.Event()

        def hold(count: int) -> None:
            held[0] += count

        sink = Sink(asyncio.get_running_loop(), writer, room.set, hold=hold)
        assert sink.write(b"key")
        assert held == [0]
        assert not sink.write(bytes(200_000))
        assert not sink.write(bytes(100_000))
        assert 200_000 < held[0] < 300_000
        if end == "written":
            os.set_blocking(reader, False)
            while held[0]:
                with suppress(BlockingIOError):
                    os.read(reader, 65536)
                await turns(1)
            await room.wait()
        elif end == "refused":
            os.close(reader)
            await room.wait()
        else:
            sink.close()
        assert held == [0]
        sink.close()
        assert held == [0]
        if end != "refused":
            os.close(reader)

    run(scenario)
