"""What a peer may ask before we know who it is: sources, places, attempts."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pyssh_gateway.core.limits import Admission, AttemptBudget, plain, source_of


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::2%3", "fe80::/64"),
        ("::ffff:192.0.2.7%eth0", "192.0.2.7"),
        ("", ""),
        ("not an address", "not an address"),
        ("192.0.2.300", "192.0.2.300"),
        ("192.0.2.7:22", "192.0.2.7:22"),
        ("/run/some.sock", "/run/some.sock"),
    ],
)
def test_peers_are_counted_by_what_one_subscriber_holds(peer: str, source: str) -> None:
    """An IPv4 address, however it is written, or an IPv6 /64; what is neither stands for itself."""
    assert source_of(peer) == source


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_64_is_one_source(address: IPv6Address, host: int) -> None:
    """No choice of the lower half of an IPv6 address makes another source of it."""
    network = int(address) >> 64 << 64
    if network:  # ::/64 holds the mapped IPv4 addresses
        assert source_of(str(IPv6Address(network | host))) == source_of(str(address))


@given(st.text())
def test_nothing_breaks_it(peer: str) -> None:
    """Any text has a source."""
    assert isinstance(source_of(peer), str)


def test_a_full_server_says_so() -> None:
    """The log tells how many connections there were when there was no room."""
    admission = Admission(total=2, per_source=1)
    assert [admission.arrive() for _ in range(2)] == [None, None]
    assert admission.arrive() == "2 unauthenticated connections already"
    assert admission.total == 2


def test_a_full_source_waits_its_turn() -> None:
    """What is over a source's bound is not served before one of its others has gone, and keeps nobody else out."""
    admission = Admission(total=4, per_source=1)
    assert [admission.arrive() for _ in range(3)] == [None] * 3
    assert admission.serve("192.0.2.1")
    assert not admission.serve("192.0.2.1")
    assert admission.serve("192.0.2.2")
    admission.release("192.0.2.1")
    assert admission.serve("192.0.2.1")


PEERS = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "", "x"]


class AdmissionMachine(RuleBasedStateMachine):
    """Any order of comings and goings: never more than the bounds, never a place lost, never one refused in vain."""

    waiting = Bundle("waiting")
    served = Bundle("served")
    total, per_source = 6, 3

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(self.total, self.per_source)
        self.queue = 0
        self.held: list[str] = []

    @rule(target=waiting, peer=st.sampled_from(PEERS))
    def come(self, peer: str) -> object:
        """A connection."""
        fits = len(self.held) + self.queue < self.total
        assert (self.admission.arrive() is None) == fits
        if not fits:
            return multiple()
        self.queue += 1
        return peer

    @rule(target=served, peer=consumes(waiting))
    def turn(self, peer: str) -> object:
        """It has its turn if its source has room, and leaves if not."""
        mine = [other for other in self.held if source_of(other) == source_of(peer)]
        fits = len(mine) < self.per_source
        assert self.admission.serve(peer) == fits
        self.queue -= 1
        if not fits:
            self.admission.give_up()
            return multiple()
        self.held.append(peer)
        return peer

    @rule(peer=consumes(served))
    def go(self, peer: str) -> None:
        """It has authenticated or gone."""
        self.admission.release(peer)
        self.held.remove(peer)

    @invariant()
    def counts(self) -> None:
        """As many places are taken as there are connections."""
        assert self.admission.total == len(self.held) + self.queue

    def teardown(self) -> None:
        """When all have gone, nothing is remembered."""
        for peer in self.held:
            self.admission.release(peer)
        for _ in range(self.queue):
            self.admission.give_up()
        assert self.admission.total == 0
        assert all(self.admission.serve("192.0.2.9") for _ in range(self.per_source))


TestAdmission = AdmissionMachine.TestCase


def test_the_last_failure_ends_it() -> None:
    """sshd: with MaxAuthTries 6 the sixth failure disconnects."""
    budget = AttemptBudget(6)
    assert [budget.failure("publickey") for _ in range(6)] == [True] * 5 + [False]


def test_a_first_none_is_free() -> None:
    """sshd (auth2.c): `none` as the first attempt is how clients ask for the methods."""
    budget = AttemptBudget(2)
    assert budget.failure("none")
    assert budget.failure("none")
    assert not budget.failure("none")


def test_a_later_none_is_not() -> None:
    """Only the first one: after a failed key it counts as any other."""
    budget = AttemptBudget(2)
    assert budget.failure("publickey")
    assert not budget.failure("none")


@given(st.integers(1, 20))
def test_an_honest_login_fits(attempts: int) -> None:
    """`none`, then for every attempt an offer and its proof, of which only the last succeeds."""
    budget = AttemptBudget(attempts)
    assert budget.request()
    assert budget.failure("none")
    for _ in range(attempts - 1):
        assert budget.request()
        assert budget.request()
        assert budget.failure("publickey")
    assert budget.request()
    assert budget.request()


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=100))
def test_requests_are_bounded_whatever_their_answers(attempts: int, failures: list[bool]) -> None:
    """No mixture of good offers and failures gives more requests than the budget."""
    budget = AttemptBudget(attempts)
    made = 0
    for fails in failures:
        if not budget.request():
            break
        made += 1
        if fails and not budget.failure("publickey"):
            break
    assert made <= 2 * attempts + 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("::ffff:1", "::ffff:1")],
)
def test_addresses_are_those_that_people_know(address: str, shown: str) -> None:
    """Protects logs and SSH_CONNECTION of a server that listens on IPv6 for everybody."""
    assert plain(address) == shown


def test_other_limits_count_for_who_comes_next() -> None:
    """Protects a change while connections are open: they stay, and the next one is judged by the new limits."""
    admission = Admission(total=2, per_source=1)
    assert admission.arrive() is None
    assert admission.serve("192.0.2.1")
    admission.resize(1, 2)
    assert admission.arrive() == "1 unauthenticated connections already"
    admission.resize(3, 2)
    assert admission.arrive() is None
    assert admission.serve("192.0.2.1")
