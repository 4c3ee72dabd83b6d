"""keys.keyring: the members of a GitHub team, each with their own keys, name and failures."""

import asyncio
import threading
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import Identity, KeysFailed
from pyssh_gateway.keys.copies import Copies
from pyssh_gateway.keys.inquiry import MAX_DOUBTS, MAX_FETCHES
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path
from tests.support.key_lines import rsa
from tests.support.keyring import ALICE, BOB, CAROL, DAY, FINGERPRINTS, HOUR, MINUTE, NOW, REFRESH, Ring, play, threads

TEAM = "github-team:acme/ops"
LOGINS = (config.Login(user="dev", keys=(TEAM,)),)
MEMBERS = api_path("orgs/acme/teams/ops/members")
TOKEN = "hush"
NOBODY = set[str]()


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub with a team of two: `mona` has Alice's key, `amos` has Bob's."""
    github.team("acme", "ops", {"mona": 2, "amos": 10}, token=TOKEN)
    github.script("mona", gh.keys(ALICE))
    github.script("amos", gh.keys(BOB))
    return github


def team_ring(store: Path, github: FakeGitHub, token: str = TOKEN) -> Ring:
    """A ring that has asked for the team once."""
    ring = Ring(store, github.url, LOGINS, token=token)
    ring.run(0)
    return ring


def test_every_member_is_a_person(github: FakeGitHub, tmp_path: Path) -> None:
    """On an account that a team shares, the log has the person's login and number."""
    ring = team_ring(tmp_path, github)
    assert ring.identity(ALICE) == Identity("github:mona", 2, FINGERPRINTS[ALICE])
    assert ring.identity(BOB) == Identity("github:amos", 10, FINGERPRINTS[BOB])
    assert (ring.status(TEAM).accepted, ring.status(TEAM).failure) == (2, "")
    assert github.requests == {MEMBERS: 1, "mona": 1, "amos": 1}
    assert [headers.get("Authorization") for headers in github.headers_of["mona"]] == [None]


def test_who_leaves_the_team_is_out_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """A member who leaves the team is out at the next look, even if other members' keys can't be fetched."""
    ring = team_ring(tmp_path, github)
    github.team("acme", "ops", {"mona": 2}, token=TOKEN)
    github.script("mona", gh.status(500))
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.restarted(tmp_path, logins=LOGINS).lets_in() == {ALICE}
    github.team("acme", "ops", {}, token=TOKEN)
    ring.refresh()
    assert ring.lets_in() == NOBODY


def test_who_joins_the_team_gets_in(github: FakeGitHub, tmp_path: Path) -> None:
    """A new member of the team gets in without a change on the machine."""
    ring = team_ring(tmp_path, github)
    github.team("acme", "ops", {"mona": 2, "amos": 10, "carol": 11}, token=TOKEN)
    github.script("carol", gh.keys(CAROL))
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB, CAROL}
    assert ring.identity(CAROL).person == "github:carol"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (gh.status(500), "github:amos: the server answered 500 (Internal Server Error)"),
        (gh.status(404), "github:amos: no such account (404)"),
        (gh.html(), "github:amos: got an HTML page instead of keys"),
        (gh.garbage(), "github:amos: no usable key in it"),
        (gh.truncated(CAROL), "github:amos: the answer was cut off"),
    ],
)
def test_a_member_s_failure_is_that_member_s_alone(
    github: FakeGitHub, tmp_path: Path, answer: gh.Answer, reason: str
) -> None:
    """A member whose keys can't be fetched keeps the earlier ones, and changes of the others count."""
    ring = team_ring(tmp_path, github)
    github.script("amos", answer)
    github.script("mona", gh.keys(CAROL))
    ring.refresh()
    assert ring.lets_in() == {BOB, CAROL}
    failed = ring.events[-1]
    assert isinstance(failed, KeysFailed)
    assert (failed.source, failed.kept) == (TEAM, 2)
    assert failed.reason.startswith(reason)
    assert ring.status(TEAM).failure == failed.reason
    assert reason in ring.refusal(ALICE)

    restarted = ring.restarted(tmp_path, github.url, logins=LOGINS, token=TOKEN)
    assert restarted.lets_in() == {BOB, CAROL}
    restarted.refresh()
    assert restarted.lets_in() == {BOB, CAROL}
    assert restarted.identity(BOB) == Identity("github:amos", 10, FINGERPRINTS[BOB])

    github.script("amos", gh.empty())
    restarted.refresh()
    assert restarted.lets_in() == {CAROL}
    assert restarted.status(TEAM).failure == ""


