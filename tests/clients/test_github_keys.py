"""Keys from a GitHub account, over real HTTP from a server that plays GitHub, with logins by the real client."""

import pwd
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import KeyPair
from tests.support import github as fake
from tests.support.client import Client
from tests.support.server import Server

MakeGitHubServer = Callable[..., Server]


@pytest.fixture
def github() -> Iterator[fake.FakeGitHub]:
    """A GitHub of our own."""
    with fake.FakeGitHub() as running:
        yield running


@pytest.fixture
def make_github_server(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, github: fake.FakeGitHub
) -> Iterator[MakeGitHubServer]:
    """Makes servers that let in the keys of GitHub's `example`; they are started by the test and stopped after it."""
    made: list[Server] = []

    def make(**keys: object) -> Server:
        settings = {"keys": {"github_url": github.url, "timeout": "2s"} | keys}
        directory = tmp_path_factory.mktemp("server")
        made.append(Server(directory, login=account.pw_name, keys=["github:example"], settings=settings))
        return made[-1]

    yield make
    for server in made:
        server.end()
    for server in made:
        server.check_clean()


def test_key_of_a_github_account_gets_in(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, make_key: Callable[..., KeyPair]
) -> None:
    """Protects the whole arc: key on GitHub in, shell out, and the log names the account that it came from."""
    github.script("example", fake.keys(user_key.public.read_text().strip()))
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert Client(server, make_key().private).run("true").status == 255
    assert server.find("connection.authenticated")[0]["source"] == "github:example"
    assert github.requests["example"] >= 1


def test_last_good_copy_lets_in_while_github_is_down(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects a start without network: who could log in before can log in, and the log says from what."""
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
    """Protects the cold start: with a last good copy nobody waits for an answer that does not come."""
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
    """Protects against people who have left: after a restart a key that is gone from GitHub gets nobody in."""
    other = make_key()
    github.script("example", fake.keys(user_key.public.read_text()), fake.keys(other.public.read_text()))
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("exit 3").status == 3
    server.stop()
    server.start()
    server.wait_for("keys.loaded", origin="fetched")
    assert Client(server, user_key.private).run("true").status == 255
    assert Client(server, other.private).run("exit 4").status == 4


@pytest.mark.parametrize(
    "answer",
    [fake.empty(), fake.status(404), fake.html(), fake.huge(), fake.garbage(), fake.status(500), fake.hang_up()],
    ids=["empty", "unknown", "html", "huge", "garbage", "down", "hangs-up"],
)
def test_useless_answer_lets_in_nobody(
    make_github_server: MakeGitHubServer, github: fake.FakeGitHub, user_key: KeyPair, answer: fake.Answer
) -> None:
    """Protects against what is not a list of keys: the server runs, says so, and lets in nobody by it."""
    github.script("example", answer)
    server = make_github_server()
    server.start()
    assert Client(server, user_key.private).run("true").status == 255
    assert "nobody gets in" in server.stderr
    assert not server.find("connection.authenticated")
