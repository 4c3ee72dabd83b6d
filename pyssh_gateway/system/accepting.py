"""Accepting connections: a few in a turn of the loop, and none for a moment where there is no room for them.

asyncio's own `sock_accept` takes one a turn, fails noisily, and loses the connection, when it is cancelled in the
moment in which one arrives; a stop is such a moment. This module does not know who comes, or who may.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

AT_ONCE = 16
"""Connections taken in one turn of the loop: a flood does not starve those who are on."""

PAUSE_SECONDS = 0.1
"""How long not to accept when descriptors or memory have run out. Connections stay in the kernel's queue; without a
pause the loop would try again at every turn."""


class Acceptor:
    """Hands every connection that arrives at `listening` to `take`, with its address as accept(2) gives it.

    `take` owns the connection. The socket is the caller's, who may close it without a word: that ends it, too.
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
        """Accept no more; nothing happens if that is so already."""
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
            if not self._is_open or self._listening.fileno() == -1:  # by what `take` did
                return
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # nobody waits any more, or somebody is gone again
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
