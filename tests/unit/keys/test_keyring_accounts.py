"""keys.keyring: a GitHub login's account is checked before its keys let anybody in."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import AccountChanged, Identity, KeysLoaded
from pyssh_gateway.keys.copies import Copies
from pyssh_gateway.keys.inquiry import SECOND_LOOK
from pyssh_gateway.keys.refresher import ACCOUNT_CHECK
from pyssh_gateway.keys.sources import parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path, in_json
from tests.support.keyring import (
    ALICE,
    BOB,
    CAROL,
    FINGERPRINTS,
    MINUTE,
    REFRESH,
    SPEC,
    Ring,
    learned,
    play,
    recycle,
    remembered,
)
from tests.support.waiting import until

API = api_path("users/example")
PINNED = f"{SPEC}#7"
PINNED_DEV = (config.Login(user="dev", keys=(PINNED,)),)
NOBODY = set[str]()
TAKEN_OVER = (
    f"{SPEC} is account 8 now, trusted is account 7: it was renamed or taken over, and nobody gets in by it. If that "
    f"is right, accept it with pyssh-gateway keys accept {SPEC}"
)


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` has the number 7 and Alice's key."""
    github.account("example", 7)
    github.script("example", gh.keys(ALICE))
    return github


# -- a number that is remembered from the first answer ----------------------------------------------------------------


def test_the_account_that_is_seen_first_is_the_one(github: FakeGitHub, tmp_path: Path) -> None:
    """Without a number in the configuration, a login means the account of its first answer from then on."""
    ring = learned(tmp_path, github)
    assert github.requests == {"example": 1, API: 1}
    assert remembered(tmp_path) == {SPEC: 7}
    assert ring.identity(ALICE) == Identity("github:example", 7, FINGERPRINTS[ALICE])
    copy = Copies(tmp_path).load(SPEC)
    assert copy is not None
    assert copy.account_id == 7
    restarted = ring.restarted(tmp_path)
    assert restarted.status().remembered == 7
    assert restarted.identity(ALICE) == ring.identity(ALICE)


def test_nobody_waits_for_the_number_of_a_new_account(github: FakeGitHub, tmp_path: Path) -> None:
    """A first start lets people in while GitHub's API hangs, and remembers the number when it gets it."""
    gate = threading.Event()
    github.script(API, gh.held(gh.status(500), gate))
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await asyncio.to_thread(github.wait_for_requests, API, 1)
            assert ring.lets_in() == {ALICE}
            gate.set()
            await ring.quiet()

    play(story())
    assert (ring.status().remembered, ring.failures()) == (None, [])
    github.script(API)
    restarted = ring.restarted(tmp_path, github.url)
    restarted.pass_time(MINUTE)
    assert (restarted.status().remembered, remembered(tmp_path)) == (7, {SPEC: 7})


def test_a_number_is_asked_for_again_when_the_api_had_no_answer(github: FakeGitHub, tmp_path: Path) -> None:
    """If the API fails, the number is asked for again at the next refresh; once remembered, it is not asked for."""
    github.script(API, gh.status(500), gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset="0"), gh.hang_up())
    ring = Ring(tmp_path, github.url)
    ring.run(2)
    assert (github.requests[API], ring.status().remembered) == (3, None)
    github.script(API)
    ring.pass_time(REFRESH)
    assert (github.requests[API], ring.status().remembered) == (4, 7)
    ring.pass_time(REFRESH)
    assert github.requests[API] == 4


def test_a_number_counts_for_the_answer_that_it_was_asked_about(github: FakeGitHub, tmp_path: Path) -> None:
    """With a slow API, an account's number is not remembered for keys that came after the question."""
    gate = threading.Event()
    github.script(API, gh.held(in_json({"login": "example", "id": 7}), gate))
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await asyncio.to_thread(github.wait_for_requests, API, 1)
            github.script("example", gh.keys(CAROL))
            await ring.keyring.refresh_all()
            gate.set()
            await ring.quiet()

    play(story())
    assert github.requests == {"example": 2, API: 1}
    assert ring.status().remembered is None
    assert not (tmp_path / "account-ids.json").exists()


def test_a_number_that_can_t_be_written_is_told(github: FakeGitHub, tmp_path: Path) -> None:
    """If the number can't be stored, that is reported, and people get in all the same."""
    (tmp_path / "account-ids.json").mkdir()
    ring = Ring(tmp_path, github.url)
    ring.run(1)
    assert ring.lets_in() == {ALICE}
    assert ring.status().remembered is None
    assert "account-ids.json is not a regular file" in ring.failures()[0]
    (tmp_path / "account-ids.json").rmdir()
    ring.pass_time(REFRESH)
    assert remembered(tmp_path) == {SPEC: 7}


