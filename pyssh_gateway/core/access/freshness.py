"""The age of an answer, when an unknown key justifies asking the sources again, and what a changed account may do.

A key that was added at GitHub a moment ago has to work, but a thousand scanners must not cause a thousand requests.
Pure: time comes in as seconds of any clock.
"""

from collections import OrderedDict
from typing import Literal

from pyssh_gateway.core.limits import source_of

LOOKS = 4
"""How often the sources may be asked again in a row. A person who adds a key and retries needs two; each asks all
sources."""

LOOK_SECONDS = 30.0
"""Seconds until the sources may be asked once more."""

LOOKS_PER_PEER = 3
PEER_SECONDS = 60.0
"""The same for one client, so that a client that tries for ever does not use up the budget of the others."""

MAX_PEERS = 1024
"""Clients remembered; the one seen longest ago is forgotten first. A client that causes this gains nothing: `LOOKS`
bounds the requests of all clients together."""

MAX_BYSTANDERS = 1024
"""Remembered keys that were offered in vain before the right one; an agent holds a handful."""


CLOCK_SKEW = 300.0
"""How many seconds a stored time may be ahead of the clock. NTP corrects the clock of a machine that has just started,
mostly by less than this; Kerberos lets clocks differ by as much (krb5.conf(5), clockskew)."""


def age_of(then: float, now: float) -> float:
    """Seconds from `then`, a stored time, to `now`; infinity if `then` is in the future.

    A time in the future was stored with a wrong clock, before the clock was set back, or by somebody who wants the data
    to be valid for ever. Its real age is unknown, so it is treated as too old for everything.
    """
    return float("inf") if then - now > CLOCK_SKEW else max(0.0, now - then)


class Bucket:
    """A token bucket: `size` tokens at once, and one more after each `seconds`."""

    def __init__(self, size: int, seconds: float, now: float) -> None:
        self._size = float(size)
        self._seconds = seconds
        self._left = self._size
        self._counted_at = now

    def has(self, now: float) -> bool:
        """Whether there is a token left."""
        self._left = min(self._size, self._left + max(0.0, now - self._counted_at) / self._seconds)
        self._counted_at = now
        return self._left >= 1.0

    def take(self) -> None:
        """Use up one token."""
        self._left -= 1.0


class Patience:
    """How long a connection has waited for newer keys, over all keys that it offered, and whether it caused a request.

    An agent with five keys belongs to one person, who should wait only once.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.has_looked = False

    def left(self, limit: float) -> float:
        """Seconds for which the connection may still wait, of `limit` in all."""
        return max(0.0, limit - self.waited)


class LookBudget:
    """Decides whether the sources are asked again for an unknown key, before it is refused.

    An agent offers all its keys, one after the other. The keys that it offers before the right one are called
    bystanders: they would delay every login from that address, so the sources are not asked for them when they come
    from there again. A client that leaves without having logged in may have meant one of them (it may have been added
    to the account a moment ago): the next time the sources are asked.
    """

    def __init__(self, now: float) -> None:
        self._all = Bucket(LOOKS, LOOK_SECONDS, now)
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._bystanders: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, peer: str, fingerprint: str, now: float) -> bool:
        """Whether to ask the sources now for the key that `peer` offers; if so, it is counted."""
        if self.is_bystander(peer, fingerprint):
            return False
        source = source_of(peer)
        mine = self._peers.setdefault(source, Bucket(LOOKS_PER_PEER, PEER_SECONDS, now))
        self._peers.move_to_end(source)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        if not mine.has(now) or not self._all.has(now):
            return False
        mine.take()
        self._all.take()
        return True

    def is_bystander(self, peer: str, fingerprint: str) -> bool:
        """Whether a client at `peer` offered the key in vain before, and logged in with another one."""
        known_as = (source_of(peer), fingerprint)
        if known_as not in self._bystanders:
            return False
        self._bystanders.move_to_end(known_as)
        return True

    def stood_by(self, peer: str, fingerprints: tuple[str, ...]) -> None:
        """A client at `peer` offered these keys in vain, and logged in with another one."""
        for fingerprint in fingerprints:
            known_as = (source_of(peer), fingerprint)
            self._bystanders[known_as] = None
            self._bystanders.move_to_end(known_as)
            if len(self._bystanders) > MAX_BYSTANDERS:
                self._bystanders.popitem(last=False)

    def were_meant(self, peer: str, fingerprints: tuple[str, ...]) -> None:
        """A client at `peer` offered these keys in vain, and left without having logged in."""
        for fingerprint in fingerprints:
            self._bystanders.pop((source_of(peer), fingerprint), None)


Verdict = Literal["trust", "wait", "disown"]


def judge_account(*, expected: int | None, found: int | None, changed: bool) -> Verdict:
    """What to do with the keys that are now published under an account's name.

    `expected` is the number of the account that is trusted (None: any, nobody has been seen yet), `found` that of the
    account that has the name now (None: it could not be found out), `changed` whether there are keys that were not
    there before. A name can be given up and taken by somebody else, who then chooses the keys. So new keys wait until
    their owner is known, and the trusted keys stay. `disown`: the account is somebody else's.
    """
    if expected is None:
        return "trust"
    if found is None:
        return "wait" if changed else "trust"
    return "trust" if found == expected else "disown"
