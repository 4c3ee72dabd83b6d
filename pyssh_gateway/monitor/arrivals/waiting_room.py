"""Connections that have spoken, and the few processes that serve such: whose turn it is, and who gives way.

The decisions are those of `core.strangers.process_places`; in here is what is done about them.
"""

from collections.abc import Callable
from typing import Protocol

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.core.strangers.admission import NEEDED
from pyssh_gateway.core.strangers.process_places import Changes, ProcessPlaces

MAX_PROCESSES = 16
"""Preauth processes that have a connection. Each has 5.5 to 7 MiB of its own after a key exchange (measured), so these
are 100 MiB at most, and a machine of 256 MiB serves strangers and users still. A login has its process for a tenth of a
second, so that is 160 logins in a second."""


class Guest(Protocol):
    """A connection that has spoken."""

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
    """All of them. `gave_way` is told of a connection that is ended for another one's sake, before it is."""

    def __init__(self, gave_way: Callable[[str], None], places: int = MAX_PROCESSES) -> None:
        self._gave_way = gave_way
        self._places = ProcessPlaces(places)
        self._guests: dict[str, Guest] = {}

    def enter(self, guest: Guest) -> None:
        """The first byte of a connection has come: it needs a process."""
        self._guests[guest.conn] = guest
        self._make(self._places.arrive(guest.conn, source_of(guest.peer)))

    def proved(self, conn: str) -> None:
        """Its client owns a key that would do: it gives way to nobody any more."""
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
