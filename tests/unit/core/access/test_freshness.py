"""core.access.freshness: when an unknown key is a reason to ask its sources again, and whose account a name is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.freshness import (
    CLOCK_SKEW,
    LOOK_SECONDS,
    LOOKS,
    LOOKS_PER_PEER,
    MAX_BYSTANDERS,
    MAX_PEERS,
    PEER_SECONDS,
    LookBudget,
    Patience,
    Verdict,
    age_of,
    judge_account,
)

PEER = "192.0.2.1"


def looks(budget: LookBudget, peers: list[str], now: float = 0.0) -> int:
    """The number of attempts of `peers`, each with another key, that may cause a look."""
    return sum(budget.take(peer, f"SHA256:{number}", now) for number, peer in enumerate(peers))


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_the_future_is_older_than_anything(then: float, now: float) -> None:
    """A time in the future counts as infinitely old, unless it is within the difference that clocks may have."""
    age = age_of(then, now)
    if then <= now:
        assert age == now - then
    else:
        assert age == (0.0 if then - now <= CLOCK_SKEW else float("inf"))


def test_one_peer_s_looks_run_out() -> None:
    """A client that tries key after key causes only a few looks."""
    assert looks(LookBudget(0.0), [PEER] * 1000) == LOOKS_PER_PEER


def test_many_peers_looks_run_out() -> None:
    """Many peers together, such as a botnet, cause only a few looks."""
    assert looks(LookBudget(0.0), [f"192.0.2.{number % 250}" for number in range(1000)]) == LOOKS


def test_a_peer_is_its_network() -> None:
    """All IPv6 addresses of one subscriber are one peer."""
    assert looks(LookBudget(0.0), [f"2001:db8::{number:x}" for number in range(100)]) == LOOKS_PER_PEER


def test_looks_come_back() -> None:
    """A key that is added after many failures works without waiting for the refresh."""
    budget = LookBudget(0.0)
    looks(budget, [PEER] * 100)
    assert not budget.take(PEER, "SHA256:new", PEER_SECONDS - 1)
    assert budget.take(PEER, "SHA256:new", PEER_SECONDS)
    assert not budget.take(PEER, "SHA256:new", PEER_SECONDS)


def test_others_are_not_starved_by_one() -> None:
    """A new peer gets a look after another peer has used up its own."""
    budget = LookBudget(0.0)
    looks(budget, [PEER] * 100)
    assert budget.take("198.51.100.7", "SHA256:new", 0.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """When the clock jumps, no look is won, and none is lost for ever."""
    budget = LookBudget(1000.0)
    looks(budget, [PEER] * 100, 1000.0)
    assert not budget.take(PEER, "SHA256:new", 0.0)
    assert budget.take(PEER, "SHA256:new", PEER_SECONDS)


def test_bystanders_are_no_reason_to_look() -> None:
    """Other keys of a user's agent do not make each of their logins wait."""
    budget = LookBudget(0.0)
    budget.stood_by(PEER, ("SHA256:a", "SHA256:b"))
    assert not budget.take(PEER, "SHA256:a", 0.0)
    assert not budget.take(PEER, "SHA256:b", 1e9)
    assert budget.take(PEER, "SHA256:c", 1e9)


def test_a_bystander_that_was_meant_is_a_reason_to_look() -> None:
    """If a client leaves without a login, its keys may cause a look again, though an agent offered them before."""
    budget = LookBudget(0.0)
    budget.stood_by(PEER, ("SHA256:a", "SHA256:b"))
    budget.were_meant(PEER, ("SHA256:a", "SHA256:unheard-of"))
    assert budget.take(PEER, "SHA256:a", 0.0)
    assert not budget.take(PEER, "SHA256:b", 0.0)


def test_nobody_makes_a_bystander_of_anothers_key() -> None:
    """Offering another person's public key does not stop looks for that key from its owner's address."""
    budget = LookBudget(0.0)
    budget.stood_by("198.51.100.7", ("SHA256:a",))
    assert budget.take(PEER, "SHA256:a", 0.0)


def test_memory_is_bounded() -> None:
    """The memory for peers and keys is limited, and entries in use stay."""
    budget = LookBudget(0.0)
    budget.stood_by(PEER, tuple(f"SHA256:{number}" for number in range(MAX_BYSTANDERS)))
    assert not budget.take(PEER, "SHA256:0", 0.0)
    budget.stood_by(PEER, ("SHA256:one-more",))
    assert not budget.take(PEER, "SHA256:0", 0.0)
    assert budget.take(PEER, "SHA256:1", 0.0)
    looks(budget, [PEER] * 100)
    for number in range(MAX_PEERS):
        budget.take(f"10.0.{number // 256}.{number % 256}", "SHA256:x", 0.0)
    assert budget.take(PEER, "SHA256:y", LOOK_SECONDS)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 100))))
def test_never_more_than_the_rate(attempts: list[tuple[str, float]]) -> None:
    """For any order and times of attempts, the looks within a period are limited."""
    budget = LookBudget(0.0)
    now = taken = 0.0
    for number, (peer, pause) in enumerate(attempts):
        now += pause
        taken += budget.take(peer, f"SHA256:{number}", now)
    assert taken <= LOOKS + now / LOOK_SECONDS


@pytest.mark.parametrize(
    ("expected", "found", "changed", "verdict"),
    [
        (None, None, True, "trust"),
        (None, 7, True, "trust"),
        (7, 7, True, "trust"),
        (7, 7, False, "trust"),
        (7, None, False, "trust"),
        (7, None, True, "wait"),
        (7, 8, True, "disown"),
        (7, 8, False, "disown"),
    ],
)
def test_whose_account_it_is(expected: int | None, found: int | None, changed: bool, verdict: Verdict) -> None:
    """A name that somebody else has taken lets nobody in, and an outage locks nobody out."""
    assert judge_account(expected=expected, found=found, changed=changed) == verdict


def test_patience_runs_out() -> None:
    """A connection's waiting time is subtracted from the limit, also when the limit has changed."""
    patience = Patience()
    assert patience.left(2.0) == 2.0
    patience.waited = 1.5
    assert (patience.left(2.0), patience.left(5.0), patience.left(1.0)) == (0.5, 3.5, 0.0)
