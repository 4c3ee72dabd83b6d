"""Keys from a GitHub account, over real HTTP from a server that plays GitHub, with logins by the real client."""

import pwd
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair
from tests.support import github as fake
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import until

MakeGitHubServer = Callable[..., Server]

ACCOUNT, SOMEBODY_ELSE = 583231, 1024025
"""The numeric ids of two accounts at GitHub."""


@pytest.fixture
def make_github_server(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, github: fake.FakeGitHub
) -> Iterator[MakeGitHubServer]:
    """Makes servers that let in the keys of GitHub's `example`; the test starts them, and they are stopped after it."""
    made: list[Server] = []

    def make(source: str = "github:example", **keys: object) -> Server:
        settings = {"keys": {"github_url": github.url, "timeout": "2s"} | keys}
        directory = tmp_path_factory.mktemp("server")
        made.append(Server(directory, login=account.pw_name, keys=[source], settings=settings))
        return made[-1]

    yield make
    for server in made:
        server.end()
    for server in made:
        server.check_clean()


def line_of(pair: KeyPair) -> str:
    """A key's line as GitHub shows it."""
    return " ".join(pair.public.read_text().split()[:2])


def fingerprint_of(pair: KeyPair) -> str:
    """A key's fingerprint as OpenSSH prints it."""
    command = ["ssh-keygen", "-lf", str(pair.public)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[1]


def test_key_of_a_github_account_gets_in(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, make_key: Callable[..., KeyPair]
) -> None:
    """Protects the whole chain: a key on GitHub gets a shell, and the log names the account that the key came from."""
    github.script("example", fake.keys(user_key.public.read_text().strip()))
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert Client(server, make_key().private).run("true").status == 255
    assert server.wait_for("connection.authenticated")["source"] == "github:example"
    assert github.requests["example"] >= 1


def test_last_good_copy_lets_in_while_github_is_down(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects a start without network: people who could log in before still can, and the log names the copy."""
    github.script("example", fake.keys(user_key.public.read_text().strip()), fake.status(500))
    server = make_github_server()
    server.start()
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    assert server.stop() == 0
    server.start()
    assert client.run("exit 4").status == 4
    assert server.wait_for("keys.loaded")["origin"] == "last-good"


def test_start_does_not_wait_for_a_github_that_hangs(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects the cold start: with a last good copy no login waits for an answer that does not come."""
    github.script("example", fake.keys(user_key.public.read_text().strip()), fake.hang())
    server = make_github_server(timeout="60s")
    server.start()
    server.stop()
    server.start()
    assert Client(server, user_key.private).run("exit 4", seconds=10).status == 4
    assert server.stop() == 0


def test_key_removed_on_github_is_removed_here(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, make_key: Callable[..., KeyPair]
) -> None:
    """Protects against people who have left: after a restart a key that is gone from GitHub gets nobody in.

    Their successor's key, which the last good copy does not have, makes the server ask GitHub.
    """
    other = make_key()
    github.script("example", fake.keys(user_key.public.read_text()), fake.keys(other.public.read_text()))
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("exit 3").status == 3
    server.stop()
    server.start()
    assert Client(server, other.private).run("exit 4").status == 4
    assert Client(server, user_key.private).run("true").status == 255


@pytest.mark.parametrize(
    "answer",
    [fake.empty(), fake.status(404), fake.html(), fake.huge(), fake.garbage(), fake.status(500), fake.hang_up()],
    ids=["empty", "unknown", "html", "huge", "garbage", "down", "hangs-up"],
)
def test_useless_answer_lets_in_nobody(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, answer: fake.Answer
) -> None:
    """Protects against an answer that is not a list of keys: the server runs, says so, and lets nobody in by it."""
    github.script("example", answer)
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("true").status == 255
    assert "nobody gets in" in server.stderr
    assert not server.find("connection.authenticated")


def test_options_from_the_network_are_refused(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, make_key: Callable[..., KeyPair]
) -> None:
    """Protects against a source that sends key options: the line with options is refused, the others count."""
    optioned = make_key()
    github.script("example", fake.keys(f'environment="A=b" {line_of(optioned)}', line_of(user_key)))
    server = make_github_server()
    server.start()
    assert Client(server, optioned.private).run("true").status == 255
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert "options are not allowed" in server.find("keys.loaded")[0]["refusals"][0]


# -- GitHub's failures --------------------------------------------------------------------------------------------


class Trusting(NamedTuple):
    """A server that asks GitHub again after each accepted login, and three people."""

    server: Server
    github: fake.FakeGitHub
    known: KeyPair
    newcomer: KeyPair
    stranger: KeyPair

    def status(self, pair: KeyPair) -> int:
        """The exit status of a login: 3 if it got in."""
        return Client(self.server, pair.private).run("exit 3").status

    def let_in_until(self, event: str, since: int, **fields: object) -> dict[str, object]:
        """Log in repeatedly, so that the server asks GitHub, until there is such an event."""

        def happened() -> list[dict[str, object]]:
            assert self.status(self.known) == 3
            return self.server.find(event, since, **fields)

        return until(happened, what=event)[0]


@pytest.fixture(scope="module")
def trusting(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, make_key: Callable[..., KeyPair]
) -> Iterator[Trusting]:
    """One server for all failures: each test begins and ends with GitHub listing one key."""
    known, newcomer, stranger = make_key(), make_key(), make_key()
    with fake.FakeGitHub() as github:
        github.account("example", ACCOUNT)
        github.script("example", fake.keys(line_of(known)))
        keys = {"github_url": github.url, "timeout": "500ms", "revalidate": "0s", "refresh": "1h"}
        directory = tmp_path_factory.mktemp("server")
        source = f"github:example#{ACCOUNT}"
        with Server(directory, login=account.pw_name, keys=[source], settings={"keys": keys}) as server:
            yield Trusting(server, github, known, newcomer, stranger)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(fake.status(500), "the server answered 500", id="500"),
        pytest.param(fake.status(403), "the server answered 403", id="403"),
        pytest.param(fake.limited(429, Retry_After="1"), "wants to be left alone for 1s", id="429"),
        pytest.param(fake.status(404), "in a minute, its keys are revoked", id="404"),
        pytest.param(fake.drip_headers(), "no answer within 0.5 s", id="slow"),
        pytest.param(fake.not_http(), "does not answer in proper HTTP", id="not HTTP"),
        pytest.param(fake.html(), "got an HTML page instead of keys", id="HTML"),
        pytest.param(fake.huge(), "answer larger than 1048576 bytes", id="huge"),
        pytest.param(fake.truncated("# nothing"), "the answer was cut off", id="cut off"),
        pytest.param(fake.garbage(), "no usable key", id="garbage"),
        pytest.param(fake.redirect("http://localhost:1/example.keys"), "redirected to another place", id="redirect"),
    ],
)
def test_failure_keeps_who_was_in_and_lets_in_nobody_else(trusting: Trusting, answer: fake.Answer, reason: str) -> None:
    """Protects logins from outages, and against outages that let anybody in; the log tells one failure from another.

    Before, during and after the failure the known key gets in, and the stranger's never does. An added key gets in as
    soon as GitHub can list it.
    """
    server, github = trusting.server, trusting.github
    assert trusting.status(trusting.known) == 3
    since = server.mark()
    github.script("example", answer)
    failed = trusting.let_in_until("keys.failed", since)
    assert reason in str(failed["reason"])
    assert failed["kept"] == 1

    during = server.mark()
    assert trusting.status(trusting.known) == 3
    assert trusting.status(trusting.newcomer) == trusting.status(trusting.stranger) == 255
    denied = [server.wait_for("auth.attempt", since=during, result="denied", count=count) for count in (1, 2)]
    assert {event["reason"].partition(":")[0] for event in denied} == {"key is not known; backend error"}
    assert not server.find("keys.loaded", during)

    github.script("example", fake.keys(line_of(trusting.known), line_of(trusting.newcomer)))
    trusting.let_in_until("keys.loaded", since, added=[fingerprint_of(trusting.newcomer)])
    assert trusting.status(trusting.newcomer) == 3
    assert trusting.status(trusting.stranger) == 255
    github.script("example", fake.keys(line_of(trusting.known)))
    trusting.let_in_until("keys.loaded", since, removed=[fingerprint_of(trusting.newcomer)])
    assert trusting.status(trusting.newcomer) == 255
    assert not server.find("connection.revoked", since)


