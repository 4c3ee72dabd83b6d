"""Places for unauthenticated connections: which have one, which wait for one, and which lose theirs.

sshd refuses new connections when many unauthenticated ones are open (MaxStartups), so a client that holds many open
keeps everybody out. Here the connection that has made the least progress is closed instead, and a source never gets
more than its share of places. Pure: the time and the random numbers come in, and the actions go out.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from itertools import islice

import msgspec

from pyssh_gateway.core.limits import early_drop, source_of

WAIT_SECONDS = 12.0
"""How long a connection waits for a place when its source has used up its share. A login takes a tenth of a second, so
fifty at once all get a place in time; where the others only hold theirs, one of them is closed within this time."""

PEEKS = 16
"""How many waiting connections are checked to find one that has sent nothing: each check is a system call."""


class Stage(IntEnum):
    """How far a connection has come."""

    SILENT = 0
    """It has sent nothing."""
    SPOKEN = 1
    """It has sent something, an identification line at least."""
    PROVING = 2
    """It has offered an acceptable public key, and now has to sign with it."""


PATIENCE = {Stage.SILENT: 2.0, Stage.SPOKEN: 10.0, Stage.PROVING: 60.0}
"""For how many seconds a connection keeps its place although others want it. A client sends its identification at once,
so 2 s allow for a lost segment (RFC 6298: sent again after one second) and a distant client. 10 s allow for a handshake
on a bad line, or a person who compares a fingerprint. A person who looks for a security key and types its PIN takes
longer; but anybody can offer a public key, so that does not hold a place for ever either. While nobody wants their
places, all connections stay for the login grace time."""

NEEDED = "its place was needed for other connections"
"""The reason for closing a connection whose place was needed."""


class Places(msgspec.Struct, frozen=True):
    """How many are served at a time: `full` in all, `per_source` of one source. As many as `full` may wait.

    From `start` on, `rate` percent of arrivals cost a connection that has used up its patience its place.
    """

    full: int
    per_source: int
    start: int
    rate: int


class Moves(msgspec.Struct, frozen=True):
    """The actions, by the connections' keys: serve, refuse (they waited), cut off (they were served)."""

    serve: tuple[str, ...] = ()
    refuse: tuple[tuple[str, str], ...] = ()
    cut_off: tuple[str, ...] = ()


class _Place:
    """One connection. `since` is when it was served or has come; one that waits is served from `ready` to `until`."""

    __slots__ = ("key", "ready", "since", "source", "stage", "until")

    def __init__(self, key: str, source: "_Source", now: float, delay: float) -> None:
        self.key = key
        self.source = source
        self.since = now
        self.stage = Stage.SILENT
        self.ready = now + delay
        self.until = now + delay + WAIT_SECONDS

    @property
    def expendable_at(self) -> float:
        """From when on it can lose its place to others."""
        return self.since + PATIENCE[self.stage]


