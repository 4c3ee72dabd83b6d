"""Sources with a recent login."""

import pytest

from pyssh_gateway.core.strangers.familiar import LATELY_SECONDS, MAX_SOURCES, MAX_STATE_BYTES, STORE_SECONDS, Familiar

NOW = 1_700_000_000.0
PEER = "192.0.2.1"


def test_a_login_counts_for_a_week() -> None:
    """A source counts as known for a week after a login."""
    familiar = Familiar()
    assert not familiar.knows(PEER, NOW)
    familiar.logged_in(PEER, NOW)
    assert familiar.knows(PEER, NOW)
    assert familiar.knows("::ffff:192.0.2.1", NOW + LATELY_SECONDS - 1)
    assert not familiar.knows(PEER, NOW + LATELY_SECONDS)
    assert not familiar.knows("192.0.2.2", NOW)


def test_the_future_is_no_login() -> None:
    """A login in the future does not count, so that a wrong clock or a changed file makes nobody known for ever."""
    familiar = Familiar(b'{"192.0.2.1":1800000000.0}')
    assert not familiar.knows(PEER, NOW)
    assert familiar.logged_in(PEER, NOW)
    assert familiar.knows(PEER, NOW)


def test_it_is_not_written_down_for_every_login() -> None:
    """Many logins within a short time are one write."""
    familiar = Familiar()
    assert familiar.logged_in(PEER, NOW)
    assert not familiar.logged_in(PEER, NOW + STORE_SECONDS - 1)
    assert familiar.logged_in("192.0.2.2", NOW)
    assert familiar.logged_in(PEER, NOW + 2 * STORE_SECONDS)


def test_a_restart_forgets_nobody() -> None:
    """The next process knows the stored logins."""
    familiar = Familiar()
    familiar.logged_in(PEER, NOW)
    assert Familiar(familiar.encode()).knows(PEER, NOW + 1)


@pytest.mark.parametrize("state", [b"", b"[]", b"{", b'{"a":"b"}', b"\xff", b'{"192.0.2.1":null}'])
def test_what_is_not_its_state_is_nothing(state: bytes) -> None:
    """A damaged file counts as empty and does not stop the server."""
    familiar = Familiar(state)
    assert not familiar.knows(PEER, NOW)
    assert familiar.logged_in(PEER, NOW)


def test_memory_is_bounded() -> None:
    """The oldest login is forgotten first, also after a restart, and the state fits into the size that is read."""
    familiar = Familiar()
    for number in range(MAX_SOURCES + 10):
        familiar.logged_in(f"2001:db8:1111:{number:x}::1", NOW + number / 7)
    state = familiar.encode()
    assert len(state) < MAX_STATE_BYTES
    assert not familiar.knows("2001:db8:1111:9::1", NOW + 1000)
    assert familiar.knows("2001:db8:1111:a::1", NOW + 1000)
    again = Familiar(state)
    again.logged_in(PEER, NOW + 1000)
    assert not again.knows("2001:db8:1111:a::1", NOW + 1000)
    assert again.knows("2001:db8:1111:b::1", NOW + 1000)
