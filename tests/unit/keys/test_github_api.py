"""keys.github: account numbers and team members, from a server that imitates GitHub's API."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys import github as api
from pyssh_gateway.keys.github import MAX_PAGES, PAGE_SIZE, Member, Old, compose, key_lines, split, times
from pyssh_gateway.keys.http_answer import FetchError
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path, in_json
from tests.support.waiting import PATIENCE

KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
NOW = 1_790_000_000.0
TOKEN = "hush"
MONA, AMOS = Member("mona", 2), Member("Amos-", 10)


def settings(github: FakeGitHub, token: str = "") -> config.Keys:
    """A configuration with this GitHub."""
    return config.Keys(github_url=github.url, github_token=config.Secret(token), timeout=config.Duration(PATIENCE))


def account_id(github: FakeGitHub, login: str = "example", token: str = "") -> int:
    """The number of an account, at NOW."""
    return asyncio.run(api.account_id(login, settings(github, token), now=lambda: NOW))


def members(github: FakeGitHub, token: str = TOKEN) -> tuple[Member, ...]:
    """The members of the team example/ops."""
    return asyncio.run(api.team_members("example", "ops", settings(github, token), now=lambda: NOW))


def test_tells_an_account_s_number(github: FakeGitHub) -> None:
    """The API's answer gives an account's number, which is the only stable fact about it."""
    github.account("Example", 583231)
    assert account_id(github) == 583231
    assert github.requests == {api_path("users/example"): 1}
    (headers,) = github.headers
    assert headers["Accept"] == "application/vnd.github+json"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert headers["User-Agent"].startswith("pyssh-gateway/")
    assert "Authorization" not in headers


def test_asks_with_the_token_if_there_is_one(github: FakeGitHub) -> None:
    """With a token the API answers 5,000 requests an hour instead of 60."""
    github.account("example", 583231)
    assert account_id(github, token=TOKEN) == 583231
    assert github.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_an_account_that_is_not_there_is_gone(github: FakeGitHub) -> None:
    """A deleted account is told apart from an API that is down."""
    for answer in (gh.status(404), gh.status(410)):
        github.script(api_path("users/example"), answer)
        with pytest.raises(FetchError, match=r"^no such account \(4") as caught:
            account_id(github)
        assert caught.value.gone


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (gh.status(500), "the server answered 500"),
        (
            gh.status(401),
            r"answers only to those who show a token: set keys\.github_token .* any account there \(401\)",
        ),
        (gh.status(403), r"the server answered 403 \(Forbidden\)$"),
        (gh.html(), "got an HTML page instead of JSON"),
        (gh.truncated(), "cut off"),
        (gh.huge(), "larger than"),
        (gh.raw(b""), "is not understood"),
        (gh.raw(b"{"), "is not understood"),
        (in_json([]), "is not understood"),
        (in_json({"id": 1}), "is not understood"),
        (in_json({"login": "example"}), "is not understood"),
        (in_json({"login": "example", "id": None}), "is not understood"),
        (in_json({"login": "example", "id": "1"}), "is not understood"),
        (in_json({"login": "example", "id": True}), "is not understood"),
        (in_json({"login": "example", "id": 1.5}), "is not understood"),
        (in_json({"login": "example", "id": 0}), "is not understood"),
        (in_json({"login": "example", "id": -1}), "is not understood"),
        (in_json({"login": "example", "id": 10**30}), "is not understood"),
        (gh.raw(b'{"login":"example","id":7,"plan":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "is not understood"),
        (in_json({"login": "somebody", "id": 1}), "account example and tells about another one"),
    ],
)
def test_says_why_there_is_no_number(github: FakeGitHub, answer: gh.Answer, reason: str) -> None:
    """No broken answer gives a number, and none counts as a deleted account."""
    github.script(api_path("users/example"), answer)
    with pytest.raises(FetchError, match=reason) as caught:
        account_id(github)
    assert not caught.value.gone


def test_knows_when_the_api_has_had_enough(github: FakeGitHub) -> None:
    """When 60 requests an hour are used up, the time that GitHub names is obeyed."""
    answer = gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(NOW) + 600))
    github.script(api_path("users/example"), answer)
    with pytest.raises(FetchError) as caught:
        account_id(github)
    assert caught.value.retry_after == 600.0


def test_lists_a_team(github: FakeGitHub) -> None:
    """All members of a team are listed with their numbers."""
    github.team("Example", "ops", {"mona": 9, "Amos-": 2}, token=TOKEN)
    assert members(github) == (Member("Amos-", 2), Member("mona", 9))
    assert github.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    github.team("example", "ops", {}, token=TOKEN)
    assert members(github) == ()


def test_lists_a_team_of_many_pages(github: FakeGitHub) -> None:
    """All pages of a team are read up to the limit, and a larger team is refused as a whole."""
    everybody = {f"user-{number}": number for number in range(1, MAX_PAGES * PAGE_SIZE + 1)}
    github.team("example", "ops", everybody, token=TOKEN)
    assert members(github) == tuple(Member(login, number) for login, number in everybody.items())
    assert github.requests[api_path("orgs/example/teams/ops/members")] == MAX_PAGES
    github.team("example", "ops", everybody | {"one-more": 10_000}, token=TOKEN)
    with pytest.raises(FetchError, match="the team has more than 500 members"):
        members(github)


def test_without_a_token_no_team_is_asked_for(github: FakeGitHub) -> None:
    """A team without a token gives an error that names the missing setting."""
    with pytest.raises(FetchError, match=r"set keys\.github_token \(PYSSH_GATEWAY_KEYS__GITHUB_TOKEN\)"):
        members(github, token="")
    assert github.requests.total() == 0


def test_a_team_that_is_not_there_is_gone_if_the_token_would_see_it(github: FakeGitHub) -> None:
    """A deleted team lets nobody in, but a token that lost its rights takes nobody's keys away."""
    github.team("example", "ops", {"mona": 2}, token=TOKEN)
    github.disband("example", "ops")
    with pytest.raises(FetchError, match=r"^no such team \(404\)") as caught:
        members(github)
    assert caught.value.gone
    github.script(api_path("orgs/example/teams"), gh.status(404))
    with pytest.raises(FetchError, match=r"no organisation example, or keys\.github_token may not see") as caught:
        members(github)
    assert not caught.value.gone
    github.script(api_path("orgs/example/teams"), gh.limited(429, Retry_After="30"))
    with pytest.raises(FetchError, match="429") as caught:
        members(github)
    assert (caught.value.gone, caught.value.retry_after) == (False, 30.0)


