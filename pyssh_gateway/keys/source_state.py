"""The state of one source: its keys, their age, the last failure, and when it is asked again.

Times are Unix seconds. This module asks nobody and writes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey
from pyssh_gateway.core.access.freshness import age_of
from pyssh_gateway.events import KeysLoaded
from pyssh_gateway.keys.copies import Copy
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.inquiry import Known
from pyssh_gateway.keys.sources import LOCAL_KINDS, Source

MAX_CHANGES = 20
"""Fingerprints of added or removed keys in one event."""


class SourceStatus(msgspec.Struct, frozen=True):
    """The state of one source. `age` is in seconds since it last confirmed the keys in force, None if it has none.

    `failure` says why the last request had no usable answer; empty if it had. `pinned` is the account's number in the
    configuration, `remembered` the one that was seen first. `stale`: too old to let anybody in. `next_look` is in
    seconds from now. `ahead`: the time of that answer is so many seconds in the future, more than clocks may differ;
    then it is stale, whatever `age` says.
    """

    spec: str
    users: tuple[str, ...]
    accepted: int
    refused: int
    origin: Literal["none", "fetched", "last-good"]
    age: float | None
    failure: str
    pinned: int | None = None
    remembered: int | None = None
    stale: bool = False
    next_look: float | None = None
    ahead: float = 0.0


class Standing:
    """One source's state.

    `asked_at` is when it was asked last (at first: when this was made), `due` when it is to be asked next, `learn_due`
    when its account's number is to be asked for, `gone_since` when it first answered after `known` that it does not
    exist any more. `unconfirmed`: a single answer of a server removed all keys of somebody, and no later one has
    confirmed that; `second_look` is when it is asked for that, beside the planned requests. `in_passing`: it is asked
    because somebody wants to log in, which does not change the plan.
    """

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.known: Known | None = None
        self.failure = ""
        self.asked = False
        self.in_passing = False
        self.fruitless = 0
        self.asked_at = now
        self.due = now
        self.learn_due = now
        self.gone_since: float | None = None
        self.second_look: float | None = None
        self.unconfirmed = False
        self.remembered: int | None = None
        self.pins_lost = ""
        self.saved: Copy | None = None

    @property
    def trusted(self) -> int | None:
        """The number of the trusted account, if known."""
        return self.remembered if self.source.pinned_id is None else self.source.pinned_id

    @property
    def blobs(self) -> frozenset[bytes]:
        """The keys in force."""
        return self.known.blobs if self.known is not None else frozenset()

    @property
    def wants_account(self) -> bool:
        """Whether the number of its account is still to be found out."""
        return (
            self.source.kind == "github"
            and self.known is not None
            and self.known.origin == "fetched"
            and self.trusted is None
            and not self.pins_lost
        )

    def is_due(self, now: float) -> bool:
        """Whether to ask now: it is time, or the clock was set back since, so that the planned time means nothing."""
        return self.next_due <= now or now < self.asked_at

    @property
    def next_due(self) -> float:
        """When it is to be asked next, for whatever reason."""
        return self.due if self.second_look is None else min(self.due, self.second_look)

    def due_after(self, now: float, interval: float) -> float:
        """When a source that is asked now is due again: after `interval`, or as planned if this is a second look."""
        return self.due if self.second_look is not None and self.second_look <= now < self.due else now + interval

    def begin(self, now: float, due: float) -> None:
        """Note that it is asked now, and is due again at `due`."""
        if now < self.asked_at:  # times from before the clock was set back would take for ever
            self.gone_since = None
            self.learn_due = now
        self.asked_at = now
        self.due = due
        self.second_look = None

    def heard(self, known: Known, doubt: str) -> None:
        """Note a usable answer; `doubt` is a problem in spite of it, or empty."""
        before = self.known.keys if self.known is not None else ()
        gone = {key.person for key in before} - {key.person for key in known.keys}
        if gone and self.source.kind not in LOCAL_KINDS and not known.revoked:
            self.unconfirmed = True
        elif not doubt:
            self.unconfirmed = False
        self.known = known
        self.failed(doubt)
        self.fruitless = 0
        self.gone_since = None

    def resume(self, now: float) -> None:
        """Continue from the copy of the last run: if the source was gone then, the next look may be the second one."""
        since = self.saved.gone_since if self.saved is not None else None
        # Later than now: the clock was set back, and would have to reach that time again first.
        self.gone_since = since if since is not None and since <= now else None

    def failed(self, reason: str) -> None:
        """Note the failure `reason`, or none; the reason why the source lets nobody in any more is added to it."""
        revoked = self.known.revoked if self.known is not None else ""
        repeated = not reason or revoked.startswith(reason)  # "no such account (404)", and once more
        self.failure = revoked if repeated else f"{revoked}; {reason}" if revoked else reason

    def age(self, now: float) -> float:
        """Seconds since the last answer; infinity if there was none, or if its time is in the future."""
        return age_of(self.known.fetched, now) if self.known is not None else float("inf")

    def unasked(self, now: float) -> float:
        """Seconds since the last answer, or since the last request if that is later: it may have had no answer."""
        # A request in the future: the clock was set back since.
        asked = now - self.asked_at if self.asked and now >= self.asked_at else float("inf")
        return min(self.age(now), asked)

    def check_pins(self) -> None:
        """Raise FetchError if the trusted account's number can't be read any more, so that the source is not asked."""
        if self.pins_lost and self.source.kind == "github" and self.trusted is None:
            raise FetchError(f"not asked, as nobody knows which account was trusted: {self.pins_lost}")

    def copy_to_save(self, again: float) -> Copy | None:
        """The copy to write, if the disk has none with this answer or one that is more than `again` seconds older."""
        if self.known is None:
            return None
        copy, saved = msgspec.structs.replace(self.known.copy, gone_since=self.gone_since), self.saved
        same = saved is not None and msgspec.structs.replace(saved, fetched=copy.fetched) == copy
        # A copy that is newer than the answer has its time from a wrong clock, and would be stale at the next start.
        if same and saved is not None and 0.0 <= copy.fetched - saved.fetched < again:
            return None
        return copy

    def start_anew(self) -> None:
        """Forget whose account it was, also on the disk."""
        if self.known is not None:
            self.known = msgspec.structs.replace(self.known, account_id=None, confirmed=0.0, revoked="")
        self.remembered = None
        self.learn_due = 0.0
        self.failure = ""
        self.pins_lost = ""

    def status(self, users: tuple[str, ...], now: float, max_stale: float) -> SourceStatus:
        """The state for people."""
        known = self.known
        age = self.age(now)
        is_ahead = known is not None and age == float("inf")
        return SourceStatus(
            spec=self.source.spec,
            users=users,
            accepted=len(known.keys) if known is not None else 0,
            refused=known.refused if known is not None else 0,
            origin=known.origin if known is not None else "none",
            age=(0.0 if is_ahead else age) if known is not None else None,
            failure=self.failure,
            pinned=self.source.pinned_id,
            remembered=self.remembered,
            stale=known is not None and age > max_stale,
            next_look=max(0.0, self.next_due - now),
            ahead=known.fetched - now if known is not None and is_ahead else 0.0,
        )


def loaded(source: Source, before: tuple[AuthorizedKey, ...], known: Known) -> KeysLoaded:
    """The event for an answer that has replaced the keys `before`."""
    added = dict.fromkeys(key.fingerprint for key in known.keys if key not in before)
    removed = dict.fromkeys(key.fingerprint for key in before if key not in known.keys)
    return KeysLoaded(
        source=source.spec,
        origin=known.origin,
        accepted=len(known.keys),
        refused=known.refused,
        changed=bool(added or removed),
        refusals=known.refusals,
        added=tuple(added)[:MAX_CHANGES],
        removed=tuple(removed)[:MAX_CHANGES],
    )


class Grants:
    """Which sources give access to which accounts, according to the configuration."""

    def __init__(self, logins: Sequence[config.Login], parse: Callable[[str], Source]) -> None:
        self._logins = tuple((login, tuple(parse(spec) for spec in login.keys)) for login in logins)
        self.sources = tuple(dict.fromkeys(source for _, sources in self._logins for source in sources))

    def users_of(self, source: Source) -> tuple[str, ...]:
        """The accounts that `source` gives access to."""
        return tuple(dict.fromkeys(login.user for login, sources in self._logins if source in sources))

    def accounts(self, standings: Callable[[Source], Standing]) -> dict[str, AccountKeys]:
        """The keys of each account, from the current state of the sources."""
        accounts: dict[str, AccountKeys] = {}
        for login, sources in self._logins:
            lines: dict[bytes, tuple[AuthorizedKey, ...]] = {}
            authorities: dict[bytes, tuple[AuthorizedKey, ...]] = {}
            failures = []
            for standing in map(standings, sources):
                if standing.failure:
                    failures.append(f"{standing.source.spec}: {standing.failure}")
                for key in standing.known.keys if standing.known is not None else ():
                    found = authorities if key.options.cert_authority else lines
                    found[key.blob] = (*found.get(key.blob, ()), key)
            accounts[login.user] = AccountKeys(
                keys=lines,
                authorities=authorities,
                only_fingerprints=frozenset(login.only_fingerprints),
                key_types=frozenset(login.key_types),
                failures=tuple(failures),
            )
        return accounts
