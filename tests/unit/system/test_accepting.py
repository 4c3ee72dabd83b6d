"""system.accepting: connections are accepted a few at a time, later if there is no room, and none is lost at a stop."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.system.accepting import AT_ONCE, PAUSE_SECONDS, Acceptor, accept_each
from tests.support.waiting import PATIENCE


def connected(path: Path) -> socket.socket:
    """A client's connection."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))
    return sock


def test_a_stop_in_the_moment_of_an_arrival_is_silent(tmp_path: Path) -> None:
    """Protects the log: cancelling at the moment of an arrival is no error, and the connection is not lost."""
    path = tmp_path / "sock"
    errors: list[object] = []
    taken: list[socket.socket] = []

    async def story(listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        arrived = asyncio.Event()

        def take(sock: socket.socket) -> None:
            taken.append(sock)
            arrived.set()

        accepting = loop.create_task(accept_each(listening, take))
        first = connected(path)
        await arrived.wait()
        second = connected(path)
        # Arrival and cancellation happen in the same turn of the loop.
        loop.call_soon(accepting.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
        accepted, _ = listening.accept() if len(taken) == 1 else (taken[1], None)
        for sock in (first, second, accepted, *taken):
            sock.close()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        asyncio.run(story(listening))
    assert errors == []


class Listening(socket.socket):
    """A listening socket whose accept fails `failures` times, as if no descriptors were left."""

    failures = 0
    failed: asyncio.Event | None = None

    def accept(self) -> tuple[socket.socket, object]:
        """Fail if failures are left."""
        if self.failures:
            self.failures -= 1
            if self.failed is not None:
                self.failed.set()
            raise OSError(errno.EMFILE, "no descriptors are left")
        return super().accept()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    """A socket that listens at `tmp_path/sock`."""
    with Listening(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "sock"))
        sock.listen(2 * AT_ONCE)
        yield sock


class Taker:
    """Accepts connections and closes them."""

    def __init__(self, listening: socket.socket) -> None:
        self.taken = 0
        self.at_each: Callable[[], None] = lambda: None
        self._came = asyncio.Event()
        self.acceptor = Acceptor(asyncio.get_running_loop(), listening, self._take)

    def _take(self, sock: socket.socket, _address: object) -> None:
        sock.close()
        self.taken += 1
        self._came.set()
        self.at_each()

    async def until(self, count: int) -> None:
        """Wait until so many have been accepted."""
        async with asyncio.timeout(PATIENCE):
            while self.taken < count:
                self._came.clear()
                await self._came.wait()


def test_a_crowd_is_taken_a_few_at_a_time(listening: Listening, tmp_path: Path) -> None:
    """Protects existing connections from a flood: a few are accepted, then the loop continues, until all are."""

    async def story() -> None:
        taker = Taker(listening)
        crowd = [connected(tmp_path / "sock") for _ in range(AT_ONCE + 1)]
        taker.acceptor.start()
        await taker.until(1)
        assert taker.taken == AT_ONCE
        await taker.until(AT_ONCE + 1)
        taker.acceptor.stop()
        for sock in crowd:
            sock.close()

    asyncio.run(story())


def test_it_goes_on_after_a_pause(listening: Listening, tmp_path: Path) -> None:
    """Protects the processor when descriptors have run out, and waiting clients: a retry follows after a pause."""

    async def story() -> None:
        taker = Taker(listening)
        listening.failures = 1
        with connected(tmp_path / "sock"):
            taker.acceptor.start()
            await taker.until(1)
            assert listening.failures == 0
        taker.acceptor.stop()

    asyncio.run(story())


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_shut_in_a_pause_stays_shut(listening: Listening, tmp_path: Path, *, closed: bool) -> None:
    """Protects a listener that was stopped or closed during a pause from the retry that was planned before."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: pytest.fail(str(context)))
        taker = Taker(listening)
        listening.failures, listening.failed = 1, asyncio.Event()
        with connected(tmp_path / "sock"):
            taker.acceptor.start()
            async with asyncio.timeout(PATIENCE):
                await listening.failed.wait()
            (listening.close if closed else taker.acceptor.stop)()
            await asyncio.sleep(PAUSE_SECONDS)  # planned after the retry, so it ends later
            await asyncio.sleep(0)
        assert taker.taken == 0

    asyncio.run(story())


@pytest.mark.parametrize("closed", [False, True])
def test_a_stop_in_the_middle_of_a_crowd_holds(listening: Listening, tmp_path: Path, *, closed: bool) -> None:
    """Protects a stop in the middle of a batch: an accepted connection may be the reason to accept no more."""

    async def story() -> None:
        taker = Taker(listening)
        taker.at_each = listening.close if closed else taker.acceptor.stop
        crowd = [connected(tmp_path / "sock") for _ in range(2)]
        taker.acceptor.start()
        await taker.until(1)
        await asyncio.sleep(0)
        assert taker.taken == 1
        taker.acceptor.stop()
        for sock in crowd:
            sock.close()

    asyncio.run(story())
