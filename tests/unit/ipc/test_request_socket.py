"""Requests and answers over a real socket pair, whose other end the tests hold."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest

from pyssh_gateway.ipc.request_socket import MAX_QUEUED, RequestSocket, Unanswered
from pyssh_gateway.ipc.spawner import ProtocolError, socket_pair
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks
from tests.support.waiting import PATIENCE

Number = int | None
Report = tuple[Number, bytes]


def decode(packet: bytes) -> Report:
    """`number:text`, or `-:text` for an unsolicited message; anything else is invalid."""
    number, colon, text = packet.partition(b":")
    if not colon:
        raise ProtocolError("no report")
    return (None if number == b"-" else int(number)), text


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open."""
    with leaks.nothing_left_open():
        yield


class Pair:
    """A request socket on the running loop, its other end, and what it reported."""

    def __init__(self) -> None:
        ours, self.other = socket_pair()
        self.other.settimeout(PATIENCE)
        self.news: list[Report] = []
        self.lost = 0
        self.filled = 0
        self.happened = asyncio.Event()
        self.requests: RequestSocket[Report] = RequestSocket(
            ours,
            asyncio.get_running_loop(),
            decode=decode,
            number_of=lambda report: report[0],
            on_news=self._on_news,
            on_lost=self._on_lost,
        )

    async def __aenter__(self) -> "Pair":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.requests.close()
        self.other.close()

    def _on_news(self, report: Report, descriptors: list[int]) -> None:
        close_all(descriptors)
        self.news.append(report)
        self.happened.set()

    def _on_lost(self) -> None:
        self.lost += 1
        self.happened.set()

    async def ask(self, text: bytes, seconds: float = PATIENCE) -> tuple[Report, list[int]]:
        """Ask with a new number."""
        number = self.requests.new_number()
        return await self.requests.ask(number, b"%d:%s" % (number, text), seconds)

    def fill(self) -> None:
        """Send numbered requests, which nobody reads, until one is refused; `filled` counts those before it."""
        while True:
            self.requests.send(b"%d:%s" % (self.filled, b"x" * 10_000))
            self.filled += 1

    async def wait(self) -> None:
        """Wait for an unsolicited message, or for the end."""
        async with asyncio.timeout(PATIENCE):
            await self.happened.wait()
        self.happened.clear()


async def settle() -> None:
    """Run everything in the loop that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_answers_find_their_questions() -> None:
    """Protects concurrent requests: each gets its own answer, in any order of arrival."""

    async def go() -> None:
        async with Pair() as pair:
            asking = [asyncio.ensure_future(pair.ask(b"q%d" % index)) for index in range(3)]
            await settle()
            received = [pair.other.recv(100) for _ in range(3)]
            assert received == [b"1:q0", b"2:q1", b"3:q2"]
            for number in (3, 1, 2):
                pair.other.send(b"%d:a%d" % (number, number))
            answers = [(await question)[0] for question in asking]
            assert answers == [(1, b"a1"), (2, b"a2"), (3, b"a3")]

    asyncio.run(go())


def test_descriptors_come_with_their_answer() -> None:
    """Protects the descriptors of an answer: only the asker gets them, and they are close-on-exec."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            reader, writer = os.pipe()
            socket.send_fds(pair.other, [b"1:a"], [reader])
            os.close(reader)
            _, (descriptor,) = await asking
            os.write(writer, b"x")
            assert os.read(descriptor, 1) == b"x"
            assert not os.get_inheritable(descriptor)
            close_all([descriptor, writer])

    asyncio.run(go())


def test_late_answer_is_thrown_away() -> None:
    """Protects against a descriptor leak: an answer that is late, or that nobody asked for, is discarded."""

    async def go() -> None:
        async with Pair() as pair:
            with pytest.raises(Unanswered, match="no answer within 0 s"):
                await pair.ask(b"q", 0.01)
            reader, writer = os.pipe()
            for packet in (b"1:late", b"77:unasked"):
                socket.send_fds(pair.other, [packet], [reader])
            pair.other.send(b"-:news")
            await pair.wait()
            assert pair.news == [(None, b"news")]
            close_all([reader])
            with pytest.raises(BrokenPipeError):  # the last reader's end is gone
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


@pytest.mark.parametrize("answered", [True, False])
def test_cancelled_question(answered: bool) -> None:
    """Protects against a descriptor leak when a connection ends while its answer arrives."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            reader, writer = os.pipe()
            socket.send_fds(pair.other, [b"1:a"], [reader])
            close_all([reader])
            if answered:
                pair.requests._read()  # noqa: SLF001 - so that the answer is there, and the asker has not run yet
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            pair.other.send(b"-:news")
            await pair.wait()
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


def test_answer_at_the_deadline() -> None:
    """Protects against a descriptor leak at the deadline: the asker gets the descriptors, or they are closed."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q", 0.01))
            await settle()
            reader, writer = os.pipe()
            socket.send_fds(pair.other, [b"1:a"], [reader])
            close_all([reader])
            time.sleep(0.05)  # noqa: ASYNC251 - the loop finds the answer and the deadline in the same turn
            try:
                _, descriptors = await asking
            except Unanswered:
                descriptors = []
            close_all(descriptors)
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


