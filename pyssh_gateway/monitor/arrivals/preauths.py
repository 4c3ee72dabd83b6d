"""Processes for strangers: each serves one connection. One is forked ahead while connections come, to hide the fork."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ipc.spawner_client import OnExit, Spawned, SpawnRefused

SPARE_SECONDS = 60.0
"""How long after the last connection a process that was forked ahead is kept. It has 2 MiB of its own, which a server
without connections need not spend."""


AHEAD_SECONDS = 0.03
"""How long after a connection has taken its process the next one is forked. A login takes about as long, and the fork
would compete with it for processors. A client that logs in again at once still finds the next process ready
(measured)."""


class Spawner(Protocol):
    """What is asked of the spawner."""

    async def start_preauth(self, on_exit: OnExit) -> Spawned:
        """Start a process for one stranger; its one descriptor is the socket to it. Raises `SpawnRefused`."""

    def kill(self, spawned: Spawned) -> None:
        """Kill a process."""


class Preauth:
    """A process with its socket. `exited` is done when the spawner has reaped it."""

    def __init__(self, spawned: Spawned, exited: "asyncio.Future[Exited]") -> None:
        self.spawned = spawned
        self.socket = socket.socket(fileno=spawned.descriptors[0])
        self.exited = exited


class Preauths:
    """Starts preauth processes. `start` begins a task that somebody else owns."""

    def __init__(
        self,
        spawner: Spawner,
        start: Callable[[Coroutine[Any, Any, None], str], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._spawner = spawner
        self._start = start
        self._loop = loop
        self._spare: Preauth | None = None
        self._is_coming = False
        self._over: asyncio.TimerHandle | None = None

    async def take(self) -> Preauth:
        """A process for a connection that has come. Raises SpawnRefused."""
        spare, self._spare = self._spare, None
        preauth = spare if spare is not None and not spare.exited.done() else await self._fork()
        if preauth is not spare and spare is not None:
            spare.socket.close()
        self._fork_ahead()
        return preauth

    def kill(self, preauth: Preauth) -> None:
        """End a process; nothing happens if it has ended."""
        self._spawner.kill(preauth.spawned)

    def close(self) -> None:
        """Release the spare process: no more connections come."""
        if self._over is not None:
            self._over.cancel()
        self._drop_spare()

    async def _fork(self) -> Preauth:
        exited: asyncio.Future[Exited] = self._loop.create_future()
        return Preauth(await self._spawner.start_preauth(exited.set_result), exited)

    def _fork_ahead(self) -> None:
        """Keep one more process ready, for `SPARE_SECONDS` from now."""
        if self._over is not None:
            self._over.cancel()
        self._over = self._loop.call_later(SPARE_SECONDS, self._drop_spare)
        if self._spare is None and not self._is_coming:
            self._is_coming = True
            self._start(self._fork_spare(), "a process for the next stranger")

    async def _fork_spare(self) -> None:
        try:
            await asyncio.sleep(AHEAD_SECONDS)
            with suppress(SpawnRefused):  # the next connection asks again, and is told why
                self._spare = await self._fork()
        finally:
            self._is_coming = False

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.socket.close()
            self.kill(spare)
