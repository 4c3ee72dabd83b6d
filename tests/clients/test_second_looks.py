"""Second looks: a key that is missing for a moment, or a key file that is missing at the start, locks nobody out."""

import asyncio
import os
import time
from pathlib import Path

import asyncssh
import pytest

from tests.clients.test_key_freshness import MakeAsking, MakeKey, is_refused, lines_of
from tests.conftest import KeyPair, MakeServer
from tests.support import github as fake
from tests.support.client import Client
from tests.support.commands import as_root
from tests.support.forwards import Master, Target, dial, echo
from tests.support.idle_stop import moment
from tests.support.reloads import Config
from tests.support.waiting import AT_ONCE, until
from tests.wire.raw import USERAUTH_SUCCESS, connected

ACCOUNT = 583231
"""The numeric id of GitHub's `example`."""


@pytest.fixture
def make_asking(make_server: MakeServer, github: fake.FakeGitHub) -> MakeAsking:
    """Makes servers that ask GitHub, on which the login `example` is an account."""
    github.account("example", ACCOUNT)
    return MakeAsking(make_server, github)


@pytest.mark.parametrize("garbled", ["", "ssh-ed25519 AAAA"], ids=["empty", "half written"])
def test_a_file_that_is_written_cuts_off_nobody(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey, tmp_path: Path, garbled: str
) -> None:
    """A key file that an editor has emptied, and that a stranger's attempt makes the server read, ends no session."""
    keys = tmp_path / "keys"
    keys.write_text(user_key.public.read_text())
    server = make_server({"keys": {"refresh": "1h"}}, login_settings={"keys": [f"file:{keys}"]})
    client, stranger = Client(server, user_key.private), Client(server, make_key().private)
    with client.terminal("cat") as terminal:
        terminal.ask("hello", "hello.*hello")
        conn = server.find("connection.authenticated")[0]["conn"]
        keys.write_text(garbled)
        assert is_refused(stranger)
        keys.write_text(user_key.public.read_text())
        until(lambda: client.run("exit 3").status == 3, what="login")
        # However slow the machine is: if the server believed the empty file, it took the warning back.
        assert len(server.find("connection.revoked", conn=conn)) == len(server.find("connection.reinstated", conn=conn))
        terminal.ask("still here", "still here.*still here")


def test_a_missing_key_file_keeps_nobody_else_out(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey, tmp_path: Path
) -> None:
    """A break-glass file that does not exist (yet) is skipped with a warning at the start, and counts later."""
    absent, glass = tmp_path / "not yet" / "breakglass.pub", make_key()
    sources = [f"file:{user_key.public}", f"file:{absent}"]
    server = make_server({"keys": {"refresh": "1h"}}, login_settings={"keys": sources})
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    assert f"key file {absent} is not there: NOBODY GETS IN BY IT" in server.stderr
    for command in ("status", "keys", "check"):
        shown = as_root(client, command).stdout
        assert f"! file:{absent}" in shown
        assert "nobody gets in by it" in shown
    assert as_root(client, "check").returncode == 1
    assert is_refused(Client(server, glass.private))
    absent.parent.mkdir()
    absent.write_text(glass.public.read_text())
    until(lambda: Client(server, glass.private).run("exit 4").status == 4, what="login by the file")


@pytest.mark.parametrize("harm", ["open to all", "a directory", "a pipe"])
def test_an_account_cannot_keep_others_out_by_its_own_key_file(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, harm: str
) -> None:
    """An account's changes to its own key file can't prevent the start or a reload."""
    own = tmp_path / "own"
    if harm == "a directory":
        own.mkdir()
    elif harm == "a pipe":
        os.mkfifo(own)
    else:
        own.touch()
        own.chmod(0o666)
    server = make_server(login_settings={"keys": [f"file:{user_key.public}", f"file:{own}"]})
    assert f"! key file {own} can't be read: " in server.stderr
    assert Client(server, user_key.private).run("exit 3").status == 3
    Config(server).reload()


