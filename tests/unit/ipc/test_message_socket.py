"""ipc.message_socket: the other process breaks the protocol, does not read, or is gone."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pyssh_gateway.ipc import message_socket
from pyssh_gateway.ipc.message_socket import STUCK, MessageSocket
from pyssh_gateway.ipc.spawner import ProtocolError, socket_pair
from tests.support.waiting import PATIENCE


class Ends:
    """Our end with the messages received, and the other end's socket. Every packet is a message except `bad`."""

    def __init__(self) -> None:
        ours, self.theirs = socket_pair()
        self.heard: list[bytes] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self.messages = MessageSocket(
            ours,
            asyncio.get_running_loop(),
            decode=self._decode,
            on_message=self._hear,
            on_end=self.ended.set_result,
        )

    def _decode(self, packet: bytes) -> bytes:
        if packet == b"bad":
            raise ProtocolError("it is bad")
        return packet

    def _hear(self, packet: bytes) -> None:
        self.heard.append(packet)
        self.changed.set()


def descriptors() -> int:
    """The number of descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


Play = Callable[[Callable[[Ends], Awaitable[None]]], None]


@pytest.fixture
def play() -> Play:
    """Runs a test with both ends."""

    def run(test: Callable[[Ends], Awaitable[None]]) -> None:
        async def main() -> None:
            ends = Ends()
            try:
                async with asyncio.timeout(PATIENCE):
                    await test(ends)
            finally:
                ends.messages.close()
                ends.theirs.close()

        asyncio.run(main())

    return run


def test_a_descriptor_travels_and_stays_the_sender_s(play: Play) -> None:
    """Protects the hand-over of a client's socket: the receiver gets a copy, and we can close ours."""

    async def test(ends: Ends) -> None:
        ours, client = socket.socketpair()
        with ours, client:
            ends.messages.send(b"take", [ours.fileno()])
            packet, descriptors, _, _ = socket.recv_fds(ends.theirs, 100, 4)
            assert packet == b"take"
            with socket.socket(fileno=descriptors[0]) as taken:
                taken.send(b"hello")
            assert client.recv(10) == b"hello"

    play(test)


def test_what_breaks_the_rules_is_the_end(play: Play) -> None:
    """Protects us from a compromised process: an invalid message ends the connection, and nothing after it is read."""

    async def test(ends: Ends) -> None:
        ends.theirs.send(b"good")
        ends.theirs.send(b"bad")
        ends.theirs.send(b"good again")
        assert await ends.ended == "it is bad"
        assert ends.heard == [b"good"]

    play(test)


def test_a_descriptor_that_nobody_asked_for_is_the_end(play: Play) -> None:
    """Protects our descriptor table, and us from a wrong socket: an unexpected descriptor ends the connection."""

    async def test(ends: Ends) -> None:
        before = descriptors()
        socket.send_fds(ends.theirs, [b"good"], [ends.theirs.fileno()])
        assert "descriptors" in await ends.ended
        assert not ends.heard
        assert descriptors() == before - 1  # our end of the pair

    play(test)


def test_last_words_are_heard(play: Play) -> None:
    """Protects the last messages of a process that ends: they are received although it did not read ours."""

    async def test(ends: Ends) -> None:
        ends.messages.send(b"unread")
        ends.theirs.send(b"last words")
        ends.theirs.close()
        ends.messages.send(b"too late")
        assert await ends.ended == ""
        assert ends.heard == [b"last words"]

    play(test)


def test_one_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    """Protects our memory and event loop from a process that its user has stopped."""
    monkeypatch.setattr(message_socket, "MAX_QUEUED_BYTES", 100_000)

    async def test(ends: Ends) -> None:
        while not ends.ended.done():
            ends.messages.send(bytes(10_000))
        assert ends.ended.result() == STUCK
        ends.messages.send(b"nothing happens")

    play(test)


def test_what_waited_is_sent_in_order(play: Play) -> None:
    """Protects the order of messages to a process that was slow for a while."""

    async def test(ends: Ends) -> None:
        sent = [bytes([number]) * 100_000 for number in range(12)]
        for packet in sent:
            ends.messages.send(packet)
        loop = asyncio.get_running_loop()
        ends.theirs.setblocking(False)
        assert [await loop.sock_recv(ends.theirs, 200_000) for _ in sent] == sent

    play(test)


def test_a_pause_holds_messages_back(play: Play) -> None:
    """Protects a budget: messages that arrive during a pause are received after it, and none is lost."""

    async def test(ends: Ends) -> None:
        ends.messages.pause()
        ends.theirs.send(b"one")
        for _ in range(3):
            await asyncio.sleep(0)
        assert not ends.heard
        ends.messages.resume()
        await ends.changed.wait()
        assert ends.heard == [b"one"]

    play(test)
