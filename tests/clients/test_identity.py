"""Which person did something: people who share one Unix account are told apart in all their events and sessions."""

import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair
from tests.support import github as fake
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, answer, echo, free_port
from tests.support.server import EventFields, Server
from tests.support.waiting import PATIENCE

AMOS, BEA = 583231, 1024025
"""The numeric ids of two accounts at GitHub."""

FORGED = "github:somebody-else#1 SHA256:forged"


class Person(NamedTuple):
    """A person with a key: the name in the log, the account's number, and what a session prints."""

    key: KeyPair
    name: str
    number: int | None

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint as OpenSSH prints it."""
        command = ["ssh-keygen", "-lf", str(self.key.public)]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[1]

    @property
    def identity(self) -> EventFields:
        """The fields that every event has."""
        return {"person": self.name, "id": self.number, "fingerprint": self.fingerprint}

    @property
    def facts(self) -> str:
        """The facts that every session has."""
        number = "" if self.number is None else f"#{self.number}"
        return f"{self.name}{number} {self.fingerprint}"


@pytest.fixture(scope="module")
def people(make_key: Callable[..., KeyPair]) -> dict[str, Person]:
    """Two with accounts at GitHub, one by a file, whose comment names them, and one whose line forges an identity."""
    keys = [make_key() for _ in range(4)]
    return {
        "amos": Person(keys[0], "github:amos", AMOS),
        "bea": Person(keys[1], "github:bea", BEA),
        "carl": Person(keys[2], "file:carl@laptop", None),
        "dora": Person(keys[3], "file:dora's␣old␣key", None),
    }


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, people: dict[str, Person]
) -> Iterator[Server]:
    """The server that they share, with one account for all of them; clients may set any variable."""
    directory = tmp_path_factory.mktemp("server")
    blobs = {name: " ".join(person.key.public.read_text().split()[:2]) for name, person in people.items()}
    lines = directory / "authorized_keys"
    lines.write_text(
        f"{blobs['carl']} carl@laptop\n"
        f'environment="PYSSH_IDENTITY={FORGED}",environment="GREETING=hello" {blobs["dora"]} dora\'s old key\n'
    )
    sources = [f"github:amos#{AMOS}", f"github:bea#{BEA}", f"file:{lines}"]
    with fake.FakeGitHub() as github:
        for name, number in (("amos", AMOS), ("bea", BEA)):
            github.account(name, number)
            github.script(name, fake.keys(blobs[name]))
        settings = {"keys": {"github_url": github.url}, "session": {"accept_env": ["*"]}}
        with Server(directory, login=account.pw_name, keys=sources, settings=settings) as running:
            # Whatever the server opens at the first login is open when the first test begins.
            assert Client(running, people["amos"].key.private).run("true").status == 0
            running.wait_for("connection.closed")
            yield running


@pytest.mark.parametrize("name", ["amos", "bea", "carl"])
def test_every_event_says_who(
    server: Server, people: dict[str, Person], scratch: Path, tmp_path: Path, name: str
) -> None:
    """Protects the record of a shared account: the log names the person for everything done on a connection."""
    person = people[name]
    client = Client(server, person.key.private)
    since = server.mark()
    port = free_port()
    with Target(echo) as target, Master(client, tmp_path) as master:
        assert master.run("exit 3").status == 3
        master.forward("-L", f"{tmp_path}/local:127.0.0.1:{target.port}")
        assert answer(str(tmp_path / "local"), b"out") == b"out"
        master.forward("-R", f"{port}:127.0.0.1:{target.port}")
        assert answer(("127.0.0.1", port), b"back") == b"back"
        assert master.run("no-such-subsystem", "-s").status != 0
        (tmp_path / "file").write_bytes(b"data")
        batch = f"put {tmp_path}/file {scratch}/file\n".encode()
        command = ["sftp", "-b", "-", "-o", f"ControlPath={tmp_path}/m", *client.options(), f"{server.login}@127.0.0.1"]
        subprocess.run(
            command, input=batch, check=True, capture_output=True, env=client_environment(), timeout=PATIENCE
        )
    authenticated = server.wait_for("connection.authenticated", since=since)
    server.wait_for("connection.closed", since=since)
    events = [event for event in server.events[since:] if event.get("conn") == authenticated["conn"]]
    expected = {
        "auth.attempt",
        "connection.authenticated",
        "session.opened",
        "session.closed",
        "request.denied",
        "forward.listening",
        "forward.opened",
        "forward.closed",
        "sftp.operation",
        "connection.closed",
    }
    assert {event["event"] for event in events} == expected | {"connection.opened"}
    assert {event["user"] for event in events if "user" in event} == {server.login}
    for event in events:
        if event["event"] != "connection.opened":
            assert event["identity"] == person.identity, event


@pytest.mark.parametrize("name", ["amos", "bea", "carl", "dora"])
@pytest.mark.parametrize("options", [("-T",), ("-tt",)], ids=["pipes", "pty"])
def test_a_session_knows_who_it_is(
    server: Server, people: dict[str, Person], name: str, options: tuple[str, ...]
) -> None:
    """Protects programs that use the identity (git hooks, deploys): the person, the account's number and the key.

    Neither the client nor a key's line can claim to be somebody else.
    """
    client = Client(server, people[name].key.private)
    show = 'echo "$PYSSH_IDENTITY|$OTHER|$GREETING"'
    sets = ("-o", f'SetEnv="PYSSH_IDENTITY={FORGED}" OTHER=set')
    told, other, greeting = client.run(show, *options, *sets).stdout.decode().strip().split("|")
    assert told == people[name].facts
    assert other == "set"  # clients may set variables
    assert greeting == ("hello" if name == "dora" else "")  # and so may key lines
    sends = ("-o", "SendEnv=PYSSH_IDENTITY")
    sent = client.run("echo $PYSSH_IDENTITY", *options, *sends, environ={"PYSSH_IDENTITY": FORGED})
    assert sent.stdout.decode().strip() == people[name].facts


def test_two_people_at_once_are_not_mixed_up(server: Server, people: dict[str, Person]) -> None:
    """Protects against identities that are stored per account: two people at once keep their own identities."""
    since = server.mark()
    amos, bea = (Client(server, people[name].key.private) for name in ("amos", "bea"))
    with amos.terminal("cat") as first, bea.terminal("cat") as second:
        for terminal in (first, second):
            terminal.ask("on", "on.*on")
    server.wait_for("connection.closed", since=since, count=2)
    for name in ("amos", "bea"):
        (opened,) = server.find("session.opened", since, identity=people[name].identity)
        for event in server.events[since:]:
            if event.get("conn") == opened["conn"] and event.get("identity") is not None:
                assert event["identity"] == people[name].identity
    assert len({event["conn"] for event in server.find("session.opened", since)}) == 2
