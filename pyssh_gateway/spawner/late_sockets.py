"""Listening sockets that another server still has: tried again in the background until they are free.

A server that was killed leaves a monitor behind, which needs a moment to notice. Its successor does not wait for that:
it serves logins, and takes these places over as soon as they are free. What the sockets are for is not known here.
"""

import os
import socket
from collections.abc import Callable, Mapping

from pyssh_gateway.ipc import spawner as protocol

PAUSE_SECONDS = 0.25
"""How often to try: a person who asks for `status` right after a restart does not notice."""


MAX_ASKED = 8
"""Requests that wait: a monitor asks once for each of the sockets."""

Report = Callable[[protocol.Report, list[int]], None]


class Occupied(Exception):
    """Another server listens there; the text says where."""


class LateSockets:
    """`places` has for each name what makes its socket: None if it can't be had (said already), or raises `Occupied`.

    `say` gets what is waited for, and how that went; `otherwise` is what it means not to have the socket.
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
        """Make those that can be had at once; `now` is of `time.monotonic()`."""
        self._until = now + protocol.SOCKET_PATIENCE_SECONDS
        for _, problem in self._try():
            self._say(f"{problem}; trying for {protocol.SOCKET_PATIENCE_SECONDS:.0f} s to take it over")
            self._due = now + PAUSE_SECONDS

    def expects(self, name: str) -> bool:
        """Whether that socket is there or may still come."""
        return name in self.bound or name in self._places

    def ask(self, request: protocol.AwaitSocket, report: Report) -> None:
        """Answer `request` when it is known what becomes of the socket; `report` sends answers with descriptors."""
        if request.name in self._places and len(self._asked) < MAX_ASKED:
            self._asked.append((request, report))
        elif request.name in self.bound:
            report(protocol.SocketBound(request.id), [os.dup(self.bound[request.name].fileno())])
        else:
            report(protocol.Refused(request.id, f"the {request.name} socket can't be had"), [])

    def forget(self) -> None:
        """The monitor that has asked is gone."""
        self._asked.clear()

    def next_at(self) -> float | None:
        """When to call `tick`."""
        return self._due

    def tick(self, now: float) -> None:
        """Try again, if it is time, and tell those who have asked."""
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
        """Make what is missing; the names and problems of those that somebody else has."""
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
