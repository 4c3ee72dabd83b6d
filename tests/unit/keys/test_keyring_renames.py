"""keys.keyring: an account's name that redirects to another name, and a server that redirects to its login page."""

from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path, for_token, in_json, paged
from tests.support.keyring import ALICE, BOB, CAROL, DAY, HOUR, SPEC, Ring, copy_path, learned

OTHER = api_path("users/other")
TOKEN = "hush"
KEYS_API = api_path("users/example/keys")


def api_keys(*lines: str) -> gh.Answer:
    """The API's answer for an account with these keys, to requests with the token."""
    return for_token(TOKEN, paged([{"id": number, "key": line} for number, line in enumerate(lines)]))


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` (7) has Alice's key, and whose account `other` (8) has Alice's and Carol's."""
    github.account("example", 7)
    github.account("other", 8)
    github.script("example", gh.keys(ALICE))
    github.script("other", gh.keys(ALICE, CAROL))
    return github


def look(ring: Ring) -> None:
    """Ask the source once, a day later."""
    ring.now += DAY
    ring.refresh()


@pytest.mark.parametrize("known_number", [True, False])
@pytest.mark.parametrize("api", [[], [gh.status(500)], [gh.status(404)]], ids=["another account", "down", "unknown"])
def test_a_redirect_to_another_account_lets_in_nobody_new(
    github: FakeGitHub, tmp_path: Path, api: list[gh.Answer], known_number: bool
) -> None:
    """Another account's keys never count here: the keys in force stay, as in an outage, also after a restart."""
    if known_number:
        ring = learned(tmp_path, github)
    else:
        ring = Ring(tmp_path, github.url)
        ring.refresh()
        assert ring.status().remembered is None
    github.script("example", gh.redirect("/other.keys"))
    github.script(OTHER, *api)
    look(ring)
    for now in (ring, ring.restarted(tmp_path, github.url)):
        assert now.lets_in() == {ALICE}
    assert "redirected to the keys of another account, other" in ring.failures()[-1]
    assert "redirected to the keys of another account, other" in ring.status().failure
    assert ring.refusal(CAROL).startswith("key is not known; backend error: github:example: redirected to the keys of")
    ring.now += 7 * DAY
    ring.refresh()
    assert ring.lets_in() == set()


def test_a_redirect_at_the_first_look_lets_in_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """At the first look no number can confirm a redirect, so nobody gets in, and the message says what to do."""
    github.script("example", gh.redirect("/other.keys"))
    ring = Ring(tmp_path, github.url)
    ring.run(0)
    assert ring.lets_in() == set()
    assert "if the account was renamed, name github:other in the configuration" in ring.status().failure


@pytest.mark.parametrize("spec", [SPEC, f"{SPEC}#7"])
def test_a_rename_that_its_number_confirms_counts(github: FakeGitHub, tmp_path: Path, spec: str) -> None:
    """An account that its number confirms is followed to its new name, and the message says to change the name."""
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=(spec,)),))
    ring.run(0)
    github.account("example", None)
    github.account("other", 7)
    github.script("example", gh.redirect("/other.keys"))
    look(ring)
    assert ring.lets_in() == {ALICE, CAROL}
    assert ring.identity(CAROL).id == 7
    assert ring.status(spec).failure == "account 7 is called other now: name github:other in the configuration"
    github.script("other", gh.keys(BOB))
    look(ring)
    assert ring.lets_in() == {BOB}
    assert "If-None-Match" not in github.headers_of["other"][-1]


def test_the_new_name_is_confirmed_each_time(github: FakeGitHub, tmp_path: Path) -> None:
    """Each answer under the new name is confirmed, since that name may be given up and taken as well."""
    ring = learned(tmp_path, github)
    github.script("example", gh.redirect("/other.keys"))
    github.account("other", 7)
    look(ring)
    assert ring.lets_in() == {ALICE, CAROL}
    github.account("other", 8)
    github.script("other", gh.keys(BOB))
    look(ring)
    assert ring.lets_in() == {ALICE, CAROL}
    assert "which is number 8, and trusted is number 7: they do not count" in ring.status().failure


def test_a_chain_of_names_is_not_followed(github: FakeGitHub, tmp_path: Path) -> None:
    """A second redirect in a row is not followed, or a loop of names would never end."""
    ring = learned(tmp_path, github)
    github.script("example", gh.redirect("/other.keys"))
    github.script("other", gh.redirect("/third.keys"))
    github.script("third", gh.keys(CAROL))
    github.account("other", 7)
    look(ring)
    assert ring.lets_in() == {ALICE}
    assert github.requests["third"] == 0


@pytest.mark.parametrize(
    ("spec", "page", "target"),
    [
        ("gitlab:example", "example", "/other.keys"),
        ("codeberg:example", "example", "/other.keys"),
        ("launchpad:example", "~example/+sshkeys", "/~other/+sshkeys"),
        ("sourcehut:example", "~example", "/~other.keys"),
        ("url:{}/example.keys", "example", "/other.keys"),
    ],
)
def test_other_forges_have_no_number_to_confirm_a_rename(
    github: FakeGitHub, tmp_path: Path, spec: str, page: str, target: str
) -> None:
    """Other forges have no number to confirm a new name, so it is refused, and the message names the configuration."""
    spec = spec.format(github.url)
    keys = config.Keys(
        gitlab_url=github.url, codeberg_url=github.url, launchpad_url=github.url, sourcehut_url=github.url
    )
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=(spec,)),), settings=keys)
    github.script(page, gh.keys(ALICE), gh.redirect(target))
    github.script(target.removeprefix("/").removesuffix(".keys"), gh.keys(CAROL))
    ring.refresh()
    look(ring)
    assert ring.lets_in() == {ALICE}
    assert f"redirected to another address, which is not followed: '{target}'" in ring.status(spec).failure
    assert "in the configuration" in ring.status(spec).failure


def test_a_member_of_a_team_is_confirmed_alike(github: FakeGitHub, tmp_path: Path) -> None:
    """A team's member whose name redirects to another account does not bring in that account's keys."""
    github.team("acme", "ops", {"example": 7}, TOKEN)
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=("github-team:acme/ops",)),), token=TOKEN)
    ring.refresh()
    github.script("example", gh.redirect("/other.keys"))
    look(ring)
    assert ring.lets_in() == {ALICE}
    assert "redirected to the keys of another account, other" in ring.status("github-team:acme/ops").failure
    github.account("other", 7)
    look(ring)
    assert ring.lets_in() == {ALICE, CAROL}


# -- an Enterprise Server in private mode ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/login?return_to=%2Fexample.keys", "https://sso.example/"])
def test_private_mode_without_a_token_says_what_is_missing(github: FakeGitHub, tmp_path: Path, where: str) -> None:
    """A redirect to a login page is reported as private mode, and the message says what helps."""
    github.script("example", gh.redirect(where))
    github.script("login", gh.html())
    ring = Ring(tmp_path, github.url)
    ring.run(0)
    assert ring.lets_in() == set()
    assert "in private mode" in ring.status().failure
    assert "set keys.github_token" in ring.status().failure


@pytest.mark.parametrize("where", ["/login?return_to=%2Fexample.keys", "https://sso.example/"])
def test_private_mode_with_a_token_asks_the_api(github: FakeGitHub, tmp_path: Path, where: str) -> None:
    """With a token, keys come from all pages of the API; removed keys end, and the account's number is checked."""
    github.script("example", gh.redirect(where))
    github.script(KEYS_API, api_keys(*[BOB] * 100, ALICE))
    ring = Ring(tmp_path, github.url, token=TOKEN)
    ring.run(0)
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.status().failure == ""
    assert ring.identity(ALICE).id == 7
    github.script(KEYS_API, api_keys(BOB))
    look(ring)
    assert ring.lets_in() == {BOB}
    assert copy_path(tmp_path).read_bytes().endswith(f"{BOB}\n".encode())
    github.script(KEYS_API, api_keys())
    look(ring)
    assert ring.lets_in() == set()
    github.account("example", 8)
    github.script(KEYS_API, api_keys(CAROL))
    look(ring)
    assert ring.lets_in() == set()
    assert "it was renamed or taken over" in ring.status().failure


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (gh.status(500), "the server answered 500"),
        (gh.status(401), "GitHub does not accept keys.github_token"),
        (in_json([{"id": 1, "key": f"{BOB}\n{CAROL}"}]), "shows a key that is more than a line"),
        (in_json([{"id": 1}]), "an answer that is not understood"),
        (in_json("keys"), "an answer that is not understood"),
        (api_keys(*[BOB] * 501), "the account has more than 500 keys"),
        (api_keys("not a key"), "no usable key in it"),
    ],
)
def test_an_unusable_answer_of_the_api_changes_nothing(
    github: FakeGitHub, tmp_path: Path, answer: gh.Answer, reason: str
) -> None:
    """Failures of the API change nothing, as in an outage of the pages."""
    ring = Ring(tmp_path, github.url, token=TOKEN)
    ring.run(0)
    github.script("example", gh.redirect("/login"))
    github.script(KEYS_API, answer)
    look(ring)
    assert ring.lets_in() == {ALICE}
    assert reason in ring.status().failure


def test_an_account_that_the_api_does_not_know_is_gone_at_the_second_look(github: FakeGitHub, tmp_path: Path) -> None:
    """In private mode, too, a deleted account's keys end at the second look."""
    ring = Ring(tmp_path, github.url, token=TOKEN)
    ring.run(0)
    github.script("example", gh.redirect("/login"))
    github.account("example", None)
    look(ring)
    assert ring.lets_in() == {ALICE}
    ring.now += HOUR
    ring.refresh()
    assert ring.lets_in() == set()


def test_a_team_in_private_mode(github: FakeGitHub, tmp_path: Path) -> None:
    """In private mode the keys of a team's members come from the API, too."""
    github.team("acme", "ops", {"example": 7}, TOKEN)
    github.script("example", gh.redirect("/login"))
    github.script(KEYS_API, api_keys(BOB))
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=("github-team:acme/ops",)),), token=TOKEN)
    ring.refresh()
    assert ring.lets_in() == {BOB}
    assert ring.status("github-team:acme/ops").failure == ""
