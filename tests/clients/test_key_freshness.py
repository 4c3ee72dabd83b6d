"""How quickly changes of keys take effect: added, removed, at a start, and while strangers try; with the real ssh."""

import asyncio
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import github as fake
from tests.support import processes
from tests.support.client import Client
from tests.support.forwards import Master, Target, dial, echo, free_port
from tests.support.idle_stop import moment
from tests.support.server import Server, Settings
from tests.support.waiting import AT_ONCE, PATIENCE, until
from tests.wire.raw import connected

MakeKey = Callable[..., KeyPair]

ACCOUNT = 583231
"""The numeric id of GitHub's `example`, whose keys are added and removed in these tests."""

AT_ONCE_SECONDS = 3.0
"""The promise: how long a login may take with a key that was added a moment ago, and how much longer than
`keys.revalidate` a removed key may still work."""

LOOK_SECONDS = 2.0
"""How long an unknown key waits at most for a source that hangs: keys.looks.LOOK_PATIENCE."""

NOISE_SECONDS = 0.05
"""By how much the medians of two kinds of starts may differ if the starts do the same. A start that waited for GitHub
would take a second longer, each time."""

FEW_STARTS, MANY_STARTS = 3, 12
"""Starts of each kind that are compared. A start takes 0.4 s on an idle machine, and from 0.5 to 1.1 s beside
two busy processes, where it may take many starts until the medians agree."""

ATTEMPTS, PEERS = 1000, 20
"""Strangers: attempts in all, and addresses that they come from."""

HANDFUL = 5
"""The number of questions to GitHub that they may cause."""

TRUSTING = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
"""For a client that comes before the server has created its host key."""


@pytest.fixture
def github(github: fake.FakeGitHub) -> fake.FakeGitHub:
    """A GitHub of our own, on which the login `example` is an account."""
    github.account("example", ACCOUNT)
    return github


@pytest.fixture
def make_asking(make_server: MakeServer, github: fake.FakeGitHub) -> "MakeAsking":
    """Makes servers that ask GitHub."""
    return MakeAsking(make_server, github)


class MakeAsking:
    """Makes servers that let in the keys of GitHub's `example`, and of `more` sources; `keys` are settings of [keys].

    Each has a port that is known before its start, and does not refresh its sources by itself during a test.
    """

    def __init__(self, make_server: MakeServer, github: fake.FakeGitHub) -> None:
        self._make_server = make_server
        self._github = github

    def __call__(
        self, *more: str, start: bool = True, url: str = "", limits: Settings | None = None, **keys: object
    ) -> Server:
        """A server, started or not."""
        port = free_port()
        settings = {
            "keys": {"github_url": url or self._github.url, "refresh": "1h"} | keys,
            "listen": {"port": port},
            "limits": limits or {},
        }
        server = self._make_server(settings, login_settings={"keys": ["github:example", *more]}, start=start)
        server.port = port
        return server


def lines_of(*pairs: KeyPair) -> fake.Answer:
    """GitHub's answer for an account with these keys."""
    return fake.keys(*(pair.public.read_text().strip() for pair in pairs))


def is_refused(client: Client) -> bool:
    """Whether the client's key does not let it in any more."""
    return b"Permission denied" in client.run("true").stderr


def wait_for_port(server: Server) -> None:
    """Return as soon as a connection would be taken. Polls without a pause, because the tests measure milliseconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
    raise AssertionError("nobody listens")


def offered(ssh: subprocess.Popen[bytes]) -> None:
    """Wait until an `ssh -v` has sent its key."""
    assert ssh.stderr is not None
    for line in ssh.stderr:
        if b"Offering public key" in line:
            return
    raise AssertionError("ssh has ended without offering a key")


# -- keys that come and go ----------------------------------------------------------------------------------------


def test_key_added_on_github_works_at_the_next_attempt(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects a person who has just added a key: the next attempt gets in within 3 s, long before the next refresh."""
    first = make_key()
    github.script("example", lines_of(first))
    server = make_asking()
    client = Client(server, user_key.private)
    assert client.run("true").status == 255
    github.script("example", lines_of(first, user_key))
    began = time.monotonic()
    assert client.run("exit 3").status == 3
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert github.requests["example"] == 3  # one at the start, and one for each attempt
    fingerprint = server.wait_for("connection.authenticated")["fingerprint"]
    assert server.find("keys.loaded", added=[fingerprint], removed=[])