class _Source:
    """The connections of one source. `known`: somebody has logged in from there lately."""

    __slots__ = ("known", "name", "served", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = False
        self.served: dict[str, _Place] = {}
        self.waiting: dict[str, _Place] = {}  # in the order of their arrival


class Admission:
    """All places. Connections have keys, of the caller's making.

    Up to `start` connections nothing is closed. From there on, every arrival may close a connection that has used up
    its `PATIENCE`. When no place is free, a new connection waits for one, until a connection has ended or has used up
    its patience; a connection of a source that has more places is closed at once. A source from which somebody has
    logged in lately may take any stranger's place. Takes time in proportion to the number of places.

    `spoken` tells whether a waiting connection has sent something: those are served first.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._sources: dict[str, _Source] = {}
        self._all: dict[str, _Place] = {}
        self._served = 0

    def resize(self, places: Places) -> None:
        """Apply other limits from now on; connections that have a place keep it."""
        self._places = places

    @property
    def total(self) -> int:
        """How many connections are being served or wait."""
        return len(self._all)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The connections that wait."""
        return tuple(key for key, place in self._all.items() if key in place.source.waiting)

    def arrive(
        self,
        key: str,
        peer: str,
        now: float,
        *,
        roll: int,
        spoken: Callable[[str], bool],
        known: bool = False,
        delay: float = 0.0,
    ) -> Moves:
        """A new connection from the address `peer`. It is served, waits (`delay` seconds at least), or is refused."""
        name = source_of(peer)
        source = self._sources.get(name) or _Source(name)
        source.known = known
        moves = [self._drop_early(now, roll)]
        if self.total - self._served >= self._places.full:
            victim = self._least_of_those_that_wait(source, spoken)
            if victim is None:
                return _together([*moves, Moves(refuse=((key, f"{self.total} unauthenticated connections already"),))])
            self._remove(victim)
            moves.append(Moves(refuse=((victim.key, NEEDED),)))
        self._sources[name] = source
        self._all[key] = source.waiting[key] = _Place(key, source, now, delay)
        return _together([*moves, *self._turns([source], now, spoken)])

    def spoke(self, key: str) -> None:
        """A connection that is served has sent something."""
        self._advance(key, Stage.SPOKEN)

    def proving(self, key: str) -> None:
        """A connection that is served has offered an acceptable key."""
        self._advance(key, Stage.PROVING)

    def leave(self, key: str) -> None:
        """A connection has authenticated or ended. An unknown key is that of a connection that was cut off before."""
        if key in self._all:
            self._remove(self._all[key])

    def look(self, now: float, spoken: Callable[[str], bool]) -> Moves:
        """The connections whose turn it is, and those that waited in vain. For after `leave`, and at `next_look`."""
        moves = list(self._turns(self._sources.values(), now, spoken))
        for place in [place for key in self.waiting if (place := self._all[key]).until <= now]:
            self._remove(place)
            reason = f"too many unauthenticated connections from {place.source.name}"
            if len(place.source.served) < self._places.per_source:
                reason = "too many unauthenticated connections"
            moves.append(Moves(refuse=((place.key, reason),)))
        return _together(moves)

    def next_look(self, now: float) -> float | None:
        """When to call `look` again if nothing happens until then; None: no connection waits."""
        if self.total == self._served:
            return None
        times = []
        for source in self._sources.values():
            times += [place.ready if place.ready > now else place.until for place in source.waiting.values()]
            times += [place.expendable_at for place in source.served.values() if place.expendable_at > now]
        return min(times)

    # -- who is served ------------------------------------------------------------------------------------------

    def _turns(self, sources: Iterable[_Source], now: float, spoken: Callable[[str], bool]) -> Iterator[Moves]:
        """Serve the waiting connections of `sources`, as long as there is a place.

        The source that is owed most comes first. If no place can be made for it, none can be made for the others.
        """
        while True:
            order = sorted(
                (source for source in sources if source.waiting), key=lambda one: (not one.known, len(one.served))
            )
            for source in order:
                ready = [place for place in source.waiting.values() if place.ready <= now]
                if not ready:
                    continue
                gone = self._place_for(source, now)
                if gone is not None:
                    turn = next((place for place in ready if spoken(place.key)), ready[0])
                    self._serve(turn, now)
                    yield Moves(serve=(turn.key,), cut_off=gone)
                    break
                if len(source.served) < self._places.per_source:
                    return
            else:
                return

    def _place_for(self, source: _Source, now: float) -> tuple[str, ...] | None:
        """Make a place for one of `source`. Returns the connections that lost theirs, if any; None: no place."""
        if len(source.served) >= self._places.per_source:
            victim = min(_expendable([source], now), key=_use, default=None)
        elif self._served < self._places.full:
            return ()
        else:
            victim = self._least_useful(now) or self._debt(source)
        if victim is None:
            return None
        self._remove(victim)
        return (victim.key,)

    # -- who gives way ------------------------------------------------------------------------------------------

    def _drop_early(self, now: float, roll: int) -> Moves:
        """sshd's random early drop, but of the connection with the least progress instead of the new one."""
        places = self._places
        if not early_drop(self.total, start=places.start, rate=places.rate, full=places.full, roll=roll):
            return Moves()
        victim = self._least_useful(now)
        if victim is None:
            return Moves()
        self._remove(victim)
        return Moves(cut_off=(victim.key,))

    def _least_useful(self, now: float) -> _Place | None:
        """A connection that has used up its patience, preferably a stranger's, and of the source with most of them."""
        return min(
            _expendable(self._sources.values(), now),
            key=lambda place: (place.source.known, -len(place.source.served), *_use(place)),
            default=None,
        )

    def _debt(self, source: _Source) -> _Place | None:
        """A place that another source owes to `source`, because it has more, or because only `source` is known."""

        def owes(other: _Source) -> bool:
            if not other.served or other is source or other.known > source.known:
                return False
            return other.known < source.known or len(other.served) > len(source.served) + 1

        least = [min(other.served.values(), key=_use) for other in self._sources.values() if owes(other)]
        return min(least, key=lambda place: (-len(place.source.served), *_use(place)), default=None)

    def _least_of_those_that_wait(self, source: _Source, spoken: Callable[[str], bool]) -> _Place | None:
        """The waiting connection to refuse for one of `source`: of the source with most waiting, if possible silent."""
        most = max(self._sources.values(), key=lambda other: len(other.waiting))
        if len(most.waiting) <= len(source.waiting):
            return _silent(source, spoken)
        return _silent(most, spoken) or next(reversed(most.waiting.values()))

    # -- counting -----------------------------------------------------------------------------------------------

    def _advance(self, key: str, stage: Stage) -> None:
        place = self._all.get(key)
        if place is not None:
            place.stage = max(place.stage, stage)

    def _serve(self, place: _Place, now: float) -> None:
        del place.source.waiting[place.key]
        place.source.served[place.key] = place
        place.since = now
        self._served += 1

    def _remove(self, place: _Place) -> None:
        source = place.source
        del self._all[place.key]
        source.waiting.pop(place.key, None)
        self._served -= source.served.pop(place.key, None) is not None
        if not source.served and not source.waiting:
            self._sources.pop(source.name, None)


def _use(place: _Place) -> tuple[int, float]:
    """The sort key by which places are lost: first the lowest stage, then the oldest connection."""
    return place.stage, place.since


def _expendable(sources: Iterable[_Source], now: float) -> Iterator[_Place]:
    """The connections that are served and have used up their patience."""
    for source in sources:
        yield from (place for place in source.served.values() if place.expendable_at <= now)


def _silent(source: _Source, spoken: Callable[[str], bool]) -> _Place | None:
    """One of the oldest waiting connections that has sent nothing."""
    return next((place for place in islice(source.waiting.values(), PEEKS) if not spoken(place.key)), None)


def _together(several: Iterable[Moves]) -> Moves:
    """Combine several moves into one."""
    moves = tuple(several)
    return Moves(
        serve=tuple(key for each in moves for key in each.serve),
        refuse=tuple(refused for each in moves for refused in each.refuse),
        cut_off=tuple(key for each in moves for key in each.cut_off),
    )