def test_a_token_that_has_expired_is_said_to_have(github: FakeGitHub) -> None:
    """With a token that GitHub refuses, the log names the setting."""
    github.team("example", "ops", {"mona": 2}, token="another")
    with pytest.raises(FetchError, match=r"GitHub does not accept keys\.github_token") as caught:
        members(github)
    assert not caught.value.gone
    assert TOKEN not in caught.value.reason


@pytest.mark.parametrize(
    "link",
    [
        "https://other.example/page/2",
        "http://user@{host}/page/2",
        "http://{host}:1/page/2",
        "https://{host}/page/2",
        "/page/2",
        "http://{host}:port/",
    ],
)
def test_a_list_goes_on_at_the_same_server_only(github: FakeGitHub, link: str) -> None:
    """The list continues only at the same server: the token goes nowhere else, and nobody else names members."""
    host = github.url.removeprefix("http://")
    answer = gh.with_headers(in_json([]), Link=f'<{link.format(host=host)}>; rel="next"')
    github.script(api_path("orgs/example/teams/ops/members"), answer)
    with pytest.raises(FetchError, match="continues the list of members at another place"):
        members(github)
    assert github.requests.total() == 1


@pytest.mark.parametrize("login", ["", "a/b", "..", "a#1", "a?x", "a\nb", "\u00e9", "a" * 40])
def test_a_login_that_is_none_is_refused(github: FakeGitHub, login: str) -> None:
    """A login from an answer never becomes part of a URL that leads somewhere else."""
    github.script(api_path("orgs/example/teams/ops/members"), in_json([{"login": login, "id": 1}]))
    with pytest.raises(FetchError, match="names a member with a login that is none"):
        members(github)


def test_somebody_on_two_pages_is_one_member(github: FakeGitHub) -> None:
    """A member on two pages, of a team that changed meanwhile, is listed once."""
    path = api_path("orgs/example/teams/ops/members")
    more = gh.with_headers(in_json([{"login": "mona", "id": 2}]), Link=f'<{github.url}/{path}?page=2>; rel="next"')
    github.script(path, more, in_json([{"login": "mona", "id": 2}]))
    assert members(github) == (MONA,)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"", b""),
        (b"\n \r\n# no keys\n", b""),
        (KEY, KEY + b"\n"),
        (b"  " + KEY + b"\t mona@laptop # x\r\n\n" + KEY + b" a\n", KEY + b"\n" + KEY + b"\n"),
        (b"restrict " + KEY + b"\n" + KEY, KEY + b"\n"),
        (b'command="x" ' + KEY + b"\n" + KEY, KEY + b"\n"),
        (b"cert-authority " + KEY + b"\n" + KEY, KEY + b"\n"),
        (b"# github:admin#1\n" + KEY, KEY + b"\n"),
        (b"ssh-dss AAAA= old\n", b"ssh-dss AAAA=\n"),
        (b"restrict " + KEY, b""),
        (b"no-pty " + KEY + b"\njunk", b""),
    ],
)
def test_takes_keys_and_nothing_else(text: bytes, kept: bytes) -> None:
    """No option and no line that names another member gets from a member's keys into the team's text."""
    assert key_lines(text) == kept


@pytest.mark.parametrize("text", [b"Rate limit exceeded.\n", b"ssh-ed25519 A*B", b"ssh-ed25519"])
def test_a_text_without_any_key_is_refused(text: bytes) -> None:
    """A faulty text from a server does not take a member's keys away."""
    with pytest.raises(FetchError, match="no usable key in it"):
        key_lines(text)
    with pytest.raises(FetchError, match=r"^github:mona: no usable key in it"):
        compose([(AMOS, KEY), (MONA, text)])