def test_cancelled_question_whose_other_side_has_left() -> None:
    """Protects a connection's end: a cancelled request stays cancelled, even if the socket was closed before."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            pair.requests.close()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(go())


def test_answer_that_came_before_the_end() -> None:
    """Protects an answer that arrived before the socket was closed: the asker gets it."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            pair.other.send(b"1:a")
            pair.requests._read()  # noqa: SLF001 - so that the answer is there, and the asker has not run yet
            pair.requests._read()  # noqa: SLF001 - nothing more is there, which is no end
            pair.requests.close()
            assert (await asking)[0] == (1, b"a")

    asyncio.run(go())


def test_other_side_that_left_unnoticed() -> None:
    """Protects a request sent just after the other side has gone: it fails with the usual error."""

    async def go() -> None:
        async with Pair() as pair:
            pair.other.close()
            with pytest.raises(Unanswered, match="is gone"):
                await pair.ask(b"q")
            assert pair.lost == 1

    asyncio.run(go())


def test_other_side_that_leaves() -> None:
    """Protects requests from waiting for a process that is gone: open requests and later ones fail at once."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            pair.other.close()
            with pytest.raises(Unanswered, match="is gone"):
                await asking
            assert (pair.requests.closed, pair.lost) == (True, 1)
            with pytest.raises(Unanswered, match="is gone"):
                await pair.ask(b"q")
            with pytest.raises(Unanswered, match="is gone"):
                pair.requests.send(b"q")
            assert pair.lost == 1

    asyncio.run(go())


def test_closing_is_no_loss() -> None:
    """Protects an orderly end: open requests fail, `on_lost` is not called, and closing twice is no error."""

    async def go() -> None:
        async with Pair() as pair:
            asking = asyncio.ensure_future(pair.ask(b"q"))
            await settle()
            pair.requests.close()
            pair.requests.close()
            with pytest.raises(Unanswered, match="is gone"):
                await asking
            assert pair.lost == 0
            assert pair.other.recv(100) == b"1:q"
            assert pair.other.recv(100) == b""

    asyncio.run(go())


def test_nonsense_ends_it() -> None:
    """Protects against a faulty peer: an invalid report ends the connection, and its descriptors are closed."""

    async def go() -> None:
        async with Pair() as pair:
            reader, writer = os.pipe()
            socket.send_fds(pair.other, [b"nonsense"], [reader])
            close_all([reader])
            await pair.wait()
            assert (pair.requests.closed, pair.lost) == (True, 1)
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


def test_too_many_descriptors_end_it() -> None:
    """Protects our descriptor table: a report with too many descriptors ends the connection, and all are closed."""

    async def go() -> None:
        async with Pair() as pair:
            reader, writer = os.pipe()
            socket.send_fds(pair.other, [b"-:news"], [reader] * 20)
            close_all([reader])
            await pair.wait()
            assert (pair.news, pair.lost) == ([], 1)
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


def test_requests_wait_for_room() -> None:
    """Protects the loop from a peer that does not read: requests wait in their order, up to a limit."""

    async def go() -> None:
        async with Pair() as pair:
            with pytest.raises(Unanswered, match="too many requests"):
                pair.fill()
            sent = pair.filled
            assert sent > MAX_QUEUED
            received: list[int] = []
            pair.other.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                while len(received) < sent:
                    try:
                        received.append(int(pair.other.recv(20_000).partition(b":")[0]))
                    except BlockingIOError:
                        await asyncio.sleep(0)
            assert received == list(range(sent))
            pair.requests.send(b"room again")
            assert pair.other.recv(100) == b"room again"

    asyncio.run(go())


def test_requests_that_say_the_same_wait_once() -> None:
    """Protects others' requests from a flood of signals: one of each kind waits for room, beside the other requests."""

    async def go() -> None:
        async with Pair() as pair:
            with pytest.raises(Unanswered, match="too many requests"):
                pair.fill()
            sent = pair.filled
            for _ in range(3 * MAX_QUEUED):
                pair.requests.send(b"9999999:", key="a")
                pair.requests.send(b"9999998:", key="b")
            received: list[int] = []
            pair.other.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                while len(received) < sent + 2:
                    try:
                        received.append(int(pair.other.recv(20_000).partition(b":")[0]))
                    except BlockingIOError:
                        await asyncio.sleep(0)
            assert received[sent:] == [9999999, 9999998]
            pair.requests.send(b"again", key="a")
            assert pair.other.recv(100) == b"again"

    asyncio.run(go())


def test_other_side_that_leaves_while_requests_wait() -> None:
    """Protects against a writer callback that stays on the loop after the socket is gone."""

    async def go() -> None:
        async with Pair() as pair:
            with pytest.raises(Unanswered, match="too many requests"):
                pair.fill()
            pair.other.close()
            await pair.wait()
            assert (pair.requests.closed, pair.lost) == (True, 1)
            await settle()

    asyncio.run(go())


def test_numbers_are_not_used_twice() -> None:
    """Protects requests from getting each other's answers."""

    async def go() -> None:
        async with Pair() as pair:
            assert len({pair.requests.new_number() for _ in range(1000)}) == 1000

    asyncio.run(go())
