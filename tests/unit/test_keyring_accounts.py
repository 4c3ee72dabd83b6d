"""keys.keyring: whose account a GitHub login is, before its keys let anybody in."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway import config
from pyssh_gateway.events import AccountChanged, Identity, KeysFailed, KeysLoaded
from pyssh_gateway.keys.copies import Copies, Copy
from pyssh_gateway.keys.keyring import ACCOUNT_CHECK
from pyssh_gateway.keys.sources import parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path, in_json
from tests.support.keyring import (
    ALICE,
    BOB,
    CAROL,
    FINGERPRINTS,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    SPEC,
    Ring,
    copy_path,
    play,
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
def github() -> Iterator[FakeGitHub]:
    """A GitHub whose account `example` has the number 7 and Alice's key."""
    with FakeGitHub() as server:
        server.account("example", 7)
        server.script("example", gh.keys(ALICE))
        yield server


def pins(store: Path) -> dict[str, int]:
    """The numbers that are remembered on the disk."""
    numbers: dict[str, int] = json.loads((store / "account-ids.json").read_text())
    return numbers


def recycle(github: FakeGitHub) -> None:
    """Somebody else has the login now, with Carol's key."""
    github.account("example", 8)
    github.script("example", gh.keys(CAROL))


def learned(store: Path, github: FakeGitHub, token: str = "") -> Ring:
    """A ring that has had its first answer and knows whose it was."""
    ring = Ring(store, github.url, token=token)
    ring.run(0)
    assert ring.status().remembered == 7
    return ring


# -- the number that is seen first -------------------------------------------------------------------------------------