def test_a_team_s_text_can_be_read() -> None:
    """A team's copy on disk shows which member has which keys."""
    composed = compose([(MONA, KEY + b" laptop\n" + KEY + b" phone\n"), (AMOS, b"")])
    assert composed == b"# github:mona#2\n" + KEY + b"\n" + KEY + b"\n# github:Amos-#10\n"
    assert split(composed) == ((MONA, KEY + b"\n" + KEY + b"\n"), (AMOS, b""))
    assert (compose([]), split(b"")) == (b"", ())


def test_a_team_s_text_says_whose_keys_are_older() -> None:
    """Keys of a member who could not be asked about keep the time of that member's last answer."""
    composed = compose([(MONA, KEY + b"\n"), (AMOS, KEY + b"\n")], {AMOS: Old(NOW + 0.5)})
    assert b"# github:mona#2\n" in composed
    assert b"# github:Amos-#10 as of 2026-09-21T14:13:20+00:00\n" in composed
    assert split(composed) == ((MONA, KEY + b"\n"), (AMOS, KEY + b"\n"))
    assert times(composed) == {AMOS: Old(NOW)}
    composed = compose([(MONA, KEY), (AMOS, KEY)], {MONA: Old(NOW, NOW + 60)})
    line, _, _ = composed.partition(b"\n")
    assert line == b"# github:mona#2 as of 2026-09-21T14:13:20+00:00 gone since 2026-09-21T14:14:20+00:00"
    assert times(composed) == {MONA: Old(NOW, NOW + 60)}
    assert times(b"") == {}


def test_a_team_s_text_has_a_bound() -> None:
    """A text that would not fit into a copy is refused as a whole."""
    lines = (KEY + b"\n") * (MAX_KEYS_BYTES // len(KEY) - 1000)
    assert split(compose([(MONA, lines)])) == ((MONA, lines),)
    with pytest.raises(FetchError, match=f"the team's 2 members are larger than {MAX_KEYS_BYTES} bytes"):
        compose([(MONA, lines), (AMOS, lines)])


LOGINS = st.from_regex(r"[A-Za-z0-9]{1,20}(-[a-z]{1,5})?", fullmatch=True)
MEMBERS = st.builds(Member, LOGINS, st.integers(1, 10**18 - 1))
LINES = st.sampled_from([KEY, b"ssh-rsa AAAA==", b"sk-ssh-ed25519@openssh.com AAAA", b"ecdsa-sha2-nistp256 A+/9="])
TEXTS = st.lists(LINES, max_size=3).map(lambda lines: b"".join(line + b"\n" for line in lines))


@given(st.lists(st.tuples(MEMBERS, TEXTS), max_size=4))
def test_split_undoes_compose(team: list[tuple[Member, bytes]]) -> None:
    """Each key stays with its member."""
    assert split(compose(team)) == tuple(team)


@given(st.lists(st.tuples(MEMBERS, st.binary(max_size=40) | TEXTS), max_size=4))
def test_whatever_members_have_stays_theirs(team: list[tuple[Member, bytes]]) -> None:
    """No bytes in one member's keys can add another member."""
    try:
        composed = compose(team)
    except FetchError:
        return
    assert [member for member, _ in split(composed)] == [member for member, _ in team]


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([KEY, b"# github:a#1", b"# github:b#2", b"", b"#", b" "]), max_size=5).map(b"\n".join)
)
def test_compose_undoes_split(text: bytes) -> None:
    """A text that was changed on disk is refused, unless it is one that we could have written."""
    try:
        team = split(text)
    except FetchError:
        return
    assert compose(team) == text


@pytest.mark.parametrize(
    "text",
    [
        KEY + b"\n",
        b"# github:mona#2\n" + KEY,
        b"# github:mona#2\n" + KEY + b" comment\n",
        b"# github:mona#2\nrestrict " + KEY + b"\n",
        b"# github:mona#2\n\n",
        b"# github:mona#02\n",
        b"# github:mona\n",
        b"# github:mo/na#2\n",
        b"# github:\xff#2\n",
        b"# github:mona#" + b"9" * 5000 + b"\n",
        b"# gitlab:mona#2\n",
        b"# github:mona#2\r\n",
        b"# github:mona#2 as of 2026-09-21T14:13:20+02:00\n",
        b"# github:mona#2 gone since 2026-09-21T14:13:20+00:00\n",
        b"# github:mona#2 as of 2026-09-21T14:13:20+00:00 gone since 2026-09-31T14:13:20+00:00\n",
        b"# github:mona#2 as of 2026-09-31T14:13:20+00:00\n",
        b"# github:mona#2 as of 2026-09-21T14:13:20+00:00 \n",
    ],
)
def test_a_text_that_is_no_team_s_is_refused(text: bytes) -> None:
    """A damaged copy never adds a member to the team."""
    with pytest.raises(FetchError):
        split(text)
