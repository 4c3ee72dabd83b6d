"""Listening sockets that another server still has: tried again in the background until they are free.

A server that was killed leaves a monitor behind, which needs a moment to notice. The new server does not wait for it:
it serves logins, and binds these sockets as soon as they are free. This module does not know what the sockets are for.
"""

import os
import socket
from collections.abc import Callable, Mapping

from pyssh_gateway.ipc import spawner as protocol

PAUSE_SECONDS = 0.25
"""How often to try: so short that somebody who asks for `status` right after a restart does not notice."""


MAX_ASKED = 8
"""How many requests may wait: a monitor asks once for each of the sockets."""

Report = Callable[[protocol.Report, list[int]], None]


class Occupied(Exception):
    """Another server listens at the socket's place; the text names the place."""


class LateSockets:
    """The sockets that are bound, and those that may still be.

    `places` has a function for each name, which makes the socket, returns None if that is impossible (and has said so),
    or raises `Occupied`. `say` is told which sockets are waited for, and the outcome; `otherwise` has for each name the
    consequence of not having the socket.
    """

    def __init__(
        self,
        places: Mapping[str, Callable[[], socket.socket | None]],
        otherwise: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._places = dict(places)
        self._otherwise = otherwise
        self._say = say
        self._due: float | None = None
        self._until = 0.0
        self._asked: list[tuple[protocol.AwaitSocket, Report]] = []
        self.bound: dict[str, socket.socket] = {}

    def begin(self, now: float) -> None:
        """Make the sockets whose places are free; `now` is of `time.monotonic()`."""
        self._until = now + protocol.SOCKET_PATIENCE_SECONDS
        for _, problem in self._try():
            self._say(f"{problem}; trying for {protocol.SOCKET_PATIENCE_SECONDS:.0f} s to take it over")
            self._due = now + PAUSE_SECONDS

    def expects(self, name: str) -> bool:
        """Whether that socket is bound or may still be."""
        return name in self.bound or name in self._places

    def ask(self, request: protocol.AwaitSocket, report: Report) -> None:
        """Answer `request` when the socket is bound or given up; `report` sends answers with descriptors."""
        if request.name in self._places and len(self._asked) < MAX_ASKED:
            self._asked.append((request, report))
        elif request.name in self.bound:
            report(protocol.SocketBound(request.id), [os.dup(self.bound[request.name].fileno())])
        else:
            report(protocol.Refused(request.id, f"the {request.name} socket can't be had"), [])

    def forget(self) -> None:
        """The monitor that has asked is gone: drop its requests."""
        self._asked.clear()

    def next_at(self) -> float | None:
        """When to call `tick`."""
        return self._due

    def tick(self, now: float) -> None:
        """Try again, if it is time, and answer the requests that can be answered."""
        if self._due is None or now < self._due:
            return
        missing = set(self._places)
        occupied = self._try()
        for name in missing - set(self._places):
            if name in self.bound:
                self._say(f"has taken over the {name} socket")
        if now >= self._until:
            for name, problem in occupied:
                self._say(f"{problem}; {self._otherwise[name]}")
                del self._places[name]
        self._due = now + PAUSE_SECONDS if self._places else None
        asked, self._asked = self._asked, []
        for request, report in asked:
            self.ask(request, report)

    def _try(self) -> list[tuple[str, str]]:
        """Make the missing sockets; returns the names and problems of those that another server has."""
        occupied = []
        for name, make in list(self._places.items()):
            try:
                made = make()
            except Occupied as error:
                occupied.append((name, str(error)))
                continue
            del self._places[name]
            if made is not None:
                self.bound[name] = made
        return occupied
