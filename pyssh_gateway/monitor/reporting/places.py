"""The places where people and programs on the machine ask: served as soon as there is a socket, closed when it is over.

The socket is there at the start, or comes from the spawner later, when the server that had it has left it. A monitor
whose spawner is gone closes both places at once: the next server may be waiting for them.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.ipc.spawner import SocketName
from pyssh_gateway.ipc.spawner_client import SpawnRefused


class Answering(Protocol):
    """What answers at a socket."""

    async def run(self) -> None:
        """Serve until cancelled."""


class _Place:
    """One such place, with the socket that there is already, if any; `serve` makes what answers there."""

    def __init__(
        self, name: SocketName, listening: socket.socket | None, serve: Callable[[socket.socket], Answering]
    ) -> None:
        self.name = name
        self.listening = listening
        self.serve = serve
        self.task: asyncio.Task[None] | None = None

    async def run(self, spawner: MonitorSpawnerClient) -> None:
        """Serve until cancelled, when there is something to serve at."""
        if self.listening is None:
            with suppress(SpawnRefused):
                self.listening = await spawner.await_socket(self.name)
        if self.listening is not None:
            await self.serve(self.listening).run()

    def close(self, _: object = None) -> None:
        """Leave it to others; nothing may be waiting at it any more."""
        if self.listening is not None:
            self.listening.close()


class Places:
    """All of them."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._given_up = False

    def add(
        self, name: SocketName, listening: socket.socket | None, serve: Callable[[socket.socket], Answering]
    ) -> None:
        """Have what `serve` makes answer at `listening`, or at the socket that the spawner will have for `name`."""
        self._places.append(_Place(name, listening, serve))

    def start(self, tasks: asyncio.TaskGroup, spawner: MonitorSpawnerClient) -> None:
        """Serve at all of them, unless they have been left already."""
        if self._given_up:
            return
        for place in self._places:
            place.task = tasks.create_task(place.run(spawner), name=place.name)

    def stop(self) -> None:
        """Answer nobody any more."""
        for place in self._places:
            if place.task is not None:
                place.task.cancel()

    def give_up(self) -> None:
        """Leave them to another server, at once."""
        self._given_up = True
        self.stop()
        for place in self._places:
            if place.task is None:
                place.close()
            else:  # it is still in the loop's hands
                place.task.add_done_callback(place.close)
