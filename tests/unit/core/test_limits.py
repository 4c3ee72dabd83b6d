"""Limits for peers before their login: sources, early drop, attempts."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.limits import AttemptBudget, early_drop, plain, source_of, too_many


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
    """The source of a peer is its IPv4 address in any notation, or its IPv6 /64; other text is its own source."""
    assert source_of(peer) == source


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_64_is_one_source(address: IPv6Address, host: int) -> None:
    """All addresses of an IPv6 /64 are one source."""
    network = int(address) >> 64 << 64
    if network:  # ::/64 has the IPv4-mapped addresses
        assert source_of(str(IPv6Address(network | host))) == source_of(str(address))


@given(st.text())
def test_nothing_breaks_it(peer: str) -> None:
    """Any text has a source."""
    assert isinstance(source_of(peer), str)


@pytest.mark.parametrize(
    ("count", "percent"), [(0, 0), (9, 0), (10, 30), (11, 30), (12, 31), (55, 65), (99, 99), (100, 100), (101, 100)]
)
def test_early_drop_is_sshds(count: int, percent: int) -> None:
    """MaxStartups 10:30:100 asks for a place with the same probability as sshd's should_drop_connection (sshd.c)."""
    assert sum(early_drop(count, start=10, rate=30, full=100, roll=roll) for roll in range(100)) == percent


@pytest.mark.parametrize(("count", "drops"), [(9, False), (10, True), (11, True)])
def test_at_a_rate_of_100_or_without_a_ramp_there_are_no_dice(count: int, drops: bool) -> None:
    """With a rate of 100, or `start` equal to `full`, `start` is a fixed limit (sshd_config(5))."""
    assert early_drop(count, start=10, rate=100, full=100, roll=99) == drops
    assert early_drop(count, start=10, rate=1, full=10, roll=99) == drops


def test_the_last_failure_ends_it() -> None:
    """With a limit of 6, the sixth failure disconnects, as with sshd's MaxAuthTries 6."""
    budget = AttemptBudget(6)
    assert [budget.failure("publickey") for _ in range(6)] == [True] * 5 + [False]


def test_a_first_none_is_free() -> None:
    """`none` as the first attempt is free, since clients use it to ask for the methods (sshd's auth2.c)."""
    budget = AttemptBudget(2)
    assert budget.failure("none")
    assert budget.failure("none")
    assert not budget.failure("none")


def test_a_later_none_is_not() -> None:
    """A later `none` counts like any other attempt."""
    budget = AttemptBudget(2)
    assert budget.failure("publickey")
    assert not budget.failure("none")


@given(st.integers(1, 20))
def test_an_honest_login_fits(attempts: int) -> None:
    """A correct login fits the budget: `none`, then an offer and a proof for each attempt, the last one successful."""
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
    """No mixture of good offers and failures allows more requests than the budget."""
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
    """Protects logs and SSH_CONNECTION: IPv4 clients of an IPv6 socket appear with their IPv4 addresses."""
    assert plain(address) == shown


def test_what_is_said_after_too_many_attempts() -> None:
    """Protects people with many keys in their agent: they and the log read what to set; other methods' users do not."""
    words = too_many(6, "publickey")
    assert words.message.startswith("Too many authentication failures: this server allows 6. ")  # as sshd's begins
    for text in (words.message, words.reason):
        assert "IdentitiesOnly=yes and IdentityFile" in text
    assert "after 6 failed attempts" in words.reason
    for text in (too_many(3, "password").message, too_many(3, "password").reason):
        assert "3" in text
        assert "Identit" not in text