def test_empty_answer_revokes_at_once(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects against a person who has left and removed all keys from the account: an empty list is valid, too."""
    github.script("example", fake.keys(line_of(user_key)))
    server = make_github_server(revalidate="0s")
    server.start()
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    github.script("example", fake.empty())
    client.run("true")  # perhaps the last login that succeeds; it makes the server ask GitHub
    server.wait_for("keys.loaded", accepted=0)
    assert client.run("exit 3").status == 255
    assert server.wait_for("auth.attempt", result="denied")["reason"] == "key is not known"


def test_unchanged_keys_stay(make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair) -> None:
    """Protects GitHub's rate limit: the ETag outlives a restart, and "not modified" keeps the keys in force."""
    github.script("example", fake.conditional(fake.keys(line_of(user_key)), etag='"1"'))
    server = make_github_server(revalidate="0s")
    server.start()
    until(
        lambda: any(path.name.startswith("github") for path in server.directory.rglob("fetched/*")),
        what="the copy on disk",
    )
    server.stop()
    server.start()
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    loaded = server.wait_for("keys.loaded", origin="fetched")
    assert (loaded["accepted"], loaded["changed"]) == (1, False)
    assert github.headers_of["example"][-1]["If-None-Match"] == '"1"'
    assert client.run("exit 3").status == 3


# -- accounts that change hands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["github:example", f"github:example#{ACCOUNT}"], ids=["remembered", "pinned"])
def test_a_recycled_account_lets_in_nobody(
    make_github_server: MakeGitHubServer,
    github: fake.FakeGitHub,
    user_key: KeyPair,
    make_key: Callable[..., KeyPair],
    source: str,
) -> None:
    """Protects against an account that somebody else has taken: no new or old key gets in, also after a restart.

    The log reports it prominently, and connections that were let in by the account are told and ended.
    """
    taker = make_key()
    github.account("example", ACCOUNT)
    github.script("example", fake.keys(line_of(user_key)))
    server = make_github_server(source, revalidate="0s")
    server.start()
    client = Client(server, user_key.private)
    # The server has the account's number once a session shows it.
    until(lambda: f"github:example#{ACCOUNT} " in client.output("echo $PYSSH_IDENTITY"), what="account number")
    with client.terminal("cat") as terminal:
        terminal.ask("on", "on.*on")
        github.account("example", SOMEBODY_ELSE)
        github.script("example", fake.keys(line_of(user_key), line_of(taker)))
        client.run("true")  # perhaps the last login that succeeds; it makes the server ask GitHub
        changed = server.wait_for("keys.account_changed")
        assert (changed["expected"], changed["found"]) == (ACCOUNT, SOMEBODY_ELSE)
        terminal.expect("has been revoked")
    for pair in (taker, user_key):
        assert Client(server, pair.private).run("true").status == 255
    server.stop()
    server.start()
    for pair in (taker, user_key):
        assert Client(server, pair.private).run("true").status == 255
    assert not server.find("connection.authenticated")
