"""How one source stands: what is known of it, how old that is, what went wrong, and when it is asked again.

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
"""Fingerprints of keys that came or went in one event."""


class SourceStatus(msgspec.Struct, frozen=True):
    """One source as it stands. `age` is in seconds since it last said what is in force, None if there is nothing.

    `failure` says why the last question had no usable answer and is empty if it had; `pinned` is the account's number
    in the configuration, `remembered` the one that was seen first; `stale`: too old to let anybody in; `next_look` is
    in seconds from now. `ahead` is by how many seconds the time of that answer lies in the future, if that is more than
    clocks may differ by: then it is stale, whatever `age` says.
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

    `asked_at` is when it was asked last (at first: made), `due` when it is to be asked next, `learn_due` when its
    account's number is to be asked for, `gone_since` when it first said after `known` that it is not there any more.
    `unconfirmed`: a single answer of a server took away all keys of somebody, and none that came after it has confirmed
    that; `second_look` is when it is asked for that, beside what is planned. `in_passing`: it is asked because somebody
    wants to log in, which changes nothing of what is planned.
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
        """The number of the account that is meant, if that is known."""
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
        """Whether to ask now: it is time, or the clock has been set back since, so that nobody knows when it is."""
        return self.next_due <= now or now < self.asked_at

    @property
    def next_due(self) -> float:
        """When it is to be asked next, for whatever reason."""
        return self.due if self.second_look is None else min(self.due, self.second_look)

    def due_after(self, now: float, interval: float) -> float:
        """When it is due again that is asked now: `interval` later, or as planned if this is only the second look."""
        return self.due if self.second_look is not None and self.second_look <= now < self.due else now + interval

    def begin(self, now: float, due: float) -> None:
        """It is asked now, and should be again at `due`."""
        if now < self.asked_at:  # what is timed from before the clock was set back would take for ever
            self.gone_since = None
            self.learn_due = now
        self.asked_at = now
        self.due = due
        self.second_look = None

    def heard(self, known: Known, doubt: str) -> None:
        """There was a usable answer, about which `doubt` says what is wrong, if anything is."""
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
        """Go on where the run ended whose copy is in force: the next look at what was not there may be the second."""
        since = self.saved.gone_since if self.saved is not None else None
        # Later than now: the clock has been set back, and would have to come back to that time first.
        self.gone_since = since if since is not None and since <= now else None

    def failed(self, reason: str) -> None:
        """What is wrong with it, if anything; why nobody gets in by it any more is told beside that."""
        revoked = self.known.revoked if self.known is not None else ""
        repeated = not reason or revoked.startswith(reason)  # "no such account (404)", and once more
        self.failure = revoked if repeated else f"{revoked}; {reason}" if revoked else reason

    def age(self, now: float) -> float:
        """Seconds since the last answer; infinity if there was none, or if its time is still to come."""
        return age_of(self.known.fetched, now) if self.known is not None else float("inf")

    def unasked(self, now: float) -> float:
        """Seconds since the last answer, or since the last question if that is later: it may have had none."""
        # A question of later than now: the clock has been set back since.
        asked = now - self.asked_at if self.asked and now >= self.asked_at else float("inf")
        return min(self.age(now), asked)

    def check_pins(self) -> None:
        """Refuse to ask, if it is not known any more which account was trusted. Raises FetchError."""
        if self.pins_lost and self.source.kind == "github" and self.trusted is None:
            raise FetchError(f"not asked, as nobody knows which account was trusted: {self.pins_lost}")

    def copy_to_save(self, again: float) -> Copy | None:
        """What is to be written to the disk: what it does not have, or has from more than `again` seconds before."""
        if self.known is None:
            return None
        copy, saved = msgspec.structs.replace(self.known.copy, gone_since=self.gone_since), self.saved
        same = saved is not None and msgspec.structs.replace(saved, fetched=copy.fetched) == copy
        # A copy of later than the answer is one that a wrong clock dated, and stale at the next start.
        if same and saved is not None and 0.0 <= copy.fetched - saved.fetched < again:
            return None
        return copy

    def start_anew(self) -> None:
        """Forget whose account it was, in what is kept on disk, too."""
        if self.known is not None:
            self.known = msgspec.structs.replace(self.known, account_id=None, confirmed=0.0, revoked="")
        self.remembered = None
        self.learn_due = 0.0
        self.failure = ""
        self.pins_lost = ""

    def status(self, users: tuple[str, ...], now: float, max_stale: float) -> SourceStatus:
        """For people."""
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
    """What is to be told of an answer that is in force now, where the keys `before` were."""
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
    """Which sources let in to which accounts, as the configuration says."""

    def __init__(self, logins: Sequence[config.Login], parse: Callable[[str], Source]) -> None:
        self._logins = tuple((login, tuple(parse(spec) for spec in login.keys)) for login in logins)
        self.sources = tuple(dict.fromkeys(source for _, sources in self._logins for source in sources))

    def users_of(self, source: Source) -> tuple[str, ...]:
        """The accounts that `source` lets in to."""
        return tuple(dict.fromkeys(login.user for login, sources in self._logins if source in sources))

    def accounts(self, standings: Callable[[Source], Standing]) -> dict[str, AccountKeys]:
        """Who may log in with what, by what is known of the sources now."""
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