@pytest.mark.soak
def test_a_key_that_is_back_in_time_ends_nothing(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey, tmp_path: Path
) -> None:
    """A key that was missing for a moment is looked up again before its connection ends: terminal and listener go on.

    A key that stays away ends the connection.
    """
    keys, other = tmp_path / "keys", make_key()
    stranger = make_key()
    both = user_key.public.read_text() + other.public.read_text()
    keys.write_text(both)
    server = make_server({"keys": {"refresh": "1h"}}, login_settings={"keys": [f"file:{keys}"]})
    with Target(echo) as target, Master(Client(server, user_key.private), tmp_path) as master:
        visited = master.forward("-R", f"0:127.0.0.1:{target.port}")
        conn = server.find("connection.authenticated")[0]["conn"]
        keys.write_text(other.public.read_text())
        assert Client(server, stranger.private).run("true").status == 255
        revoked = server.wait_for("connection.revoked", conn=conn)
        with dial(("127.0.0.1", visited)) as dropped:
            assert dropped.recv(1) == b""
        keys.write_text(both)
        back = server.wait_for("connection.reinstated", conn=conn)
        assert moment(back) - moment(revoked) > 9.5  # nobody else's login made the server read the file
        assert back["identity"] == revoked["identity"]
        assert master.run("exit 3").status == 3
        with dial(("127.0.0.1", visited)) as visitor:
            visitor.sendall(b"x")
            assert visitor.recv(1) == b"x"

        keys.write_text(other.public.read_text())
        assert Client(server, stranger.private).run("true").status == 255
        closed = server.wait_for("connection.closed", conn=conn)
        assert closed["reason"] == "The key that you logged in with was revoked"


@pytest.mark.slow
def test_one_empty_answer_ends_no_session(make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair) -> None:
    """A source that answers once with an empty list delays new logins by seconds, and ends no session."""
    github.script("example", lines_of(user_key))
    server = make_asking(revalidate="0s")
    client = Client(server, user_key.private)
    with client.terminal("cat") as terminal:
        terminal.ask("hello", "hello.*hello")
        conn = server.find("connection.authenticated")[0]["conn"]
        github.script("example", fake.empty(), lines_of(user_key))
        client.run("true")
        server.wait_for("connection.revoked", conn=conn)
        terminal.expect("has been revoked")
        server.wait_for("connection.reinstated", conn=conn)
        terminal.expect("is back. This connection stays.")
        terminal.ask("still here", "still here.*still here")
    assert client.run("exit 3").status == 3


@pytest.mark.soak
def test_an_empty_answer_and_then_none_ends_no_session(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """A source that answers with an empty list while it goes down ends no session until it has done so twice."""
    github.script("example", lines_of(user_key))
    server = make_asking(revalidate="0s")
    client = Client(server, user_key.private)
    with client.terminal("cat") as terminal:
        terminal.ask("hello", "hello.*hello")
        conn = server.find("connection.authenticated")[0]["conn"]
        github.script("example", fake.empty(), fake.status(503))
        client.run("true")
        revoked = server.wait_for("connection.revoked", conn=conn)
        failed = server.wait_for("keys.failed", count=3, reason="the server answered 503 (Service Unavailable)")
        assert moment(failed) - moment(revoked) > 9.5  # one failure at the second look, the next at the end of the time
        terminal.ask("still here", "still here.*still here")
        github.script("example", fake.empty())
        closed = server.wait_for("connection.closed", conn=conn)
        assert closed["reason"] == "The key that you logged in with was revoked"


def test_an_agent_waits_once_while_github_hangs(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """The first login after a start from a copy, by the last of forty keys, waits for two seconds in all."""
    github.script("example", lines_of(user_key), fake.hang())
    server = make_asking(timeout="60s", limits={"auth_attempts": 100, "login_grace": "10m"})
    assert server.stop() == 0
    server.start()

    async def log_in() -> float:
        async with connected(server, user_key.private, authenticate=False) as client:
            began = time.monotonic()
            for _ in range(40):
                client.offer(asyncssh.generate_private_key("ssh-ed25519"))
                await client.is_refused()
            client.prove(asyncssh.read_private_key(user_key.private))
            assert (await client.hear(USERAUTH_SUCCESS))[0] == USERAUTH_SUCCESS
            return time.monotonic() - began

    assert asyncio.run(log_in()) < 2 + AT_ONCE  # a wait for each key would take forty times two seconds
    github.wait_for_requests("example", 2)
