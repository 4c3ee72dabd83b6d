"""Places for connections on which nobody has authenticated: who has one, who waits for one, and who gives way.

sshd refuses newcomers when many connections are half open (MaxStartups), so whoever holds those open keeps everybody
out. Here it is the connection that has been of no use for longest that goes, and never more than its share is taken
from a source. Pure: the time and the dice come in, and what has to be done goes out.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from itertools import islice

import msgspec

from pyssh_gateway.core.limits import early_drop, source_of

WAIT_SECONDS = 12.0
"""How long a connection waits for a place when its source has as many as it may have. A login takes a tenth of a
second, so fifty at once all have theirs; where others only hold theirs, one is taken from them within this time."""

PEEKS = 16
"""How many of the connections that wait are looked at to find one that has said nothing: each look is a system call."""


class Stage(IntEnum):
    """How far a connection has come."""

    SILENT = 0
    """It has sent nothing."""
    SPOKEN = 1
    """It has sent something, an identification line at least."""
    PROVING = 2
    """It has shown a public key that would do, and is to sign with it."""


PATIENCE = {Stage.SILENT: 2.0, Stage.SPOKEN: 10.0, Stage.PROVING: 60.0}
"""For how many seconds a connection keeps its place although others want it. A client says its name at once, so 2 s are
a lost segment (RFC 6298: sent again after one) and a distant client. 10 s are a handshake on a bad line, or a person
who compares a fingerprint. A person who looks for a security key and types its PIN takes longer; but anybody can show a
public key, so that does not hold a place for ever either. While nobody wants their places, all stay for the grace."""

NEEDED = "its place was needed for other connections"
"""Why a connection that gave way has ended."""


class Places(msgspec.Struct, frozen=True):
    """How many there are: `full` in all and `per_source`. From `start` on, `rate` percent of arrivals cost a place."""

    full: int
    per_source: int
    start: int
    rate: int


class Moves(msgspec.Struct, frozen=True):
    """What has to be done, by the connections' keys: serve, refuse (they waited), cut off (they were served)."""

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
        """When it begins to give way to others."""
        return self.since + PATIENCE[self.stage]