def test_an_unknown_key_waits_for_a_hanging_source_and_nobody_else_does(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects logins from an outage: a known key gets in at once, while an unknown one waits for a short time."""
    github.script("example", lines_of(user_key), fake.hang())
    server = make_asking(timeout="60s")
    began = time.monotonic()
    stranger = Client(server, make_key().private).popen("true")
    github.wait_for_requests("example", 2)
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert stranger.poll() is None
    stranger.communicate(timeout=PATIENCE)
    assert stranger.returncode == 255
    assert time.monotonic() - began < LOOK_SECONDS + AT_ONCE


def test_windows_that_open_at_once_wait_for_one_look(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects an editor that opens many connections with a key added a moment ago: all wait for the same answer."""
    first, gate = make_key(), threading.Event()
    github.script("example", lines_of(first))
    server = make_asking()
    github.script("example", fake.held(lines_of(first, user_key), gate))
    client = Client(server, user_key.private)
    windows = [client.popen("exit 3", "-v") for _ in range(6)]
    for ssh in windows:
        offered(ssh)
    gate.set()
    for ssh in windows:
        ssh.communicate(timeout=PATIENCE)
    assert [ssh.returncode for ssh in windows] == [3] * len(windows)
    assert github.requests["example"] == 2


def test_logins_during_an_outage_do_not_ask_each_time(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects a GitHub that is down from every login: it is asked once in `keys.revalidate`, answer or not."""
    github.script("example", lines_of(user_key), fake.status(503))
    client = Client(make_asking(revalidate="500ms"), user_key.private)
    until(lambda: client.run("true").status == 0 and github.requests["example"] == 2, what="second question")
    began = time.monotonic()
    for _ in range(10):
        assert client.run("exit 3").status == 3
    assert github.requests["example"] - 2 <= (time.monotonic() - began) / 0.5 + 1


def test_a_revoked_key_opens_nothing_more(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects the seconds between warning and end: no new session or forward, and nobody gets in at a listener."""
    github.script("example", lines_of(user_key))
    server = make_asking(revalidate="0s")
    with Target(echo) as target, Master(Client(server, user_key.private), tmp_path) as master:
        visited = master.forward("-R", f"0:127.0.0.1:{target.port}")
        master.forward("-L", f"{tmp_path}/l:127.0.0.1:{target.port}")
        dial(str(tmp_path / "l")).close()
        github.script("example", fake.empty())
        Client(server, user_key.private).run("true")
        revoked = server.wait_for("connection.revoked", conn=server.find("connection.authenticated")[0]["conn"])
        assert revoked["seconds"] == 10
        with dial(("127.0.0.1", visited)) as dropped:
            assert dropped.recv(1) == b""
        with dial(str(tmp_path / "l")) as refused:
            assert refused.recv(1) == b""
        assert master.run("true").status == 255
        server.wait_for("request.denied", count=2, conn=revoked["conn"])
        denied = [event["request"].split()[0] for event in server.find("request.denied", conn=revoked["conn"])]
        assert sorted(denied) == ["direct-tcpip", "session"]


def test_last_login_by_a_removed_key_is_told(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects a person whose login finds that the key was removed: they are told at once, and not only at the end."""
    github.script("example", lines_of(user_key), fake.empty())
    server = make_asking(revalidate="0s")
    with Client(server, user_key.private).terminal("cat") as terminal:
        terminal.expect("revoked")
    assert server.wait_for("connection.revoked")["seconds"] == 10


@pytest.mark.slow
def test_key_removed_on_github_is_refused_and_its_sessions_end(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects against people who have left: soon they can't log in, and their sessions end, with a message.

    `on_revoke = "keep"` lets these sessions go on; other people's sessions on the same account stay in any case.
    """
    colleague = make_key()
    github.script("example", lines_of(user_key, colleague))
    ending = make_asking(revalidate="1s")
    keeping = make_asking(revalidate="1s", on_revoke="keep")
    with (
        Client(ending, user_key.private).terminal("cat") as theirs,
        Client(keeping, user_key.private).terminal("cat") as kept,
        Client(ending, colleague.private).terminal("cat") as others,
        Client(ending, user_key.private).popen("echo $$; exec sleep 333 </dev/null >/dev/null 2>&1") as command,
    ):
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        for terminal in (theirs, kept, others):
            terminal.ask("hello", "hello.*hello")
        github.script("example", lines_of(colleague))
        removed_at = time.monotonic()
        for server in (keeping, ending):  # the one that must not end a session comes first and has more time to do so
            until(partial(is_refused, Client(server, user_key.private)), what="refusal")
        assert time.monotonic() - removed_at < 1 + AT_ONCE_SECONDS

        theirs.expect(r"pyssh-gateway: the key SHA256:\S+ of github:example has been revoked\. .* ends in 10 s, unless")
        authenticated = ending.wait_for("connection.authenticated", fingerprint=fingerprint_of(user_key))
        revoked = ending.wait_for("connection.revoked", conn=authenticated["conn"])
        assert revoked["seconds"] == 10
        assert revoked["identity"] == authenticated["identity"]
        assert keeping.wait_for("connection.revoked")["seconds"] is None
        theirs.ask("goodbye", "goodbye.*goodbye")
        assert theirs.wait() == 255
        closed = ending.wait_for("connection.closed", conn=revoked["conn"])
        assert closed["reason"] == "The key that you logged in with was revoked"
        assert 9.5 < moment(closed) - moment(revoked) < 10 + AT_ONCE
        assert b"The key that you logged in with was revoked" in command.communicate(timeout=PATIENCE)[1]
        until(lambda: not processes.is_running(pid), what="the command's end")

        for terminal in (kept, others):
            terminal.ask("still here", "still here.*still here")
        assert "revoked" not in others.screen.decode()
    assert fingerprint_of(colleague) not in str(ending.find("connection.revoked"))
    assert Client(ending, colleague.private).run("exit 3").status == 3


def fingerprint_of(pair: KeyPair) -> str:
    """The key's fingerprint as OpenSSH prints it."""
    shown = subprocess.run(["ssh-keygen", "-lf", str(pair.public)], capture_output=True, check=True, text=True)
    return shown.stdout.split()[1]


# -- key files ----------------------------------------------------------------------------------------------------


def test_key_taken_out_of_a_file_is_refused_a_second_later(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey, tmp_path: Path
) -> None:
    """Protects against people who have left: as with sshd, the key file is read at each login."""
    keys, other = tmp_path / "keys", make_key()
    keys.write_text(user_key.public.read_text() + other.public.read_text())
    server = make_server({"keys": {"refresh": "1h", "revalidate": "1h"}}, login_settings={"keys": [f"file:{keys}"]})
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    keys.write_text(other.public.read_text())
    removed_at = time.monotonic()
    until(partial(is_refused, client), what="refusal")
    assert time.monotonic() - removed_at < 1 + AT_ONCE_SECONDS
    assert Client(server, other.private).run("exit 3").status == 3


def test_first_login_after_a_start_is_by_the_file_and_not_by_its_copy(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey, tmp_path: Path
) -> None:
    """Protects changes to a key file while the server is down: the first login after the start is judged by them."""
    keys, other = tmp_path / "keys", make_key()
    both = user_key.public.read_text() + other.public.read_text()
    keys.write_text(both)
    server = make_server({"keys": {"refresh": "1h"}}, login_settings={"keys": [f"file:{keys}"]})
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert server.stop() == 0
    keys.write_text(f'restrict,command="exit 4" {both}'.replace("\n", "\n#", 1))
    server.start()
    assert Client(server, user_key.private).run("exit 3").status == 4
    assert server.stop() == 0
    keys.write_text(other.public.read_text())
    server.start()
    assert is_refused(Client(server, user_key.private))


# -- starts -------------------------------------------------------------------------------------------------------


def first_login(server: Server, client: Client) -> float:
    """Seconds from the server's start to the end of a client that was waiting for it; the server is stopped again."""
    began = time.perf_counter()
    server.launch()
    wait_for_port(server)
    assert client.run("exit 3").status == 3
    taken = time.perf_counter() - began
    server.wait_until_started()
    assert server.stop() == 0
    return taken


@pytest.mark.slow
@pytest.mark.alone
def test_first_login_is_as_quick_without_github_as_with_it(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects the cold start: with last good copies a login takes as long whether GitHub answers or not."""
    github.script("example", lines_of(user_key))
    with fake.FakeGitHub() as hanging:
        hanging.script("example", lines_of(user_key), fake.hang())
        reaching = make_asking(start=False, timeout="1s")
        cut_off = make_asking(start=False, timeout="1s", url=hanging.url)
        clients = {server: Client(server, user_key.private) for server in (reaching, cut_off)}
        for server in clients:
            server.start()
            server.stop()

        taken: dict[Server, list[float]] = {server: [] for server in clients}
        difference = NOISE_SECONDS
        while len(taken[cut_off]) < FEW_STARTS or (difference >= NOISE_SECONDS and len(taken[cut_off]) < MANY_STARTS):
            for server, client in clients.items():
                taken[server].append(first_login(server, client))
            difference = statistics.median(taken[cut_off]) - statistics.median(taken[reaching])
        assert difference < NOISE_SECONDS, taken

        cut_off.start()
        assert cut_off.find("keys.loaded")[0]["origin"] == "last-good"
        assert Client(cut_off, make_key().private).run("true").status == 255
        failed = cut_off.wait_for("keys.failed")
        assert (failed["source"], failed["kept"]) == ("github:example", 1)
        assert failed["reason"] == "no answer within 1 s"
        denied = cut_off.wait_for("auth.attempt", result="denied")
        assert denied["reason"] == "key is not known; backend error: github:example: no answer within 1 s"


def test_without_a_copy_the_first_login_waits_for_the_answer(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects the very first start: a client that comes before GitHub has answered waits for the answer."""
    gate = threading.Event()
    github.script("example", fake.held(lines_of(user_key), gate))
    server = make_asking(start=False, timeout="30s")
    server.launch()
    wait_for_port(server)
    ssh = Client(server, user_key.private).popen("exit 3", "-v", *TRUSTING)
    offered(ssh)
    github.wait_for_requests("example", 1)
    gate.set()
    ssh.communicate(timeout=PATIENCE)
    assert ssh.returncode == 3
    assert github.requests["example"] == 1
    server.wait_until_started()


def test_without_a_copy_and_an_answer_the_first_login_is_refused_in_time(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects the person at that start: after the source's timeout they are refused, and the log says why."""
    github.script("example", fake.hang())
    server = make_asking(start=False, timeout="500ms")
    server.launch()
    wait_for_port(server)
    assert Client(server, user_key.private).run("exit 3", *TRUSTING).status == 255
    server.wait_until_started()
    denied = server.wait_for("auth.attempt", result="denied")
    assert denied["reason"] == "key is not known; backend error: github:example: no answer within 0.5 s"
    (opened,) = server.find("connection.opened", conn=denied["conn"])
    assert moment(denied) - moment(opened) < AT_ONCE
    assert server.find("keys.failed", source="github:example", kept=0)


def test_login_by_a_file_does_not_wait_for_another_source(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair
) -> None:
    """Protects the break-glass key: while GitHub hangs at a start without copies, it gets in, and the log has it."""
    gate = threading.Event()
    github.script("example", fake.held(fake.status(503), gate))
    server = make_asking(f"file:{user_key.public}", start=False, timeout="60s")
    server.launch()
    wait_for_port(server)
    assert Client(server, user_key.private).run("exit 3", *TRUSTING).status == 3
    assert not gate.is_set()
    assert server.wait_for("connection.authenticated")["source"] == f"file:{user_key.public}"
    gate.set()
    server.wait_until_started()


def test_stop_does_not_wait_for_a_source(make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair) -> None:
    """Protects the stop: SIGTERM while GitHub hangs at a start without copies ends the server at once, and cleanly."""
    github.script("example", fake.hang())
    server = make_asking(start=False, timeout="60s")
    server.launch()
    github.wait_for_requests("example", 1)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < AT_ONCE
    assert server.find("server.stopped", reason="signal")


# -- strangers ----------------------------------------------------------------------------------------------------


def test_a_thousand_strangers_cause_a_handful_of_questions(
    make_asking: MakeAsking, github: fake.FakeGitHub, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects GitHub from our questions, and us from its rate limit: strangers' attempts are not each a question."""
    github.script("example", lines_of(user_key))
    server = make_asking(limits={"auth_attempts": 100})
    asked = github.requests["example"]
    since = server.mark()

    async def try_keys(number: int) -> None:
        async with connected(server, user_key.private, source=f"127.0.1.{number}", authenticate=False) as client:
            for _ in range(ATTEMPTS // PEERS):
                client.offer(asyncssh.generate_private_key("ssh-ed25519"))
                await client.is_refused()

    async def try_all() -> None:
        async with asyncio.TaskGroup() as peers:
            for number in range(1, PEERS + 1):
                peers.create_task(try_keys(number))

    asyncio.run(try_all())
    server.wait_for("connection.closed", since=since, count=PEERS)
    assert len(server.find("auth.attempt", since, result="denied", reason="key is not known")) == ATTEMPTS
    assert github.requests["example"] - asked <= HANDFUL
    assert Client(server, user_key.private).run("exit 3").status == 3
