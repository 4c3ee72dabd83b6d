"""keys.keyring: the pace at which sources are asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway import config
from pyssh_gateway.keys.keyring import FIRST_REFRESH_DELAY, FIRST_RETRY
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import ALICE, Ring


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A GitHub whose answers the test writes."""
    with FakeGitHub() as server:
        yield server


def test_run_asks_at_once_when_nothing_is_known(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a first start does not wait for its keys, and then keeps to the interval."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    assert ring.run(3) == [0, 600, 600, 600]
    assert github.requests["example"] == 3
    assert ring.lets_in() == {ALICE}


def test_run_lets_the_first_login_pass_when_last_good_keys_are_known(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the developer who woke the machine does not share the processor with a refresh."""
    github.script("example", gh.keys(ALICE))
    Ring(tmp_path, github.url).refresh()
    ring = Ring(tmp_path, github.url)
    ring.keyring.load_last_good()
    assert ring.run(1) == [FIRST_REFRESH_DELAY, 600]


def test_run_does_not_ask_twice_at_the_start(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a start that has just waited for all keys is not followed by the same questions again."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert ring.run(0) == [600]


@pytest.mark.parametrize(("random", "delay"), [(0.0, 540.0), (0.5, 600.0), (0.999999, 660.0)])
def test_run_spreads_the_refreshes(github: FakeGitHub, tmp_path: Path, random: float, delay: float) -> None:
    """Protects: machines that were started together do not ask together; a tenth to either side."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.random = random
    assert ring.run(1) == [0, pytest.approx(delay, abs=0.01)]


def test_run_asks_again_soon_while_a_source_has_never_answered(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a network that comes up after us does not lock people out for a whole interval, nor is it hammered."""
    ring = Ring(tmp_path, github.url)
    github.script("example", *[gh.status(500)] * 9, gh.keys(ALICE))
    assert ring.run(10) == [0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert FIRST_RETRY == 5
    assert ring.lets_in() == {ALICE}


def test_run_asks_again_soon_after_a_start_that_waited_in_vain(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the same when the start itself has asked once already."""
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert ring.run(1) == [5, 10]


def test_run_goes_on_for_ever(tmp_path: Path) -> None:
    """Protects: no number of failures ends the refreshing or overflows its pace."""
    ring = Ring(tmp_path, logins=(config.Login(user="dev", keys=("file:/none",)),))
    assert ring.run(1200)[-1] == 600
