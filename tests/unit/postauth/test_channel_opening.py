"""Channels that we open towards the client, and answers of the client that come too late."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_OPEN
from asyncssh.packet import SSHPacket

from pyssh_gateway.core.windows import Budget, Line
from pyssh_gateway.postauth.channel import TcpChannel
from pyssh_gateway.ssh.windowed import PACKET_BYTES, WINDOW_BYTES


class FakeConnection:
    """The part of a connection that a channel needs; `sent` has the numbers of the messages."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.line = Line()
        self.sent: list[int] = []
        self.logger: Any = SimpleNamespace(get_child=lambda **_: self.logger, debug1=print, debug2=print, info=print)

    def add_channel(self, _channel: object) -> int:
        """Return the channel's number."""
        return 0

    def send_packet(self, number: int, *_parts: bytes, handler: object) -> None:
        """Record the message."""
        assert handler
        self.sent.append(number)


def test_a_channel_that_nobody_waits_for_any_longer_is_closed() -> None:
    """A channel that a suspended client opens too late is closed, and its window is returned to the budget."""

    async def scenario() -> None:
        connection = FakeConnection()
        loop = asyncio.get_running_loop()
        channel = TcpChannel(connection, loop, None, "strict", WINDOW_BYTES, PACKET_BYTES)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await channel.connect(lambda: None, "localhost", 1, "localhost", 2)  # type: ignore[arg-type,return-value]  # never called
        channel.process_open_confirmation(7, 1000, 1000, SSHPacket(b""))
        assert connection.sent == [MSG_CHANNEL_OPEN, MSG_CHANNEL_CLOSE]
        assert not connection.budget.held

    asyncio.run(scenario())
