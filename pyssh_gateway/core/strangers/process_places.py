"""Which unauthenticated connections have a process of their own, and which wait for one.

There are few such processes, so they are shared out by source: a source with none gets one as soon as another has two.
A connection that loses its process is closed; its client may try again. A connection that has proved to own an
acceptable key is never closed: its client is logging in. Pure: it is told of connections, and returns the changes.
"""

from collections.abc import Iterable

import msgspec


class Changes(msgspec.Struct, frozen=True):
    """The actions, in this order: close the connections `evict`, then give each of `begin` a process."""

    evict: tuple[str, ...] = ()
    begin: tuple[str, ...] = ()


class _Visit:
    """A connection that has sent something. `proved`: its client owns an acceptable key."""

    def __init__(self, conn: str, source: str) -> None:
        self.conn = conn
        self.source = source
        self.proved = False


class ProcessPlaces:
    """At most `places` connections have a process. All connections are kept in the order of their arrival."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._served: dict[str, _Visit] = {}
        self._waiting: dict[str, _Visit] = {}

    @property
    def served(self) -> tuple[str, ...]:
        """The connections that have a process, or are to be given one."""
        return tuple(self._served)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The connections that wait, in the order of their arrival."""
        return tuple(self._waiting)

    def arrive(self, conn: str, source: str) -> Changes:
        """A connection of `source` needs a process."""
        self._waiting[conn] = _Visit(conn, source)
        return self._share_out()

    def proved(self, conn: str) -> None:
        """The connection's client has been told that its key is acceptable."""
        if conn in self._served:
            self._served[conn].proved = True

    def leave(self, conn: str) -> Changes:
        """The connection needs no process any more. An unknown connection changes nothing."""
        self._waiting.pop(conn, None)
        self._served.pop(conn, None)
        return self._share_out()

    def _share_out(self) -> Changes:
        evicted, begun = [], []
        while (visit := self._next()) is not None:
            if len(self._served) >= self._places:
                victim = self._owed_to(visit.source)
                if victim is None:
                    break
                del self._served[victim.conn]
                evicted.append(victim.conn)
            del self._waiting[visit.conn]
            self._served[visit.conn] = visit
            begun.append(visit.conn)
        return Changes(tuple(evicted), tuple(begun))

    def _next(self) -> _Visit | None:
        """The connection whose turn it is: of the source with the fewest processes, the first that came."""
        held = _count(self._served.values())
        return min(self._waiting.values(), key=lambda visit: held.get(visit.source, 0), default=None)

    def _owed_to(self, source: str) -> _Visit | None:
        """The connection that is closed for one of `source`: the oldest of the source with most, if that has two more.

        With a difference of one, the two sources would take the same place from each other for ever.
        """
        held = _count(self._served.values())
        least = held.get(source, 0) + 2
        able = [visit for visit in self._served.values() if not visit.proved and held[visit.source] >= least]
        return max(able, key=lambda visit: held[visit.source], default=None)


def _count(visits: Iterable[_Visit]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for visit in visits:
        counts[visit.source] = counts.get(visit.source, 0) + 1
    return counts
