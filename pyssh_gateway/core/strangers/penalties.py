"""Penalties for sources of failed logins: what they are for, how they grow, what they refuse, and what ends them.

The values and the arithmetic are those of OpenSSH's PerSourcePenalties (since 9.8: srclimit.c, and servconf.c for the
defaults), with three differences. Connections without a word are not penalised, so that health checks and port scans
cost nothing; only hundreds of them slow their source down. A login from a source ends its penalty. A source from which
somebody has logged in lately is slowed down instead of refused: other clients may share its address. Pure.
"""

import heapq
from enum import Enum

import msgspec

from pyssh_gateway.core.access import source_match
from pyssh_gateway.core.limits import source_of

MAX_SOURCES = 16_384
"""Remembered sources, some 300 bytes each. sshd remembers 65,536 of IPv4 and as many of IPv6. When there are more, the
penalty that would end first is forgotten (sshd's `overflow:permissive`)."""

SLOW_SECONDS = 2.0
"""How long a slowed-down connection waits. With ten places, a source then makes five attempts a second instead of
hundreds; a person hardly notices."""


class Offence(Enum):
    """The reasons for penalties: the text for the log, and the seconds (sshd_config(5), PerSourcePenalties)."""

    CRASH = "caused an error of the server", 90.0
    FAILED = "failed authentication", 5.0
    """sshd's `authfail` and `invaliduser`. They are equal here, or the penalty would reveal which accounts exist."""
    GRACE = "exceeded the login grace", 10.0
    NO_ATTEMPT = "connections without attempting authentication", 1.0
    """sshd's `noauth`."""
    SILENCE = "connections without a word", 0.1
    """Ten a second are free, for ever. It only ever slows down (`HASTE`)."""

    def __init__(self, reason: str, seconds: float) -> None:
        self.reason = reason
        self.seconds = seconds


class Conduct(msgspec.Struct, frozen=True):
    """What a connection did until it ended without a login."""

    spoke: bool = False
    attempted: bool = False
    crashed: bool = False
    grace_exceeded: bool = False


def offence_of(conduct: Conduct) -> Offence:
    """The offence of a connection, checked in sshd's order (child_reap in sshd.c)."""
    if conduct.crashed:
        return Offence.CRASH
    if not conduct.spoke:
        return Offence.SILENCE
    if conduct.grace_exceeded:
        return Offence.GRACE
    return Offence.FAILED if conduct.attempted else Offence.NO_ATTEMPT


class Rules(msgspec.Struct, frozen=True):
    """`least` is how many seconds have to add up before a penalty takes effect, `most` the largest penalty.

    `exempt` are networks without penalties, as `address/bits`. `enabled` False: there are no penalties.
    """

    enabled: bool
    least: float
    most: float
    exempt: tuple[str, ...]


HASTE_LEAST, HASTE_MOST = 10.0, 60.0
"""A hundred connections without a word at once slow their source down, for a minute at most. Each would otherwise write
two lines into the log, as fast as it can be opened and closed."""


class _Penalty:
    __slots__ = ("active", "expiry", "reason")

    def __init__(self, expiry: float) -> None:
        self.active = False
        self.expiry = expiry
        self.reason = ""


class Penalties:
    """The penalties of all sources. `now` is any monotonic clock, the same for every call."""

    def __init__(self, rules: Rules, max_sources: int = MAX_SOURCES) -> None:
        self._rules = rules
        self._max_sources = max_sources
        self._penalties: dict[str, _Penalty] = {}
        # Ends of penalties, the next one first. An entry whose penalty has changed since is skipped.
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._penalties)

    def reconfigure(self, rules: Rules) -> None:
        """Apply other rules from now on. If they differ from the old ones, all penalties are forgotten."""
        if rules != self._rules:
            self._rules = rules
            self._penalties.clear()
            self._ends.clear()

    def penalise(self, peer: str, offence: Offence, now: float) -> None:
        """Add what `offence` costs to the penalty of the source of `peer`."""
        rules, source = self._rules, source_of(peer)
        if not rules.enabled or (rules.exempt and source_match.matches(rules.exempt, peer)):
            return
        self._expire(now)
        penalty = self._penalties.setdefault(source, _Penalty(now))
        penalty.expiry = min(penalty.expiry + offence.seconds, now + rules.most)
        penalty.active = penalty.active or penalty.expiry - now > rules.least
        penalty.reason = offence.reason
        heapq.heappush(self._ends, (penalty.expiry, source))
        while len(self._penalties) > self._max_sources:
            self._forget_next()
        if len(self._ends) > 2 * len(self._penalties) + self._max_sources:
            self._ends = [(kept.expiry, name) for name, kept in self._penalties.items()]
            heapq.heapify(self._ends)

    def check(self, peer: str, now: float) -> str | None:
        """Why connections from `peer` are to be refused, or slowed down; None: they are not."""
        penalty = self._penalties.get(source_of(peer))
        if penalty is None or not penalty.active or penalty.expiry <= now:
            return None
        return f"penalty: {penalty.reason}"

    def forgive(self, peer: str) -> None:
        """Somebody has logged in from `peer`."""
        self._penalties.pop(source_of(peer), None)

    def _expire(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            self._forget_next()

    def _forget_next(self) -> None:
        """Forget the penalty that ends first, unless its entry is an old one."""
        expiry, source = heapq.heappop(self._ends)
        penalty = self._penalties.get(source)
        if penalty is not None and penalty.expiry == expiry:
            del self._penalties[source]
