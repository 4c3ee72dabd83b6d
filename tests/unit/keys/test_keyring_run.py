"""keys.keyring: how often sources are asked."""

from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.keys.http_answer import MAX_HOLD
from pyssh_gateway.keys.keyring import FIRST_REFRESH_DELAY
from pyssh_gateway.keys.refresher import FIRST_RETRY
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path
from tests.support.keyring import ALICE, BOB, CAROL, DAY, MINUTE, NOW, REFRESH, SPEC, Ring, play

ADMIN = "github:admin"
BOTH = (config.Login(user="dev", keys=(SPEC, ADMIN)),)
NO_FILE = (config.Login(user="dev", keys=("file:/none",)),)


def test_run_asks_at_once_when_nothing_is_known(github: FakeGitHub, tmp_path: Path) -> None:
    """At a first start the sources are asked at once, and then at each interval."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    assert ring.run(2) == [REFRESH] * 3
    assert github.requests["example"] == 3
    assert ring.lets_in() == {ALICE}


def test_run_lets_the_first_login_pass_when_last_good_keys_are_known(github: FakeGitHub, tmp_path: Path) -> None:
    """With last good keys, the first refresh is delayed, so that the login that woke the machine has the processor."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.run(0) == [FIRST_REFRESH_DELAY]
    assert github.requests["example"] == 1
    assert restarted.run(1) == [FIRST_REFRESH_DELAY, REFRESH]
    assert github.requests["example"] == 2


def test_run_does_not_ask_twice_at_the_start(github: FakeGitHub, tmp_path: Path) -> None:
    """A start that has just waited for all keys does not ask for them a second time."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert ring.run(0) == [REFRESH]
    assert github.requests["example"] == 1


@pytest.mark.parametrize(("random", "delay"), [(0.0, 540.0), (0.5, 600.0), (0.999999, 660.0)])
def test_run_spreads_the_refreshes(github: FakeGitHub, tmp_path: Path, random: float, delay: float) -> None:
    """Refreshes vary by a tenth to either side, so that machines started together do not ask together."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.random = random
    assert ring.run(1) == [pytest.approx(delay, abs=0.01)] * 2


def test_run_asks_again_soon_while_a_source_has_never_answered(github: FakeGitHub, tmp_path: Path) -> None:
    """A source that has never answered is asked again soon, and then less and less often."""
    ring = Ring(tmp_path, github.url)
    github.script("example", *[gh.status(500)] * 9, gh.keys(ALICE))
    assert ring.run(10) == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600]
    assert FIRST_RETRY == 5
    assert ring.lets_in() == {ALICE}


def test_run_asks_again_soon_after_a_start_that_waited_in_vain(github: FakeGitHub, tmp_path: Path) -> None:
    """A source that failed during the start is asked again soon, too."""
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert ring.run(1) == [5, 10]


def test_run_keeps_to_the_interval_when_an_answer_was_had_before(github: FakeGitHub, tmp_path: Path) -> None:
    """A source that has answered before is asked at the usual interval during an outage, and not more often."""
    github.script("example", gh.keys(ALICE), gh.status(500))
    assert Ring(tmp_path, github.url).run(3) == [REFRESH] * 4
    assert github.requests["example"] == 4


def test_run_goes_on_for_ever(tmp_path: Path) -> None:
    """Any number of failures neither ends the requests nor overflows the delay."""
    assert Ring(tmp_path, logins=NO_FILE).run(1200)[-1] == REFRESH


def test_each_source_has_its_own_time(github: FakeGitHub, tmp_path: Path) -> None:
    """One source's failures do not change how often the others are asked."""
    github.script("example", gh.keys(ALICE))
    github.script("admin", *[gh.status(500)] * 3, gh.keys(BOB))
    ring = Ring(tmp_path, github.url, BOTH)
    ring.run(2)
    assert asked(github) == (1, 3)
    assert ring.lets_in() == {ALICE}
    ring.pass_time(REFRESH)
    assert asked(github) == (2, 4)
    assert ring.lets_in() == {ALICE, BOB}


def test_run_sleeps_while_a_source_takes_its_time(github: FakeGitHub, tmp_path: Path) -> None:
    """Waiting for an answer uses no processor, even if the account's number is due to be asked for."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.run(3)  # The API knows no such account, so its number is asked for at each interval, like the keys.
    assert github.requests[api_path("users/example")] == 4


LIMITS = {
    "429": (gh.limited(429), MINUTE),
    "seconds": (gh.limited(429, Retry_After="1800"), 1800.0),
    "503": (gh.limited(503, Retry_After="1800"), 1800.0),
    "date": (gh.limited(503, Retry_After="Mon, 21 Sep 2026 14:53:20 GMT"), 1800.0),
    "reset": (gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(NOW + REFRESH) + 1800)), 1800.0),
    "too long": (gh.limited(429, Retry_After="999999999"), MAX_HOLD),
    "at once": (gh.limited(429, Retry_After="0"), 0.0),
    "in the past": (gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset="1"), 0.0),
}


@pytest.mark.parametrize(("answer", "hold"), LIMITS.values(), ids=LIMITS)
def test_a_server_that_has_had_enough_is_left_alone(
    github: FakeGitHub, tmp_path: Path, answer: gh.Answer, hold: float
) -> None:
    """A rate limit is kept to the second, for all sources of its server, and then each is asked once."""
    github.script("example", gh.keys(ALICE), answer, gh.keys(BOB))
    github.script("admin", gh.keys(CAROL))
    ring = Ring(tmp_path, github.url, BOTH)
    ring.run(0)
    ring.pass_time(REFRESH)
    assert asked(github) == (2, 2)
    ring.pass_time(max(hold, REFRESH) - 1)
    assert asked(github) == (2, 2)
    assert ring.lets_in() == {ALICE, CAROL}
    assert ring.status().next_look == 1
    ring.pass_time(1)
    assert asked(github) == (3, 3)
    assert ring.lets_in() == {BOB, CAROL}


def test_a_first_start_waits_for_a_rate_limit_too(github: FakeGitHub, tmp_path: Path) -> None:
    """A first start obeys a rate limit, too, and does not try again after five seconds."""
    github.script("example", gh.limited(429), gh.keys(ALICE))
    assert Ring(tmp_path, github.url).run(1) == [MINUTE, REFRESH]


def test_a_clock_that_is_put_right_stops_no_questions(github: FakeGitHub, tmp_path: Path) -> None:
    """After a wrong clock is corrected, neither refreshes nor rate limits wait for a time in the future."""
    github.script("example", gh.keys(ALICE), gh.limited(429, Retry_After="1800"), gh.keys(BOB))
    ring = Ring(tmp_path, github.url, now=NOW + 365 * DAY)
    ring.run(1)
    ring.now = NOW
    github.account("example", 7)
    assert ring.run(0) == [REFRESH]
    assert ring.lets_in() == {BOB}
    assert ring.status().remembered == 7
    ring.now += DAY
    ring.run(0)
    assert github.requests["example"] == 4


def test_what_is_wanted_is_asked_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """`keys refresh` asks all sources at once, without waiting for the next interval."""
    github.script("example", gh.keys(ALICE))
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, BOTH, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            assert ring.lets_in() == {ALICE, BOB}
            github.script("admin", gh.keys(CAROL))
            await ring.keyring.refresh_all()
            assert ring.lets_in() == {ALICE, CAROL}

    play(story())
    assert asked(github) == (2, 2)


def asked(github: FakeGitHub) -> tuple[int, int]:
    """How often each of the two sources was asked."""
    return github.requests["example"], github.requests["admin"]
