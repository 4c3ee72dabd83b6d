"""Penalties: what earns one, how they add up, which sources they keep out, and what ends them."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.core.strangers.penalties import (
    HASTE_LEAST,
    HASTE_MOST,
    Conduct,
    Offence,
    Penalties,
    Rules,
    offence_of,
)

RULES = Rules(enabled=True, least=15.0, most=600.0, exempt=("10.0.0.0/8",))
PEER = "192.0.2.1"


def failures(number: int, *, now: float = 0.0, rules: Rules = RULES, peer: str = PEER) -> Penalties:
    """Penalties after so many failed logins at once."""
    penalties = Penalties(rules)
    for _ in range(number):
        penalties.penalise(peer, Offence.FAILED, now)
    return penalties


def ends(penalties: Penalties, peer: str = PEER) -> int:
    """The number of whole seconds for which `peer` is kept out."""
    return next(second for second in range(100_000) if penalties.check(peer, second) is None)


@pytest.mark.parametrize(
    ("conduct", "offence"),
    [
        (Conduct(), Offence.SILENCE),
        (Conduct(grace_exceeded=True), Offence.SILENCE),
        (Conduct(spoke=True), Offence.NO_ATTEMPT),
        (Conduct(spoke=True, attempted=True), Offence.FAILED),
        (Conduct(spoke=True, grace_exceeded=True), Offence.GRACE),
        (Conduct(spoke=True, attempted=True, grace_exceeded=True), Offence.GRACE),
        (Conduct(spoke=True, attempted=True, crashed=True), Offence.CRASH),
    ],
)
def test_what_earns_a_penalty(conduct: Conduct, offence: Offence) -> None:
    """Offences are those of sshd, except that silence is always its own offence, however long it lasts."""
    assert offence_of(conduct) == offence


@pytest.mark.parametrize(
    ("offence", "seconds"),
    [(Offence.CRASH, 90), (Offence.FAILED, 5), (Offence.GRACE, 10), (Offence.NO_ATTEMPT, 1)],
)
def test_the_values_are_sshds(offence: Offence, seconds: float) -> None:
    """The seconds are those of sshd_config(5), PerSourcePenalties."""
    assert offence.seconds == seconds


def test_other_rules_begin_anew() -> None:
    """Changed rules end all penalties, as for a network that was just exempted; unchanged rules end none."""
    penalties = failures(10)
    penalties.reconfigure(RULES)
    assert penalties.check(PEER, 1.0) is not None
    penalties.reconfigure(Rules(enabled=True, least=15.0, most=600.0, exempt=("192.0.2.0/24",)))
    assert penalties.check(PEER, 1.0) is None
    penalties.penalise(PEER, Offence.CRASH, 1.0)
    assert len(penalties) == 0


def test_ten_silent_connections_a_second_are_free() -> None:
    """Ten silent connections a second, as of a health check, cost nothing; a hundred at once do."""
    haste = Penalties(Rules(enabled=True, least=HASTE_LEAST, most=HASTE_MOST, exempt=()))
    for number in range(1000):
        haste.penalise(PEER, Offence.SILENCE, number / 10)
        assert haste.check(PEER, number / 10) is None
    for _ in range(101):
        haste.penalise(PEER, Offence.SILENCE, 100)
    assert haste.check(PEER, 100) is not None
    assert haste.check(PEER, 120) is None


def test_an_agent_full_of_wrong_keys_keeps_nobody_out() -> None:
    """Three failed logins are 15 s, which does not exceed the minimum; with the fourth, 20 s count."""
    assert ends(failures(3)) == 0
    penalties = failures(4)
    assert penalties.check(PEER, 19.9) == "penalty: failed authentication"
    assert ends(penalties) == 20


def test_penalties_grow_up_to_a_bound() -> None:
    """75 failed logins at once keep their source out for 375 s, and a thousand for ten minutes."""
    assert ends(failures(75)) == 375
    assert ends(failures(1000)) == 600


def test_a_crash_counts_at_once() -> None:
    """A crash, with 90 s, exceeds the minimum by itself."""
    penalties = Penalties(RULES)
    penalties.penalise(PEER, Offence.CRASH, 0)
    assert ends(penalties) == 90


def test_penalties_are_forgotten() -> None:
    """One failed login every five seconds never adds up, and an ended penalty starts again from zero."""
    penalties = Penalties(RULES)
    for number in range(100):
        penalties.penalise(PEER, Offence.FAILED, 5 * number)
    assert penalties.check(PEER, 496) is None
    for _ in range(4):
        penalties.penalise(PEER, Offence.FAILED, 1000)
    penalties.penalise(PEER, Offence.FAILED, 1020)
    assert penalties.check(PEER, 1020) is None
    assert len(penalties) == 1


def test_once_it_counts_it_does_until_it_ends() -> None:
    """An active penalty lasts until its end, even below the minimum (srclimit.c: `active`)."""
    penalties = failures(4)
    assert penalties.check(PEER, 10) is not None


def test_a_login_ends_it() -> None:
    """A login ends the penalty of its source, for everybody behind that address."""
    penalties = failures(75)
    penalties.forgive(PEER)
    penalties.forgive("192.0.2.2")
    assert penalties.check(PEER, 0) is None
    assert len(penalties) == 0


def test_penalties_are_the_sources() -> None:
    """An IPv6 /64 is one source, and the next /64 is another."""
    penalties = failures(4, peer="2001:db8::1")
    assert penalties.check("2001:db8::2", 0) is not None
    assert penalties.check("2001:db8:0:1::1", 0) is None


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_exempt_networks_have_none(peer: str) -> None:
    """Exempt networks, such as those of a bridge or a load balancer, get no penalties."""
    assert len(failures(100, peer=peer)) == 0


def test_an_empty_list_exempts_nobody() -> None:
    """An empty list of networks exempts no source."""
    assert ends(failures(4, rules=Rules(enabled=True, least=15.0, most=600.0, exempt=()))) == 20


def test_they_can_be_turned_off() -> None:
    """`limits.penalties = false` turns penalties off."""
    assert len(failures(100, rules=Rules(enabled=False, least=15.0, most=600.0, exempt=()))) == 0


def test_too_many_sources_forget_the_penalty_that_ends_first() -> None:
    """When memory is full, the penalty that ends first is forgotten, as with sshd's `overflow:permissive`."""
    penalties = Penalties(RULES, max_sources=3)
    for number, offence in enumerate([Offence.CRASH, Offence.FAILED, Offence.CRASH, Offence.CRASH]):
        penalties.penalise(f"192.0.2.{number}", offence, 0)
    assert len(penalties) == 3
    assert [penalties.check(f"192.0.2.{number}", 1) is not None for number in range(4)] == [True, False, True, True]