def test_the_account_that_is_seen_first_is_the_one(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: without anybody writing a number down, the login means the same account from its first answer on."""
    ring = learned(tmp_path, github)
    assert github.requests == {"example": 1, API: 1}
    assert pins(tmp_path) == {SPEC: 7}
    assert ring.identity(ALICE) == Identity("github:example", 7, FINGERPRINTS[ALICE])
    copy = Copies(tmp_path).load(SPEC)
    assert copy is not None
    assert copy.account_id == 7
    restarted = ring.restarted(tmp_path)
    assert restarted.status().remembered == 7
    assert restarted.identity(ALICE) == ring.identity(ALICE)


def test_nobody_waits_for_the_number_of_a_new_account(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a first start lets people in while GitHub's API hangs, and learns the number when it can."""
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
    assert (restarted.status().remembered, pins(tmp_path)) == (7, {SPEC: 7})


def test_a_number_is_asked_for_again_when_the_api_had_no_answer(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: trust on first use comes a round later, and not never; what is remembered is asked for no more."""
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
    """Protects: a slow API does not make an account trusted for the keys of another that has come since."""
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
    """Protects: whoever looks learns that nothing is remembered; everybody gets in all the same."""
    (tmp_path / "account-ids.json").mkdir()
    ring = Ring(tmp_path, github.url)
    ring.run(1)
    assert ring.lets_in() == {ALICE}
    assert ring.status().remembered is None
    assert "account-ids.json is not a regular file" in ring.failures()[0]
    (tmp_path / "account-ids.json").rmdir()
    ring.pass_time(REFRESH)
    assert pins(tmp_path) == {SPEC: 7}


def test_keys_that_came_before_the_number_get_it_with_the_next_answer(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the log names the account by its number, also when nothing has changed since that was not known."""
    github.script("example", gh.conditional(gh.keys(ALICE), etag='"1"'))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    (tmp_path / "account-ids.json").write_text(json.dumps({SPEC: 7}))  # a crash: the number was written, the copy not
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.identity(ALICE).id is None
    restarted.refresh()
    assert restarted.identity(ALICE).id == 7


# -- a number in the configuration -------------------------------------------------------------------------------------


def test_a_pinned_account_is_asked_after_before_its_keys_count(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the number in the configuration holds from the first answer on, and is not remembered anywhere else."""
    ring = Ring(tmp_path, github.url, PINNED_DEV)
    ring.run(0)
    assert github.requests == {"example": 1, API: 1}
    assert ring.identity(ALICE) == Identity("github:example", 7, FINGERPRINTS[ALICE])
    assert (ring.status(PINNED).pinned, ring.status(PINNED).remembered) == (7, None)
    assert not (tmp_path / "account-ids.json").exists()


def test_a_pinned_account_that_is_another_lets_in_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: not even the first answer of a recycled account lets anybody in, and the way out is named."""
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
    """Protects: without the API's word there is no telling whose keys these are."""
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


# -- a login that somebody else has taken ------------------------------------------------------------------------------


def test_a_recycled_account_lets_in_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: who registers a login that has become free gets in nowhere, and everybody is told what happened."""
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
    """Protects: also one that shows the keys from before, at the next check of the number."""
    ring = learned(tmp_path, github)
    github.account("example", 8)
    github.script("example", answer)
    ring.pass_time(ACCOUNT_CHECK)
    assert ring.lets_in() == NOBODY
    assert ring.status().failure == TAKEN_OVER


def test_a_recycled_account_stays_out_after_a_restart(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: neither a restart nor an outage makes anybody forget whose the account was."""
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


def test_an_account_that_is_its_owner_s_again_lets_them_in(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a renaming that is taken back needs nobody's hand."""
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
    """Protects: one command puts a login right whose account has changed for a good reason, for ever."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert play(ring.keyring.accept(SPEC)) is None
    ring.run(0)
    assert ring.identity(CAROL) == Identity("github:example", 8, FINGERPRINTS[CAROL])
    assert (ring.status().remembered, ring.status().failure) == (8, "")
    assert pins(tmp_path) == {SPEC: 8}
    restarted = ring.restarted(tmp_path, github.url)
    restarted.pass_time(REFRESH)
    assert restarted.lets_in() == {CAROL}
    assert restarted.account_changes() == []
    github.account("example", 7)
    github.script("example", gh.keys(ALICE))
    restarted.refresh()
    assert restarted.lets_in() == NOBODY


def test_an_accepted_account_stays_accepted_through_a_crash(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the command has taken effect when it returns, though GitHub has not answered yet."""
    ring = learned(tmp_path, github)
    recycle(github)
    ring.refresh()
    assert play(ring.keyring.accept(SPEC)) is None
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.status().remembered is None
    restarted.pass_time(MINUTE)
    assert (restarted.lets_in(), restarted.status().remembered) == ({CAROL}, 8)


def test_accepting_is_not_undone_by_an_answer_on_its_way(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a question that was asked before the command does not lock the new account out after it."""
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
                await asyncio.to_thread(until, lambda: pins(tmp_path) == {})
                gate.set()
            assert accepting.result() is None
            await live.quiet()

    play(story())
    assert len(live.account_changes()) == 1
    assert live.lets_in() == {CAROL}


@pytest.mark.parametrize("spec", ["github:somebody", "file:/keys", PINNED])
def test_accepts_only_what_is_configured(github: FakeGitHub, tmp_path: Path, spec: str) -> None:
    """Protects: a misspelt command says so instead of doing nothing."""
    logins = (config.Login(user="dev", keys=(SPEC, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins)
    assert play(ring.keyring.accept(spec)) == f"no login has {spec} among its keys"


# -- new keys and the API ----------------------------------------------------------------------------------------------


def test_new_keys_wait_for_the_api_and_old_ones_go_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: an API that is down locks out nobody, keeps no removed key alive, and lets no stranger's key in."""
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
    """Protects: a removed key is out at once, whatever the API says or does not say."""
    github.script("example", gh.keys(ALICE, BOB))
    ring = learned(tmp_path, github)
    github.script("example", gh.keys(BOB))
    ring.refresh()
    assert (ring.lets_in(), github.requests[API]) == ({BOB}, 1)


def test_the_limits_of_the_api_hold_up_no_keys(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: 60 questions an hour, used up by the neighbours, delay new keys and nothing else."""
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
    """Protects: a machine that just runs leaves its neighbours most of the 60 questions that GitHub has an hour."""
    github.script("example", answer)
    ring = learned(tmp_path, github)
    ring.pass_time(3 * HOUR)
    assert github.requests["example"] == 1 + 3 * HOUR // REFRESH
    assert github.requests[API] == 1 + 3


def test_with_a_token_the_api_is_asked_at_each_refresh(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a recycled account is found within one interval by those who may ask 5,000 times."""
    ring = learned(tmp_path, github, token="hush")
    ring.pass_time(HOUR)
    assert github.requests[API] == 1 + HOUR // REFRESH
    assert {headers.get("Authorization") for headers in github.headers_of[API]} == {"Bearer hush"}
    assert {headers.get("Authorization") for headers in github.headers_of["example"]} == {None}


# -- numbers that are lost ---------------------------------------------------------------------------------------------

DAMAGED = b'{"github:exa'
LOST = "not asked, as nobody knows which account was trusted: "


def test_without_the_remembered_numbers_nobody_new_is_trusted(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: damage to a file does not make the next owner of a login the first one that was seen."""
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
    """Protects: nobody is locked out by the damage at once, and nobody new gets in."""
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
    """Protects: who has a last good copy needs no other file to know the account again."""
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
    """Protects: what is pinned needs nothing from the disk."""
    (tmp_path / "account-ids.json").write_bytes(DAMAGED)
    logins = (config.Login(user="dev", keys=(PINNED, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins, files={"/keys": BOB.encode()})
    ring.keyring.load_last_good()
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}


def test_a_lost_copy_does_not_make_a_new_account_trusted(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the numbers are kept apart from the copies, either of which is enough."""
    ring = learned(tmp_path, github)
    copy_path(tmp_path).unlink()
    recycle(github)
    restarted = ring.restarted(tmp_path, github.url)
    restarted.refresh()
    assert restarted.lets_in() == NOBODY
