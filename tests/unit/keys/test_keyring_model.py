"""keys.keyring: any order of answers, failures, account changes, restarts and time, compared with a simple model."""

import math
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyssh_gateway.core.access.freshness import CLOCK_SKEW, age_of
from pyssh_gateway.keys.copies import Copies
from pyssh_gateway.keys.inquiry import SECOND_LOOK
from pyssh_gateway.keys.persistence import SAVE_AGAIN
from pyssh_gateway.keys.refresher import ACCOUNT_CHECK
from pyssh_gateway.keys.sources import parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path
from tests.support.keyring import ALICE, BOB, CAROL, DAY, HOUR, MINUTE, SPEC, Ring, play

KEYS = st.sampled_from([{ALICE}, {ALICE, BOB}, {BOB, CAROL}, {ALICE, BOB, CAROL}, set[str]()]).map(frozenset)
MAX_STALE = 7 * DAY
ERRORS = {
    "500": gh.status(500),
    "HTML": gh.html(),
    "cut off": gh.truncated(CAROL),
}


OTHER = 8
"""The number of the account that has the login while its owner has not; also that of the other account, `other`."""


class Machine(RuleBasedStateMachine):
    """An account at a GitHub that fails and whose login changes hands, and a keyring that decides which keys count.

    `listed` are the keys that GitHub shows now, `said` those of the trusted account's last answer, and `in_force` those
    that should still count.
    """

    @initialize(listed=KEYS)
    def start(self, listed: frozenset[str]) -> None:
        """Begin with a first answer, and the number of the account that gave it."""
        self.store = Path(tempfile.mkdtemp())
        self.github = FakeGitHub()
        self.github.__enter__()
        self.page, self.api_works = "keys", True
        self.owner = self.trusted = 7
        self.other = OTHER
        self.listed = self.said = self.in_force = listed
        self.show()
        self.ring = Ring(self.store, self.github.url)
        self.ring.run(0)
        self.heard_at = self.confirmed_at = self.ring.now
        self.asked_at = self.ring.now
        self.gone_at: float | None = None
        self.taken_over = False
        assert self.ring.status().remembered == self.trusted

    def teardown(self) -> None:
        """Close the server and remove the directory."""
        if hasattr(self, "github"):
            self.github.__exit__(None, None, None)
            shutil.rmtree(self.store)

    def show(self) -> None:
        """Make GitHub answer according to the present state."""
        keys = gh.keys(*sorted(self.listed))
        answers = {"keys": keys, "404": gh.status(404), "redirect": gh.redirect("/other.keys"), **ERRORS}
        self.github.script("example", answers[self.page])
        self.github.script("other", keys)
        self.github.account("example", self.owner)
        self.github.account("other", self.other)
        for login in ("example", "other"):
            self.github.script(api_path(f"users/{login}"), *([] if self.api_works else [gh.status(500)]))

    @rule(
        seconds=st.sampled_from([1.0, 1.0, SECOND_LOOK, SECOND_LOOK, HOUR, DAY, MAX_STALE + 1]),
        listed=KEYS,
        page=st.sampled_from(["keys", "keys", "keys", "404", "404", "redirect", "redirect", *ERRORS]),
        api_works=st.sampled_from([True, True, False]),
        owners=st.tuples(st.sampled_from([7, 7, 7, OTHER]), st.sampled_from([7, OTHER])),
    )
    def look(self, seconds: float, listed: frozenset[str], page: str, api_works: bool, owners: tuple[int, int]) -> None:
        """Time passes, GitHub's state changes in any way, and then the source is asked."""
        self.ring.now += seconds
        self.only_as_long_as_it_is_fresh()
        if self.ring.now < self.asked_at:
            self.gone_at = None  # nobody knows how long ago the first look was
        self.asked_at = self.ring.now
        self.listed, self.page, self.api_works, (self.owner, self.other) = listed, page, api_works, owners
        self.show()
        self.ring.keyring.want((parse_source(SPEC),))
        self.ring.run(0)
        if self.page == "keys":
            self.hear(self.ring.now)
        elif self.page == "redirect" and self.api_works and self.other == self.trusted:
            self.hear_by_another_name(self.ring.now)
        elif self.page == "404" and self.in_force:
            self.hear_that_it_is_gone(self.ring.now)

    def hear(self, now: float) -> None:
        """A list of keys was read; it counts by the account that it belongs to, as far as that was checked."""
        right = self.owner == self.trusted
        checked = bool(self.listed - self.in_force) or age_of(self.confirmed_at, now) >= ACCOUNT_CHECK
        if right:
            self.said = self.listed
        if checked and self.api_works:
            self.in_force = self.listed if right else frozenset()
            self.confirmed_at = now if right else float("-inf")
            self.taken_over = not right
        else:
            self.in_force &= self.listed
        self.gone_at, self.heard_at = None, now

    def hear_by_another_name(self, now: float) -> None:
        """The account was found under another name, by its number: all keys that it lists count."""
        self.said = self.in_force = self.listed
        self.confirmed_at = self.heard_at = now
        self.gone_at, self.taken_over = None, False

    def hear_that_it_is_gone(self, now: float) -> None:
        """A missing account is believed at the second look, if that is late enough."""
        if self.gone_at is None:
            self.gone_at = now
        elif now - self.gone_at >= SECOND_LOOK:
            self.gone_at, self.in_force, self.confirmed_at = None, frozenset(), float("-inf")

    @rule()
    def restart(self) -> None:
        """Restart with the state on the disk, where a number stands only beside keys that it was confirmed for."""
        self.ring = self.ring.restarted(self.store, self.github.url)
        copy = Copies(self.store).load(SPEC)
        confirmed = copy is not None and copy.account_id is not None and not copy.revoked
        self.confirmed_at = copy.fetched if copy is not None and confirmed else float("-inf")
        self.asked_at = self.ring.now
        if self.gone_at is not None and self.gone_at > self.ring.now:
            self.gone_at = None

    @rule(seconds=st.sampled_from([MINUTE, HOUR, DAY, 30 * DAY]))
    def set_the_clock_back(self, seconds: float) -> None:
        """The clock is set back, whether that is right or wrong."""
        self.ring.now -= seconds

    @rule(ahead=st.sampled_from([HOUR, DAY, 10_000 * DAY]))
    def restart_with_a_copy_of_the_future(self, ahead: float) -> None:
        """Restart with a copy dated in the future, by a wrong clock or by somebody who wants it to count for ever."""
        copies = Copies(self.store)
        copy = copies.load(SPEC)
        assert copy is not None
        self.heard_at = math.floor(self.ring.now) + SAVE_AGAIN + ahead
        copies.save(SPEC, msgspec.structs.replace(copy, fetched=self.heard_at))
        self.restart()

    @precondition(lambda self: self.page == "keys" and self.api_works)
    @rule()
    def accept(self) -> None:
        """A person accepts the account that has the login now."""
        assert play(self.ring.keyring.accept(SPEC)) is None
        self.ring.run(0)
        self.trusted, self.said, self.in_force, self.gone_at = self.owner, self.listed, self.listed, None
        self.heard_at = self.confirmed_at = self.ring.now
        self.taken_over = False
        assert self.ring.status().remembered == self.owner

    @invariant()
    def only_who_was_named_gets_in(self) -> None:
        """Only keys that the right account listed when it was asked last let in."""
        if hasattr(self, "ring"):
            assert self.ring.lets_in() <= self.said

    @invariant()
    def what_a_person_has_to_put_right_is_told(self) -> None:
        """A login that was seen to belong to another account is reported until it is seen to be its owner's."""
        if hasattr(self, "ring") and self.taken_over:
            assert "it was renamed or taken over" in self.ring.status().failure

    @invariant()
    def only_as_long_as_it_is_fresh(self) -> None:
        """After any failures the right keys count until their answer is stale, and then none do.

        An answer from the future is as stale as a very old one. The time on the disk may be up to SAVE_AGAIN older than
        the answer's.
        """
        if not hasattr(self, "ring"):
            return
        age = self.ring.now - self.heard_at
        if -CLOCK_SKEW <= age <= MAX_STALE - SAVE_AGAIN:
            assert self.ring.lets_in() == self.in_force
        elif age > MAX_STALE or age < -CLOCK_SKEW - SAVE_AGAIN:
            assert self.ring.lets_in() == set()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
