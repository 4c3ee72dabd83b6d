"""keys.keyring: when GitHub's API is asked for an account's number, and which keys count while it is unknown."""

from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import KeysFailed
from pyssh_gateway.keys.copies import Copies, Copy
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path
from tests.support.keyring import (
    ALICE,
    BOB,
    CAROL,
    HOUR,
    NOW,
    REFRESH,
    SPEC,
    Ring,
    copy_path,
    learned,
    play,
    recycle,
)

API = api_path("users/example")
PINNED = f"{SPEC}#7"
NOBODY = set[str]()


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` has the number 7 and Alice's key."""
    github.account("example", 7)
    github.script("example", gh.keys(ALICE))
    return github


# -- new keys and the API --------------------------------------------------------------------------------------------


def test_new_keys_wait_for_the_api_and_old_ones_go_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """While the API is down, removed keys end at once, other keys stay, and no new key counts."""
    github.script("example", gh.keys(ALICE, BOB))
    ring = learned(tmp_path, github)
    github.script(API, gh.status(500))
    github.script("example", gh.conditional(gh.keys(BOB, CAROL), etag='"2"'))
    ring.refresh()
    assert ring.lets_in() == {BOB}
    doubt = (
        "new keys wait until it is certain that the account is still number 7: the server answered 500 (Internal "
        "Server Error)"
    )
    assert ring.events[-1] == KeysFailed(source=SPEC, reason=doubt, kept=1)
    assert ring.status().failure == doubt
    assert ring.refusal(CAROL) == f"key is not known; backend error: {SPEC}: {doubt}"
    assert ring.restarted(tmp_path).lets_in() == {BOB}
    ring.refresh()
    assert ring.lets_in() == {BOB}

    github.script(API)
    ring.refresh()
    assert ring.lets_in() == {BOB, CAROL}
    assert ring.status().failure == ""
    assert ring.identity(CAROL).id == 7


def test_keys_that_only_go_ask_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """Removed keys end without a question to the API."""
    github.script("example", gh.keys(ALICE, BOB))
    ring = learned(tmp_path, github)
    github.script("example", gh.keys(BOB))
    ring.refresh()
    assert (ring.lets_in(), github.requests[API]) == ({BOB}, 1)


def test_the_limits_of_the_api_hold_up_no_keys(github: FakeGitHub, tmp_path: Path) -> None:
    """When the API's 60 requests an hour are used up, only new keys are delayed."""
    github.script("example", gh.keys(ALICE, BOB))
    ring = learned(tmp_path, github)
    github.script(API, gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(NOW) + 1800)))
    github.script("example", gh.keys(BOB, CAROL))
    ring.refresh()
    asked = github.requests[API]
    ring.pass_time(1799)
    assert ring.lets_in() == {BOB}
    assert github.requests[API] == asked
    assert github.requests["example"] == 4
    assert "is left alone for" in ring.failures()[-1]
    github.script(API)
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {BOB, CAROL}


@pytest.mark.parametrize("answer", [gh.keys(ALICE), gh.conditional(gh.keys(ALICE), etag='"1"'), gh.empty()])
def test_the_api_is_asked_once_an_hour(github: FakeGitHub, tmp_path: Path, answer: gh.Answer) -> None:
    """A machine that just runs uses few of the 60 requests an hour that GitHub allows its address."""
    github.script("example", answer)
    ring = learned(tmp_path, github)
    ring.pass_time(3 * HOUR)
    assert github.requests["example"] == 1 + 3 * HOUR // REFRESH
    assert github.requests[API] == 1 + 3


def test_with_a_token_the_api_is_asked_at_each_refresh(github: FakeGitHub, tmp_path: Path) -> None:
    """With a token, which allows 5,000 requests, a recycled account is found within one refresh interval."""
    ring = learned(tmp_path, github, token="hush")
    ring.pass_time(HOUR)
    assert github.requests[API] == 1 + HOUR // REFRESH
    assert {headers.get("Authorization") for headers in github.headers_of[API]} == {"Bearer hush"}
    assert {headers.get("Authorization") for headers in github.headers_of["example"]} == {None}


# -- numbers that are lost -------------------------------------------------------------------------------------------

DAMAGED = b'{"github:exa'
LOST = "not asked, as nobody knows which account was trusted: "


def test_without_the_remembered_numbers_nobody_new_is_trusted(github: FakeGitHub, tmp_path: Path) -> None:
    """A damaged file of numbers does not make the next owner of a login count as the first."""
    (tmp_path / "account-ids.json").write_bytes(DAMAGED)
    recycle(github)
    ring = Ring(tmp_path, github.url)
    ring.keyring.load_last_good()
    ring.run(3)
    assert ring.lets_in() == NOBODY
    assert github.requests == {}
    assert ring.status().failure.startswith(LOST)
    assert "account-ids.json is damaged" in ring.status().failure
    assert (tmp_path / "account-ids.json").read_bytes() == DAMAGED

    problem = play(ring.keyring.accept(SPEC))
    assert problem is not None
    assert "account-ids.json is damaged" in problem
    (tmp_path / "account-ids.json").unlink()
    assert play(ring.keyring.accept(SPEC)) is None
    ring.run(0)
    assert (ring.lets_in(), ring.status().remembered) == ({CAROL}, 8)


def test_without_the_remembered_numbers_last_good_keys_count(github: FakeGitHub, tmp_path: Path) -> None:
    """With a damaged file of numbers, last good keys still count, and no new ones do."""
    Copies(tmp_path).save(SPEC, Copy(ALICE.encode(), NOW))
    (tmp_path / "account-ids.json").write_bytes(DAMAGED)
    recycle(github)
    ring = Ring(tmp_path, github.url)
    ring.keyring.load_last_good()
    ring.run(3)
    assert ring.lets_in() == {ALICE}
    assert github.requests == {}
    assert ring.status().failure.startswith(LOST)


@pytest.mark.parametrize("damage", ["text", "mode"])
def test_the_number_in_a_copy_does_as_well(github: FakeGitHub, tmp_path: Path, damage: str) -> None:
    """A last good copy has the account's number, too, and is enough to check it."""
    ring = learned(tmp_path, github)
    path = tmp_path / "account-ids.json"
    if damage == "text":
        path.write_bytes(DAMAGED)
    else:
        path.chmod(0o666)
    github.script("example", gh.keys(ALICE, BOB))
    restarted = ring.restarted(tmp_path, github.url)
    restarted.refresh()
    assert restarted.lets_in() == {ALICE, BOB}
    recycle(github)
    restarted.refresh()
    assert restarted.lets_in() == NOBODY


def test_a_number_in_the_configuration_does_as_well(github: FakeGitHub, tmp_path: Path) -> None:
    """A number in the configuration needs nothing from the disk."""
    (tmp_path / "account-ids.json").write_bytes(DAMAGED)
    logins = (config.Login(user="dev", keys=(PINNED, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins, files={"/keys": BOB.encode()})
    ring.keyring.load_last_good()
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}


def test_a_lost_copy_does_not_make_a_new_account_trusted(github: FakeGitHub, tmp_path: Path) -> None:
    """Numbers and copies are stored separately, and either is enough to recognise an account."""
    ring = learned(tmp_path, github)
    copy_path(tmp_path).unlink()
    recycle(github)
    restarted = ring.restarted(tmp_path, github.url)
    restarted.refresh()
    assert restarted.lets_in() == NOBODY