PEERS = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "10.0.0.1", ""]


class PenaltiesMachine(RuleBasedStateMachine):
    """Any order of offences and waits, compared with a simple model of srclimit.c's arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.penalties = Penalties(RULES, max_sources=10)
        self.now = 0.0
        self.expiry: dict[str, float] = {}
        self.active: set[str] = set()

    @rule(peer=st.sampled_from(PEERS), offence=st.sampled_from(list(Offence)), times=st.integers(1, 30))
    def offend(self, peer: str, offence: Offence, times: int) -> None:
        """A source earns a penalty."""
        source = source_of(peer)
        for _ in range(times):
            self.penalties.penalise(peer, offence, self.now)
            if peer != "10.0.0.1":
                self.expiry[source] = min(self.expiry.get(source, self.now) + offence.seconds, self.now + RULES.most)
                if self.expiry[source] - self.now > RULES.least:
                    self.active.add(source)

    @rule(peer=st.sampled_from(PEERS))
    def log_in(self, peer: str) -> None:
        """A client of a source logs in."""
        self.penalties.forgive(peer)
        self.expiry.pop(source_of(peer), None)
        self.active.discard(source_of(peer))

    @rule(seconds=st.sampled_from([0.5, 7.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for source in [source for source, expiry in self.expiry.items() if expiry <= self.now]:
            del self.expiry[source]
            self.active.discard(source)

    @invariant()
    def agree(self) -> None:
        """Both keep out the same sources, and ended penalties are forgotten once they have been looked up."""
        for peer in PEERS:
            assert (self.penalties.check(peer, self.now) is not None) == (source_of(peer) in self.active)
        assert len(self.penalties) <= 10


TestPenalties = PenaltiesMachine.TestCase


def test_memory_is_bounded_whatever_happens() -> None:
    """Memory stays small for a source that offends for ever, and for one that offends after each login."""
    penalties = Penalties(RULES, max_sources=4)
    for number in range(1000):
        penalties.penalise(PEER, Offence.FAILED, number)
        penalties.penalise("192.0.2.2", Offence.CRASH, number)
        penalties.forgive("192.0.2.2")
    assert len(penalties) == 1
    assert len(penalties._ends) < 20  # noqa: SLF001 - what it takes up is seen nowhere else
    assert penalties.check(PEER, 1000) is not None