def test_keys_that_came_before_the_number_get_it_with_the_next_answer(github: FakeGitHub, tmp_path: Path) -> None:
    """The log names the account by its number, even if its keys have not changed since the number became known."""
    github.script("example", gh.conditional(gh.keys(ALICE), etag='"1"'))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    (tmp_path / "account-ids.json").write_text(json.dumps({SPEC: 7}))  # a crash between writing the number and the copy
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.identity(ALICE).id is None
    restarted.refresh()
    assert restarted.identity(ALICE).id == 7


# -- a number in the configuration -----------------------------------------------------------------------------------


def test_a_pinned_account_is_asked_after_before_its_keys_count(github: FakeGitHub, tmp_path: Path) -> None:
    """A number in the configuration is checked before the first keys count, and is not stored elsewhere."""
    ring = Ring(tmp_path, github.url, PINNED_DEV)
    ring.run(0)
    assert github.requests == {"example": 1, API: 1}
    assert ring.identity(ALICE) == Identity("github:example", 7, FINGERPRINTS[ALICE])
    assert (ring.status(PINNED).pinned, ring.status(PINNED).remembered) == (7, None)
    assert not (tmp_path / "account-ids.json").exists()


def test_a_pinned_account_that_is_another_lets_in_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """With another account than the configured one, not even the first keys count, and the message says what to do."""
    recycle(github)
    ring = Ring(tmp_path, github.url, PINNED_DEV)
    ring.run(0)
    assert ring.lets_in() == NOBODY
    (change,) = ring.account_changes()
    assert (change.source, change.expected, change.found) == (PINNED, 7, 8)
    assert change.message.endswith("accept it with the configuration")
    assert ring.status(PINNED).failure == change.message
    problem = play(ring.keyring.accept(PINNED))
    assert problem == f"{PINNED} is pinned to that number in the configuration: change it there"
    ring.refresh()
    assert ring.lets_in() == NOBODY


def test_a_pinned_account_s_first_keys_wait_for_the_api(github: FakeGitHub, tmp_path: Path) -> None:
    """While the API does not answer, the first keys of a pinned account wait."""
    github.script(API, gh.status(500))
    ring = Ring(tmp_path, github.url, PINNED_DEV)
    ring.refresh()
    assert ring.lets_in() == NOBODY
    wait = "new keys wait until it is certain that the account is still number 7: the server answered 500"
    assert wait in ring.failures()[0]
    assert wait in ring.refusal(ALICE)
    github.script(API)
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.status(PINNED).failure == ""


