"""Connections that have sent something, and the few processes that serve them: which is next, and which gives way.

`core.strangers.process_places` makes the decisions; this module carries them out.
"""

from collections.abc import Callable
from typing import Protocol

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.core.strangers.admission import NEEDED
from pyssh_gateway.core.strangers.process_places import Changes, ProcessPlaces

MAX_PROCESSES = 16
"""How many preauth processes may serve a connection. Each has 5.5 to 7 MiB of its own after a key exchange (measured),
so together they have 100 MiB at most, and a machine of 256 MiB still serves users as well. A login has its process for
a tenth of a second, so this allows 160 logins in a second."""


class Guest(Protocol):
    """A connection that has sent something."""

    @property
    def conn(self) -> str:
        """Its name in the log."""

    @property
    def peer(self) -> str:
        """Its client's address."""

    def serve(self) -> None:
        """It is its turn to have a process."""

    def cut_off(self, reason: str) -> None:
        """End it at once."""


class WaitingRoom:
    """All such connections. `gave_way` is called just before a connection is ended to make room for another one."""

    def __init__(self, gave_way: Callable[[str], None], places: int = MAX_PROCESSES) -> None:
        self._gave_way = gave_way
        self._places = ProcessPlaces(places)
        self._guests: dict[str, Guest] = {}

    def enter(self, guest: Guest) -> None:
        """The first byte of a connection has come: it needs a process."""
        self._guests[guest.conn] = guest
        self._make(self._places.arrive(guest.conn, source_of(guest.peer)))

    def proved(self, conn: str) -> None:
        """Its client has shown a key that would be accepted: it gives way to nobody any more."""
        self._places.proved(conn)

    def leave(self, conn: str) -> None:
        """It needs no process any more."""
        if self._guests.pop(conn, None) is not None:
            self._make(self._places.leave(conn))

    def _make(self, changes: Changes) -> None:
        for conn in changes.evict:
            self._gave_way(conn)
            self._guests.pop(conn).cut_off(NEEDED)
        for conn in changes.begin:
            self._guests[conn].serve()