@pytest.mark.parametrize("line", [rsa(1024).decode(), f"restrict {BOB}"])
def test_a_member_whose_keys_are_all_refused_has_none(github: FakeGitHub, tmp_path: Path, line: str) -> None:
    """A member's removed key is refused, even if only keys remain that can't log in."""
    ring = team_ring(tmp_path, github)
    github.script("amos", gh.keys(line))
    ring.refresh()
    assert (ring.lets_in(), ring.failures()) == ({ALICE}, [])
    github.script("mona", gh.keys(line))
    ring.refresh()
    assert (ring.lets_in(), ring.failures()) == (NOBODY, [])


def test_a_member_s_old_keys_let_in_for_max_stale_and_not_longer(github: FakeGitHub, tmp_path: Path) -> None:
    """A member's unconfirmed keys end after max_stale, also if the API still lists the member, and over restarts."""
    ring = team_ring(tmp_path, github)
    github.script("amos", gh.status(500))
    for later in (DAY, 4 * DAY, 7 * DAY):
        ring.now = NOW + later
        ring.refresh()
        assert ring.lets_in() == {ALICE, BOB}
        ring = ring.restarted(tmp_path, github.url, logins=LOGINS, token=TOKEN)
    copy = Copies(tmp_path).load(TEAM)
    assert copy is not None
    assert f"# github:amos#10 as of 2026-09-21T14:13:20+00:00\n{BOB}\n" in copy.text.decode()
    ring.now += 1
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.status(TEAM).failure.endswith("(Internal Server Error); the keys from before are too old")
    ring.refresh()
    assert ring.restarted(tmp_path, github.url, logins=LOGINS, token=TOKEN).lets_in() == {ALICE}
    github.script("amos", gh.keys(BOB), gh.status(500))
    for _ in range(2):
        ring.refresh()
        assert ring.lets_in() == {ALICE, BOB}
        ring.now += 6 * DAY


def test_a_member_s_keys_of_the_future_do_not_stay(github: FakeGitHub, tmp_path: Path) -> None:
    """If a member's page fails, keys whose last answer is in the future, by the clock, are too old."""
    ring = team_ring(tmp_path, github)
    ring.now -= DAY
    github.script("amos", gh.status(500))
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.status(TEAM).failure.endswith("(Internal Server Error); the keys from before are too old")


def test_a_member_whose_account_is_gone_gets_a_second_look(github: FakeGitHub, tmp_path: Path) -> None:
    """A deleted member's keys end after two looks, also in different runs; a single 404 takes none away."""
    ring = team_ring(tmp_path, github)
    github.script("amos", gh.status(404), gh.keys(BOB), gh.status(404), gh.status(500), gh.status(404))
    for _ in range(2):
        ring.now += HOUR
        ring.refresh()
        assert ring.lets_in() == {ALICE, BOB}
    for seconds in (HOUR, MINUTE - 2, 1):
        ring = ring.restarted(tmp_path, github.url, logins=LOGINS, token=TOKEN, now=ring.now + seconds)
        ring.refresh()
        assert ring.lets_in() == {ALICE, BOB}
    ring.now += 1
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    reason = "github:amos: no such account (404), and so it was a minute before: their keys are revoked"
    assert ring.failures()[-1] == ring.status(TEAM).failure == reason
    assert ring.restarted(tmp_path, logins=LOGINS).lets_in() == {ALICE}
    github.script("amos", gh.keys(BOB))
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}


def test_a_namesake_has_no_keys_from_before(github: FakeGitHub, tmp_path: Path) -> None:
    """Another account with a former member's login does not inherit the keys."""
    ring = team_ring(tmp_path, github)
    github.team("acme", "ops", {"mona": 2, "amos": 99}, token=TOKEN)
    github.script("amos", gh.status(500))
    ring.refresh()
    assert ring.lets_in() == {ALICE}


def test_only_some_failures_are_told(github: FakeGitHub, tmp_path: Path) -> None:
    """An outage with a large team gives one readable line with a few failures."""
    github.team("acme", "ops", {f"member-{number}": number for number in range(1, 30)}, token=TOKEN)
    ring = team_ring(tmp_path, github)
    (reason,) = ring.failures()
    assert reason.count("no such account (404)") == MAX_DOUBTS


