"""Preauth's end of the socket to the monitor: one request at a time, and an end when no answer comes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pyssh_gateway.ipc import preauth as messages
from pyssh_gateway.ipc.spawner import socket_pair
from pyssh_gateway.preauth import monitor_link
from pyssh_gateway.preauth.monitor_link import MonitorGone, MonitorLink
from tests.support.waiting import PATIENCE

ATTEMPT = messages.Attempt(b"amos", "publickey", "ssh-ed25519", b"blob")


class Side:
    """The monitor's end, and what the link has reported."""

    def __init__(self, link: MonitorLink, monitor: socket.socket, said: list[str], gone: asyncio.Event) -> None:
        self.link = link
        self.gone = gone
        self.monitor = monitor
        self.said = said

    async def hears(self) -> messages.FromPreauth:
        """The next request."""
        async with asyncio.timeout(PATIENCE):
            packet = await asyncio.get_running_loop().sock_recv(self.monitor, 100_000)
        return messages.decode_from_preauth(packet)


@asynccontextmanager
async def linked() -> AsyncIterator[Side]:
    """A link whose monitor is the test."""
    monitor, own = socket_pair()
    with monitor, own:
        monitor.setblocking(False)
        own.setblocking(False)
        said: list[str] = []
        gone = asyncio.Event()

        def on_gone() -> None:
            said.append("gone")
            gone.set()

        loop = asyncio.get_running_loop()
        link = MonitorLink(own, loop, on_disconnect=said.append, on_gone=on_gone)
        try:
            yield Side(link, monitor, said, gone)
        finally:
            loop.remove_reader(own)


def test_questions_are_answered() -> None:
    """Each request gets its answer, and nothing else is reported."""

    async def go() -> None:
        async with linked() as side:
            signing = asyncio.ensure_future(side.link.sign(b"ssh-ed25519", bytes(32)))
            assert await side.hears() == messages.Sign(b"ssh-ed25519", bytes(32))
            side.monitor.send(messages.encode(messages.Signed(b"signature")))
            assert await signing == b"signature"
            asking = asyncio.ensure_future(side.link.attempt(ATTEMPT))
            assert await side.hears() == ATTEMPT
            side.monitor.send(messages.encode(messages.Answer("denied", last=True)))
            assert await asking == messages.Answer("denied", last=True)
            assert side.said == []

    asyncio.run(go())


@pytest.mark.parametrize("answer", [messages.Signed(b"signature"), None], ids=["another's answer", "the end"])
def test_an_attempt_that_is_not_answered_is_none(answer: messages.Signed | None) -> None:
    """Protects the decision: only the monitor's answer to an attempt can accept it."""

    async def go() -> None:
        async with linked() as side:
            asking = asyncio.ensure_future(side.link.attempt(ATTEMPT))
            await side.hears()
            if answer is None:
                side.monitor.close()
            else:
                side.monitor.send(messages.encode(answer))
            with pytest.raises(MonitorGone):
                await asking
            assert side.said == ([] if answer else ["gone"])

    asyncio.run(go())


def test_a_goodbye_may_come_while_a_question_is_open() -> None:
    """Protects the stop of the server: a client that waits during login is told the reason."""

    async def go() -> None:
        async with linked() as side:
            asking = asyncio.ensure_future(side.link.attempt(ATTEMPT))
            await side.hears()
            side.monitor.send(messages.encode(messages.Disconnect("the server stops")))
            side.monitor.send(messages.encode(messages.Answer("denied", last=False)))
            assert (await asking).result == "denied"
            assert side.said == ["the server stops"]

    asyncio.run(go())


@pytest.mark.parametrize(
    "packet",
    [b"garbage", messages.encode(messages.Answer("accepted", last=False))],
    ids=["garbage", "an answer that nobody asked for"],
)
def test_nonsense_is_the_end(packet: bytes) -> None:
    """Protects against a faulty monitor: an unexpected message is ignored and ends the connection."""

    async def go() -> None:
        async with linked() as side:
            side.monitor.send(packet)
            async with asyncio.timeout(PATIENCE):
                await side.gone.wait()
            assert side.said == ["gone"]

    asyncio.run(go())


def test_a_silent_monitor_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine from processes that wait for ever: a request fails at a deadline."""
    monkeypatch.setattr(monitor_link, "ANSWER_SECONDS", 0.02)

    async def go() -> None:
        async with linked() as side:
            with pytest.raises(MonitorGone):
                await side.link.attempt(ATTEMPT)

    asyncio.run(go())
