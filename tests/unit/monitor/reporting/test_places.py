"""monitor.reporting.places: sockets that are to be given up are closed, even before they are served."""

import asyncio
import socket
from contextlib import closing

from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.ipc.spawner import socket_pair
from pyssh_gateway.monitor.reporting.places import Places
from pyssh_gateway.system.accepting import accept_each
from tests.support.waiting import PATIENCE


class Answers:
    """A server at a socket."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    async def run(self) -> None:
        """Accept and close connections."""
        await accept_each(self._listening, socket.socket.close)


def test_places_that_were_left_before_they_were_served_are_not_served() -> None:
    """A monitor whose spawner ends during the start stops in order, and does not crash on a closed socket."""

    async def story() -> None:
        ours, theirs = socket_pair()
        spawner = MonitorSpawnerClient(ours, asyncio.get_running_loop(), on_lost=lambda: None)
        listening = socket.create_server(("127.0.0.1", 0))
        places = Places()
        places.add("control", listening, Answers)
        places.add("metrics", None, Answers)
        with closing(theirs):
            places.give_up()
            assert listening.fileno() < 0
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                places.start(tasks, spawner)
        spawner.close()

    asyncio.run(story())
