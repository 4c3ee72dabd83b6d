"""The sockets at which people and programs on the machine ask: served once they exist, closed at the end.

A socket exists at the start, or comes from the spawner later, when an earlier server has left it. A monitor whose
spawner is gone closes both sockets at once, because the next server may be waiting for them.
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
    """A server that answers at a socket."""

    async def run(self) -> None:
        """Serve until cancelled."""


class _Place:
    """One such place, with its socket if there is one already; `serve` makes the server that answers there."""

    def __init__(
        self, name: SocketName, listening: socket.socket | None, serve: Callable[[socket.socket], Answering]
    ) -> None:
        self.name = name
        self.listening = listening
        self.serve = serve
        self.task: asyncio.Task[None] | None = None

    async def run(self, spawner: MonitorSpawnerClient) -> None:
        """Serve until cancelled, once there is a socket."""
        if self.listening is None:
            with suppress(SpawnRefused):
                self.listening = await spawner.await_socket(self.name)
        if self.listening is not None:
            await self.serve(self.listening).run()

    def close(self, _: object = None) -> None:
        """Leave the socket to others; no task may still be waiting at it."""
        if self.listening is not None:
            self.listening.close()


class Places:
    """All places."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._given_up = False

    def add(
        self, name: SocketName, listening: socket.socket | None, serve: Callable[[socket.socket], Answering]
    ) -> None:
        """Have what `serve` makes answer at `listening`, or at the socket for `name` that the spawner will have."""
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
            else:  # the loop still uses the socket
                place.task.add_done_callback(place.close)
