"""The explanations for people: why the machine is up, when it stops, why it stopped, and a warning before it does."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.commands import as_root, program
from tests.support.idle_stop import stops_after
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory for a control socket that every account can reach; pytest's directories are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def person(server: Server) -> str:
    """The server's name for the key's owner."""
    return str(server.find("connection.authenticated")[0]["identity"]["person"])


def test_why_and_status_tell_what_keeps_it_up(make_server: MakeServer, user_key: KeyPair, reachable: Path) -> None:
    """Protects the person who pays: a user and root learn who keeps the machine up, with bytes, and when it stops."""
    server = make_server({"control": str(reachable / "control.sock"), "idle": {"timeout": "5m"}})
    client = Client(server, user_key.private)
    typed = program(client)
    why = client.output(f"{typed} why").splitlines()
    assert re.fullmatch(r"awake for \d+s, woken by 127\.0\.0\.1", why[0])
    assert why[1:] == [
        "kept up by",
        f"  {person(server)} is on as {server.login} from 127.0.0.1",
        "stops 5m after what keeps it up has ended",
        "It stops 5m after the last client has gone.",
    ]
    (asking,) = json.loads(client.output(f"{typed} sessions --json"))["connections"]
    assert asking["sessions"][0]["command"] == f"{typed} sessions --json"
    running = client.popen("cat")
    server.wait_for("session.opened", command="cat")
    status = json.loads(as_root(client, "status", "--json").stdout)
    connection = status["connections"][-1]
    assert connection["bytes_in"] > 1000
    assert connection["bytes_out"] > 1000
    assert connection["sessions"][0]["seconds"] > 0
    assert status["idle"]["reasons"][-1]["kind"] == "connection"
    running.communicate(timeout=PATIENCE)


def test_others_commands_are_theirs(make_server: MakeServer, user_key: KeyPair, reachable: Path, is_root: bool) -> None:
    """Protects people's command lines: another account sees who is on, as with who(1), but not what they run."""
    if not is_root:
        pytest.skip("only root has other accounts")
    keys = [f"file:{user_key.public}"]
    logins = [{"user": "pyssh-test", "keys": keys}, {"user": "root", "keys": keys}]
    server = make_server({"control": str(reachable / "control.sock"), "login": logins})
    client = Client(server, user_key.private)
    typed = program(client)
    running = client.popen("cat", "-l", "root")
    server.wait_for("session.opened", command="cat", user="root")
    assert "cat" in as_root(client, "sessions").stdout
    on = json.loads(client.output(f"{typed} status --json"))["connections"]
    assert [(one["user"], bool(one["sessions"])) for one in on] == [("root", False), (server.login, True)]
    assert [one["user"] for one in json.loads(client.output(f"{typed} sessions --json"))["connections"]] == [
        server.login
    ]
    refused = client.run(f"{typed} keys refresh")
    assert (refused.status, refused.stdout) == (1, b"")
    assert b"this is for root and the account that started the server" in refused.stderr
    told = json.loads(client.run(f"{typed} keys --json").stdout)["error"]
    assert told == {"code": "refused", "problems": ["this is for root and the account that started the server"]}
    running.communicate(timeout=PATIENCE)


def test_why_it_stopped_is_remembered(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects somebody who finds the machine off: the next start knows why, and how long the machine had been up."""
    server = make_server({"idle": {"timeout": "3s"}})
    assert server.wait() == 0
    server.start()
    client = Client(server, user_key.private)
    running = client.popen("cat")
    server.wait_for("session.opened", command="cat")
    (stop,) = json.loads(as_root(client, "why", "--json").stdout)["stops"]
    assert stop["why"] == "nobody has logged in for 3 s"
    assert 3 <= stop["awake"] < 3 + AT_ONCE
    assert re.search(r"stopped before\n  .* after \d+s: nobody has logged in for 3 s\n", as_root(client, "why").stdout)
    running.communicate(timeout=PATIENCE)


def test_a_login_is_told_how_the_machine_is(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the login banner: a login shell shows it, with this person's last login; a command shows none."""
    server = make_server({"idle": {"timeout": "5m", "client_idle": "30m"}})
    client = Client(server, user_key.private)
    assert client.run("true").stdout == b""
    for before in ("Just started", "(?:Just started|Awake for)"):
        with client.terminal() as terminal:
            terminal.expect(rf"{before}[^\r\n]*, woken by 127\.0\.0\.1\.\r\n")
            terminal.expect(r"It stops 5m after the last client has gone, or has not been used for 30m\.\r\n")
            when = r"\w{3} \w{3} \d\d \d\d:\d\d \w+ \d{4}"
            terminal.expect(rf"Last login of {re.escape(person(server))}: {when} from 127\.0\.0\.1\r\n")
            terminal.send("exit\n")
            terminal.wait()


def test_no_banner_where_it_is_not_wanted(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects machines without a banner: `session.banner = false`, and ~/.hushlogin, which also silences the motd."""
    server = make_server({"session": {"banner": False}})
    with Client(server, user_key.private).terminal() as terminal:
        terminal.ask("echo pro$((1))mpt", "pro1mpt")
        terminal.send("exit\n")
        terminal.wait()
    assert b"woken by" not in terminal.screen


def test_an_unused_terminal_is_warned_and_a_key_keeps_it(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person who only reads: a line warns that the machine is about to stop, and any key prevents it."""
    server = make_server({"idle": {"timeout": "2s", "boot_grace": "1m", "client_idle": "1s", "lost_client_grace": 0}})
    with Client(server, user_key.private).terminal() as terminal:
        server.wait_for("client.quiet", user=server.login)
        terminal.expect(r"pyssh-gateway: nobody is using this machine; it stops in \d s\. Press a key to keep it up\.")
        mark = server.mark()
        terminal.send(" ")
        server.wait_for("client.used", since=mark)
        assert not server.find("idle.reached")
        server.wait_for("client.quiet", since=mark)
        terminal.expect(r"it stops in \d s\. Press a key to keep it up\.")
        assert stops_after(server, "client.quiet", seconds=2)
        terminal.expect("stopping|stops|Goodbye")
        terminal.wait()
