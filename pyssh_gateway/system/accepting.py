"""Accepts connections: a few in each turn of the loop, with a pause when resources have run out.

asyncio's own `sock_accept` accepts one connection a turn, logs failures, and loses a connection that arrives while it
is cancelled, as at a stop. This module does not know who connects, or who may.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

AT_ONCE = 16
"""Connections that are accepted in one turn of the loop, so that a flood does not starve existing connections."""

PAUSE_SECONDS = 0.1
"""Pause in seconds when descriptors or memory have run out. Connections stay in the kernel's queue; without a pause the
loop would try again at every turn."""


class Acceptor:
    """Hands every connection that arrives at `listening` to `take`, with its address as accept(2) gives it.

    `take` owns the connection. The caller owns `listening` and may close it without calling `stop`, which also ends
    this.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket, take: Callable[[socket.socket, Any], None]
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._take = take
        self._pause: asyncio.TimerHandle | None = None
        self._is_open = False

    def start(self) -> None:
        """Accept from now on."""
        self._is_open = True
        self._listening.setblocking(False)
        self._go_on()

    def stop(self) -> None:
        """Stop accepting; does nothing if it is stopped already."""
        self._is_open = False
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._listening.fileno() != -1:
            self._loop.remove_reader(self._listening)

    def _go_on(self) -> None:
        self._pause = None
        if self._listening.fileno() != -1:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if not self._is_open or self._listening.fileno() == -1:  # `take` has stopped or closed it
                return
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # no connection waits, or the client has disconnected
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._go_on)
                return
            self._take(sock, address)


async def accept_each(listening: socket.socket, take: Callable[[socket.socket], None]) -> None:
    """Hand every connection that arrives at `listening` to `take`, which owns it, until cancelled."""
    loop = asyncio.get_running_loop()
    acceptor = Acceptor(loop, listening, lambda sock, _address: take(sock))
    acceptor.start()
    try:
        await loop.create_future()
    finally:
        acceptor.stop()
