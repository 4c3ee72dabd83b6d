"""How old an answer is, when an unknown key is worth a question to the sources, and what a changed account may do.

A key that was added at GitHub a moment ago has to work, and a thousand scanners must not make us ask a thousand times.
Pure: time comes in as seconds of any clock.
"""

from collections import OrderedDict
from typing import Literal

from pyssh_gateway.core.limits import source_of

LOOKS = 4
"""Looks in a row. A person who adds a key and tries again needs two; all the sources are asked at each."""

LOOK_SECONDS = 30.0
"""How long it takes until there may be one more."""

LOOKS_PER_PEER = 3
PEER_SECONDS = 60.0
"""The same for one client, so that one that tries for ever leaves some for the others."""

MAX_PEERS = 1024
"""Clients remembered; the one that was heard of longest ago goes first. Who makes us forget gains looks that `LOOKS`
bounds anyway."""

MAX_BYSTANDERS = 1024
"""Keys remembered that were only offered before the right one; an agent holds a handful."""


CLOCK_SKEW = 300.0
"""Seconds that a time which was written down may be ahead of the clock. A machine that has just started is put right by
NTP a moment later, mostly by less than that; Kerberos lets clocks differ by as much (krb5.conf(5), clockskew)."""


def age_of(then: float, now: float) -> float:
    """Seconds from `then`, a time that was written down, to `now`; infinity if that is still to come.

    What is from the future was written by a wrong clock, before the clock was set back, or by somebody who would like
    it to count for ever: nobody knows how old it is, so it is too old for everything.
    """
    return float("inf") if then - now > CLOCK_SKEW else max(0.0, now - then)


class Bucket:
    """So many at once, and one more after each `seconds`."""

    def __init__(self, size: int, seconds: float, now: float) -> None:
        self._size = float(size)
        self._seconds = seconds
        self._left = self._size
        self._counted_at = now

    def has(self, now: float) -> bool:
        """Whether there is one left."""
        self._left = min(self._size, self._left + max(0.0, now - self._counted_at) / self._seconds)
        self._counted_at = now
        return self._left >= 1.0

    def take(self) -> None:
        """Use one up."""
        self._left -= 1.0


class Patience:
    """How long a connection has waited for news of keys, for all that it has offered, and whether it had any asked for.

    An agent with five keys is one person, who waits once.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.has_looked = False

    def left(self, limit: float) -> float:
        """Seconds that it may wait for still, of `limit` in all."""
        return max(0.0, limit - self.waited)


class LookBudget:
    """Decides whether an unknown key is reason enough to ask the sources again, before it is refused.

    An agent offers all its keys, one after the other. Those that came before the one that got in are bystanders: they
    would make every login from there wait, so they are no reason to look when they come from there again. Somebody who
    leaves without having got in shows that one of them was meant after all (it may have been added to the account a
    moment ago): the next time it is a reason.
    """

    def __init__(self, now: float) -> None:
        self._all = Bucket(LOOKS, LOOK_SECONDS, now)
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._bystanders: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, peer: str, fingerprint: str, now: float) -> bool:
        """Whether to look now for the key that `peer` offers; if so, it is counted."""
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
        """Whether somebody from there offered the key in vain, and got in with another one."""
        known_as = (source_of(peer), fingerprint)
        if known_as not in self._bystanders:
            return False
        self._bystanders.move_to_end(known_as)
        return True

    def stood_by(self, peer: str, fingerprints: tuple[str, ...]) -> None:
        """These were offered in vain from there by somebody who got in with another key."""
        for fingerprint in fingerprints:
            known_as = (source_of(peer), fingerprint)
            self._bystanders[known_as] = None
            self._bystanders.move_to_end(known_as)
            if len(self._bystanders) > MAX_BYSTANDERS:
                self._bystanders.popitem(last=False)

    def were_meant(self, peer: str, fingerprints: tuple[str, ...]) -> None:
        """These were offered in vain from there by somebody who has left without getting in."""
        for fingerprint in fingerprints:
            self._bystanders.pop((source_of(peer), fingerprint), None)


Verdict = Literal["trust", "wait", "disown"]


def judge_account(*, expected: int | None, found: int | None, changed: bool) -> Verdict:
    """What to do with the keys that an account's name leads to now.

    `expected` is the number of the account that is trusted (None: any, nobody has been seen yet), `found` that of the
    account that has the name now (None: it could not be found out), `changed` whether there are keys that were not
    there before. A name can be given up and taken by somebody else, who then chooses the keys: so new keys wait until
    it is known whose they are, while what was trusted stays. `disown`: it is somebody else's.
    """
    if expected is None:
        return "trust"
    if found is None:
        return "wait" if changed else "trust"
    return "trust" if found == expected else "disown"