def test_a_large_team_is_asked_for_side_by_side(github: FakeGitHub, tmp_path: Path) -> None:
    """All members of a large team are asked, in parallel up to the limit on requests."""
    gate = threading.Event()
    members = {f"member-{number}": number for number in range(1, 3 * MAX_FETCHES + 1)}
    for login in members:
        github.script(login, gh.held(gh.keys(CAROL), gate))
    github.team("acme", "ops", members, token=TOKEN)
    ring = Ring(tmp_path, github.url, LOGINS, token=TOKEN)
    others = threads("fetch-keys")  # threads of earlier tests whose downloads were abandoned

    async def look() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ring.keyring.refresh())
            for login in [*members][:MAX_FETCHES]:
                await asyncio.to_thread(github.wait_for_requests, login, 1)
            assert len(threads("fetch-keys") - others) == MAX_FETCHES
            gate.set()

    play(look())
    assert ring.status(TEAM).accepted == len(members)
    assert ring.failures() == []


def test_members_are_asked_for_with_what_they_said_before(github: FakeGitHub, tmp_path: Path) -> None:
    """Members' keys are requested with validators, so that a refresh costs GitHub little."""
    github.script("mona", gh.conditional(gh.keys(ALICE), etag='"1"'))
    ring = team_ring(tmp_path, github)
    ring.refresh()
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}
    assert [headers.get("If-None-Match") for headers in github.headers_of["mona"]] == [None, '"1"', '"1"']
    github.script("mona", gh.conditional(gh.keys(CAROL), etag='"2"'))
    ring.refresh()
    assert ring.lets_in() == {BOB, CAROL}


def test_without_a_token_the_reason_says_what_to_set(github: FakeGitHub, tmp_path: Path) -> None:
    """A team without a token gives an error that names the setting, and no requests."""
    ring = team_ring(tmp_path, github, token="")
    assert ring.lets_in() == NOBODY
    assert "set keys.github_token (PYSSH_GATEWAY_KEYS__GITHUB_TOKEN)" in ring.status(TEAM).failure
    assert "set keys.github_token" in ring.refusal(ALICE)
    assert github.requests == {}


@pytest.mark.parametrize("answer", [gh.status(500), gh.status(403), gh.limited(429), gh.html(), gh.garbage()])
def test_a_team_that_can_t_be_asked_for_stays(github: FakeGitHub, tmp_path: Path, answer: gh.Answer) -> None:
    """An outage of the API locks out no member of the team, in this run and the next."""
    ring = team_ring(tmp_path, github)
    github.script(MEMBERS, answer)
    ring.now += HOUR
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.status(TEAM).age == HOUR
    restarted = ring.restarted(tmp_path, github.url, logins=LOGINS, token=TOKEN)
    restarted.refresh()
    assert restarted.lets_in() == {ALICE, BOB}
    assert restarted.identity(ALICE) == Identity("github:mona", 2, FINGERPRINTS[ALICE])


def test_a_team_that_is_gone_gets_a_second_look(github: FakeGitHub, tmp_path: Path) -> None:
    """A dissolved team lets nobody in after a second look, and a single 404 changes nothing."""
    ring = team_ring(tmp_path, github)
    github.disband("acme", "ops")
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.status(TEAM).failure == "no such team (404); if it still says so in a minute, its keys are revoked"
    ring.pass_time(MINUTE)
    assert ring.lets_in() == NOBODY
    assert ring.restarted(tmp_path, logins=LOGINS).lets_in() == NOBODY
    github.team("acme", "ops", {"mona": 2}, token=TOKEN)
    ring.refresh()
    assert ring.lets_in() == {ALICE}


def test_a_token_that_sees_the_team_no_more_locks_out_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """A 404 for a token that may no longer see the team is the token's failure, and not the end of the team."""
    ring = team_ring(tmp_path, github)
    github.disband("acme", "ops")
    github.script(api_path("orgs/acme/teams"), gh.status(404))
    ring.pass_time(HOUR)
    assert ring.lets_in() == {ALICE, BOB}
    assert "keys.github_token may not see its teams" in ring.status(TEAM).failure


def test_the_copy_of_a_team_says_whose_keys_are_whose(github: FakeGitHub, tmp_path: Path) -> None:
    """A team's copy has its members' names beside their keys, so a start without network knows them."""
    team_ring(tmp_path, github)
    copy = Copies(tmp_path).load(TEAM)
    assert copy is not None
    assert copy.fetched == NOW
    assert copy.text.decode() == f"# github:mona#2\n{ALICE}\n# github:amos#10\n{BOB}\n"


def test_options_in_a_member_s_keys_do_not_count(github: FakeGitHub, tmp_path: Path) -> None:
    """Options in a member's keys make nobody an authority and run no command."""
    github.script("amos", gh.keys(f"cert-authority {BOB}", f'command="id" {BOB}', CAROL))
    ring = team_ring(tmp_path, github)
    assert ring.lets_in() == {ALICE, CAROL}
    assert ring.keyring.snapshot.accounts["dev"].authorities == {}