def test_who_waits_for_the_api_does_not_wait_for_the_interval(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects a cold start while the API is down: keys that wait for it count soon after it answers."""
    github.script(API, gh.status(500))
    ring = Ring(tmp_path, github.url, PINNED_DEV)
    ring.refresh()
    assert ring.status(PINNED).next_look == SECOND_LOOK
    github.script(API)
    ring.pass_time(SECOND_LOOK)
    assert ring.lets_in() == {ALICE}
    assert ring.status(PINNED).next_look == REFRESH


# -- a login that somebody else has taken ----------------------------------------------------------------------------


def test_a_recycled_account_lets_in_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """A stranger who registers a freed login gets in nowhere, and everybody reads what happened."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert ring.lets_in() == NOBODY
    assert ring.account_changes() == [AccountChanged(source=SPEC, expected=7, found=8, message=TAKEN_OVER)]
    loaded = ring.events[-1]
    assert isinstance(loaded, KeysLoaded)
    assert (loaded.accepted, loaded.removed) == (0, (FINGERPRINTS[ALICE],))
    assert ring.status().failure == TAKEN_OVER
    assert ring.refusal(CAROL) == f"key is not known; backend error: {SPEC}: {TAKEN_OVER}"
    ring.pass_time(2 * REFRESH)
    assert len(ring.account_changes()) == 3
    assert ring.lets_in() == NOBODY


@pytest.mark.parametrize("answer", [gh.keys(ALICE), gh.keys(ALICE, CAROL), gh.empty()])
def test_a_recycled_account_lets_in_nobody_whatever_keys_it_has(
    github: FakeGitHub, tmp_path: Path, answer: gh.Answer
) -> None:
    """A recycled account lets nobody in by any keys, even the earlier ones, from the next check of its number on."""
    ring = learned(tmp_path, github)
    github.account("example", 8)
    github.script("example", answer)
    ring.pass_time(ACCOUNT_CHECK)
    assert ring.lets_in() == NOBODY
    assert ring.status().failure == TAKEN_OVER


def test_a_recycled_account_stays_out_after_a_restart(github: FakeGitHub, tmp_path: Path) -> None:
    """Neither a restart nor an outage makes the server forget whose account the login was."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    restarted = ring.restarted(tmp_path, github.url)
    assert (restarted.lets_in(), restarted.status().failure) == (NOBODY, TAKEN_OVER)
    github.script(API, gh.status(500))
    restarted.refresh()
    assert restarted.lets_in() == NOBODY
    github.script(API)
    restarted.refresh()
    assert restarted.lets_in() == NOBODY
    assert len(restarted.account_changes()) == 1


@pytest.mark.parametrize("listed", [gh.keys(CAROL), gh.empty()])
def test_a_recycled_account_is_told_until_it_is_put_right(
    github: FakeGitHub, tmp_path: Path, listed: gh.Answer
) -> None:
    """Outages and restarts do not hide the reason why nobody gets in by a recycled account."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert ring.status().failure == TAKEN_OVER
    github.script("example", listed)
    for page, api in ((listed, gh.status(500)), (gh.status(500), None), (gh.status(404), None)):
        github.script("example", page)
        github.script(API, *([api] if api is not None else []))
        for _ in range(2):
            ring.now += MINUTE
            ring.refresh()
            assert ring.lets_in() == NOBODY
            assert ring.status().failure.startswith(f"{TAKEN_OVER}; ")
            assert ring.failures()[-1] == ring.status().failure
            assert TAKEN_OVER in ring.refusal(CAROL)
            ring = ring.restarted(tmp_path, github.url)
            assert ring.status().failure == TAKEN_OVER
    github.account("example", 7)
    github.script("example", listed)
    ring.refresh()
    assert ring.status().failure == ""
    assert ring.restarted(tmp_path).status().failure == ""


def test_a_recycled_account_stays_out_though_the_numbers_are_lost(github: FakeGitHub, tmp_path: Path) -> None:
    """If the stored numbers are lost, the copy of a recycled account still has its number."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    (tmp_path / "account-ids.json").unlink()
    restarted = ring.restarted(tmp_path, github.url)
    restarted.refresh()
    assert restarted.lets_in() == NOBODY
    assert restarted.status().failure == TAKEN_OVER


def test_an_account_that_is_its_owner_s_again_lets_them_in(github: FakeGitHub, tmp_path: Path) -> None:
    """When the login is its owner's account again, the owner gets in without anybody's help."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    github.account("example", 7)
    github.script("example", gh.keys(ALICE, BOB))
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.status().failure == ""
    assert ring.restarted(tmp_path).status().failure == ""


def test_a_person_can_accept_the_new_account(github: FakeGitHub, tmp_path: Path) -> None:
    """One command accepts an account that has changed for a good reason, permanently."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert play(ring.keyring.accept(SPEC)) is None
    ring.run(0)
    assert ring.identity(CAROL) == Identity("github:example", 8, FINGERPRINTS[CAROL])
    assert (ring.status().remembered, ring.status().failure) == (8, "")
    assert remembered(tmp_path) == {SPEC: 8}
    restarted = ring.restarted(tmp_path, github.url)
    restarted.pass_time(REFRESH)
    assert restarted.lets_in() == {CAROL}
    assert restarted.account_changes() == []
    github.account("example", 7)
    github.script("example", gh.keys(ALICE))
    restarted.refresh()
    assert restarted.lets_in() == NOBODY


def test_an_accepted_account_stays_accepted_through_a_crash(github: FakeGitHub, tmp_path: Path) -> None:
    """Acceptance survives a crash right after the command, even if GitHub has not answered yet."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert play(ring.keyring.accept(SPEC)) is None
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.status().remembered is None
    restarted.pass_time(MINUTE)
    assert (restarted.lets_in(), restarted.status().remembered) == ({CAROL}, 8)


def test_accepting_is_not_undone_by_an_answer_on_its_way(github: FakeGitHub, tmp_path: Path) -> None:
    """An answer to a request from before the acceptance does not lock the new account out again."""
    ring = learned(tmp_path, github)
    recycle(github)
    gate = threading.Event()
    live = ring.restarted(tmp_path, github.url, live=True)
    github.script("example", gh.held(gh.keys(CAROL), gate))
    asked = github.requests["example"]

    async def story() -> None:
        async with live.running():
            live.keyring.want((parse_source(SPEC),))
            await asyncio.to_thread(github.wait_for_requests, "example", asked + 1)
            async with asyncio.TaskGroup() as tasks:
                accepting = tasks.create_task(live.keyring.accept(SPEC))
                await asyncio.to_thread(until, lambda: remembered(tmp_path) == {})
                gate.set()
            assert accepting.result() is None
            await live.quiet()

    play(story())
    assert len(live.account_changes()) == 1
    assert live.lets_in() == {CAROL}


@pytest.mark.parametrize("spec", ["github:somebody", "file:/keys", PINNED])
def test_accepts_only_what_is_configured(github: FakeGitHub, tmp_path: Path, spec: str) -> None:
    """Accepting a source that is not configured is an error."""
    logins = (config.Login(user="dev", keys=(SPEC, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins)
    assert play(ring.keyring.accept(spec)) == f"no login has {spec} among its keys"