class _Source:
    """What one source has. `known`: somebody has logged in from there lately."""

    __slots__ = ("known", "name", "served", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = False
        self.served: dict[str, _Place] = {}
        self.waiting: dict[str, _Place] = {}  # in the order of their arrival

    @property
    def count(self) -> int:
        return len(self.served) + len(self.waiting)


class Admission:
    """All places. Connections have keys, of the caller's making.

    Up to `start` connections nobody is bothered. From there on every arrival may cost a connection that has used up its
    `PATIENCE` its place, and at `full` it does; then, too, a source with more than another loses one to it. A source
    from which somebody has logged in lately takes any stranger's place. Below `full` nobody is refused, but waits while
    its own source has as many as it may have. Takes time in proportion to the number of places.

    `spoken` tells of a connection that waits whether it has sent something: those are served first.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._sources: dict[str, _Source] = {}
        self._all: dict[str, _Place] = {}

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
        gone = self._make_room(source, now, roll, spoken)
        if self.total >= self._places.full:
            return Moves(refuse=((key, f"{self.total} unauthenticated connections already"),))
        place = _Place(key, source, now, delay)
        self._sources[name] = source
        self._all[key] = source.waiting[key] = place
        return _together([gone, self._turns(source, now, spoken)])

    def spoke(self, key: str) -> None:
        """A connection that is served has sent something."""
        self._advance(key, Stage.SPOKEN)

    def proving(self, key: str) -> None:
        """A connection that is served has shown a key that would do."""
        self._advance(key, Stage.PROVING)

    def leave(self, key: str) -> None:
        """A connection has authenticated or gone. One that is not known has given way before."""
        if key in self._all:
            self._remove(self._all[key])

    def look(self, now: float, spoken: Callable[[str], bool]) -> Moves:
        """Whose turn it is, and who has waited in vain. To be called after a `leave`, and when `next_look` is over."""
        late = [place for place in map(self._all.__getitem__, self.waiting) if place.until <= now]
        turns = [self._turns(source, now, spoken) for source in tuple(self._sources.values())]
        served = {key for moves in turns for key in moves.serve}
        refused = []
        for place in late:
            if place.key not in served:
                self._remove(place)
                refused.append((place.key, f"too many unauthenticated connections from {place.source.name}"))
        return _together([Moves(refuse=tuple(refused)), *turns])

    def next_look(self, now: float) -> float | None:
        """When to look again if nothing happens until then; None: nobody waits."""
        times: list[float] = []
        for source in self._sources.values():
            if not source.waiting:
                continue
            times += [place.ready if place.ready > now else place.until for place in source.waiting.values()]
            times += [place.expendable_at for place in source.served.values() if place.expendable_at > now]
        return min(times, default=None)

    # -- who is served ------------------------------------------------------------------------------------------

    def _turns(self, source: _Source, now: float, spoken: Callable[[str], bool]) -> Moves:
        """Serve those of `source` that wait, while it has room or one of its others can go."""
        serve: list[str] = []
        cut_off: list[str] = []
        while ready := [place for place in source.waiting.values() if place.ready <= now]:
            if len(source.served) >= self._places.per_source:
                least = min(_expendable([source], now), key=_use, default=None)
                if least is None:
                    break
                self._remove(least)
                cut_off.append(least.key)
            turn = next((place for place in ready if spoken(place.key)), ready[0])
            del source.waiting[turn.key]
            source.served[turn.key] = turn
            turn.since = now
            serve.append(turn.key)
        return Moves(serve=tuple(serve), cut_off=tuple(cut_off))

    # -- who gives way ------------------------------------------------------------------------------------------

    def _make_room(self, source: _Source, now: float, roll: int, spoken: Callable[[str], bool]) -> Moves:
        """Take the place of one connection for one of `source`, if that is called for and one can go."""
        places = self._places
        if not early_drop(self.total, start=places.start, rate=places.rate, full=places.full, roll=roll):
            return Moves()
        victim = min(
            _expendable(self._sources.values(), now),
            key=lambda place: (place.source.known, -place.source.count, *_use(place)),
            default=None,
        )
        if victim is None and self.total >= places.full:
            victim = self._debt(source, spoken) or _silent(source, spoken)
        if victim is None:
            return Moves()
        waited = victim.key in victim.source.waiting
        self._remove(victim)
        return Moves(refuse=((victim.key, NEEDED),)) if waited else Moves(cut_off=(victim.key,))

    def _debt(self, source: _Source, spoken: Callable[[str], bool]) -> _Place | None:
        """A place that another source owes to `source`: it has more of them than `source` will have.

        A known source owes strangers only what it has waiting. Strangers owe any place to a known source.
        """

        def owes(other: _Source) -> bool:
            if source.known and not other.known:
                return True
            more = other.count > source.count + 1
            return more and (bool(other.waiting) or other.known == source.known)

        debtors = [other for other in self._sources.values() if other is not source and owes(other)]
        if not debtors:
            return None
        least = {other.name: min(map(_use, other.served.values()), default=(0, 0.0)) for other in debtors}
        greediest = min(debtors, key=lambda other: (other.known, -other.count, least[other.name]))
        oldest = next(iter(greediest.waiting.values()), None)
        return _silent(greediest, spoken) or oldest or min(greediest.served.values(), key=_use)

    # -- counting -----------------------------------------------------------------------------------------------

    def _advance(self, key: str, stage: Stage) -> None:
        place = self._all.get(key)
        if place is not None:
            place.stage = max(place.stage, stage)

    def _remove(self, place: _Place) -> None:
        source = place.source
        del self._all[place.key]
        source.waiting.pop(place.key, None)
        source.served.pop(place.key, None)
        if not source.count:
            self._sources.pop(source.name, None)


def _use(place: _Place) -> tuple[int, float]:
    """What is least in this goes first: it has not come far, and of those it is the oldest."""
    return place.stage, place.since


def _expendable(sources: Iterable[_Source], now: float) -> Iterator[_Place]:
    """The connections that are served and have used up their patience."""
    for source in sources:
        yield from (place for place in source.served.values() if place.expendable_at <= now)


def _silent(source: _Source, spoken: Callable[[str], bool]) -> _Place | None:
    """One of the oldest that wait and have said nothing."""
    return next((place for place in islice(source.waiting.values(), PEEKS) if not spoken(place.key)), None)


def _together(several: Iterable[Moves]) -> Moves:
    """All of them in one."""
    moves = tuple(several)
    return Moves(
        serve=tuple(key for each in moves for key in each.serve),
        refuse=tuple(refused for each in moves for refused in each.refuse),
        cut_off=tuple(key for each in moves for key in each.cut_off),
    )
