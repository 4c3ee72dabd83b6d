"""Accepting connections of people and programs on the machine, one after the other, until cancelled.

asyncio's own `sock_accept` fails noisily, and loses the connection, when it is cancelled in the moment in which one
arrives; a stop is such a moment.
"""

import asyncio
import socket
from collections.abc import Callable

EXHAUSTED_SECONDS = 0.1
"""How long not to accept when descriptors have run out; whoever asks stays in the kernel's queue."""


async def accept_each(listening: socket.socket, take: Callable[[socket.socket], None]) -> None:
    """Hand every connection that arrives at `listening` to `take`, which owns it."""
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    pause: list[asyncio.TimerHandle] = []

    def listen() -> None:
        loop.add_reader(listening, accept)

    def accept() -> None:
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionError):  # gone again
            return
        except OSError:
            loop.remove_reader(listening)
            pause[:] = [loop.call_later(EXHAUSTED_SECONDS, listen)]
            return
        take(sock)

    listen()
    try:
        await loop.create_future()
    finally:
        loop.remove_reader(listening)
        for timer in pause:
            timer.cancel()
