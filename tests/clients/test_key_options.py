"""The effect of a key line's options on logins by that key, with the real ssh and an authorized_keys file."""

import pwd
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, answer, dial, echo, free_port
from tests.support.server import Server
from tests.support.terminal import Terminal

MakeKey = Callable[..., KeyPair]

LINES = {
    "command": 'command="echo \\"forced:${SSH_ORIGINAL_COMMAND-none}\\"; exit 5"',
    "no-pty": "no-pty",
    "restrict": "restrict",
    "restrict but pty": "restrict,pty",
    "no-port-forwarding": "no-port-forwarding",
    "permitopen": 'permitopen="127.0.0.1:{open}",permitopen="localhost:{open}"',
    "permitlisten": 'permitlisten="localhost:{listen}"',
    "no-agent-forwarding": "no-agent-forwarding",
    "from here": 'from="192.0.2.0/24,127.0.0.0/8"',
    "from elsewhere": 'from="192.0.2.0/24"',
    "from anywhere but here": 'from="*,!127.0.0.1"',
    "expired": 'expiry-time="20200101Z"',
    "expires": 'expiry-time="20990101Z"',
    "environment": 'environment="GREETING=hello, w=rld",environment="GREETING=second",environment="PATH=/first:$PATH"',
    "unknown option": "no-such-option",
    "no option": "",
}
"""The options of one key each, by the tests' name for it. Ports are inserted when they are known."""

CALLS_AN_AGENT = 'echo "${SSH_AUTH_SOCK-unset}"'


class Keys:
    """One key for each of `LINES`, and a server that lets them in; `open` and `listen` are the ports in the options."""

    def __init__(self, server: Server, pairs: dict[str, KeyPair], open_port: int, listen_port: int) -> None:
        self.server = server
        self.open = open_port
        self.listen = listen_port
        self._pairs = pairs

    def client(self, name: str) -> Client:
        """A client with the key of that name."""
        return Client(self.server, self._pairs[name].private)

    def fingerprint(self, name: str) -> str:
        """The fingerprint of the key of that name."""
        return fingerprint(self._pairs[name])


def fingerprint(pair: KeyPair) -> str:
    """The key's fingerprint as OpenSSH prints it."""
    command = ["ssh-keygen", "-lf", str(pair.public)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, make_key: MakeKey) -> Iterator[Keys]:
    """The keys of this module, and the server that all tests share."""
    directory = tmp_path_factory.mktemp("server")
    pairs = {name: make_key() for name in LINES}
    ports = {"open": free_port(), "listen": free_port()}
    lines = directory / "authorized_keys"
    lines.write_text(
        "".join(
            f"{LINES[name].replace('{open}', str(ports['open'])).replace('{listen}', str(ports['listen']))}"
            f" {pair.public.read_text()}".lstrip()
            for name, pair in pairs.items()
        )
    )
    with Server(directory, login=account.pw_name, keys=[f"file:{lines}"]) as running:
        yield Keys(running, pairs, ports["open"], ports["listen"])


def has_terminal(client: Client) -> bool:
    """Whether a command gets the terminal that it demands; without one, ssh gives up."""
    result = client.run("test -t 0 && exit 3", "-tt")
    if result.status == 3:
        return True
    assert b"PTY allocation request failed" in result.stderr
    return False


def reaches(master: Master, path: Path, *spec: str) -> bool:
    """Whether a local forward to `spec` leads to an echo."""
    master.forward("-L", f"{path}:{':'.join(spec)}")
    with dial(str(path)) as sock:
        try:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"
        except (BrokenPipeError, ConnectionResetError):
            return False


def listens(master: Master, *spec: str) -> bool:
    """Whether a remote forward is granted."""
    return master.control("forward", "-R", ":".join(spec)).status == 0


# -- what runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("-T",), ("-tt",)], ids=["pipes", "pty"])
def test_command_runs_in_the_place_of_any_other(keys: Keys, options: tuple[str, ...]) -> None:
    """Protects a key for one purpose: a command, a shell and SFTP are all replaced by the line's command."""
    client = keys.client("command")
    asked = client.run("rm -rf ~; exit 0", *options)
    assert (asked.status, asked.stdout.strip()) == (5, b"forced:rm -rf ~; exit 0")
    shell = client.run(None, *options)
    assert (shell.status, shell.stdout.strip()) == (5, b"forced:none")
    sftp = client.run("sftp", "-s")
    assert sftp.status == 5
    assert re.fullmatch(rb"forced:.*\bsftp-server\n", sftp.stdout)


def test_a_configured_command_comes_before_the_lines(
    make_server: MakeServer, make_key: MakeKey, tmp_path: Path
) -> None:
    """Protects the administrator's `force_command` from people who may write a key's line."""
    pair, lines = make_key(), tmp_path / "authorized_keys"
    lines.write_text(f'command="echo line",environment="BASH_ENV=/tmp/evil" {pair.public.read_text()}')
    server = make_server(login_settings={"keys": [f"file:{lines}"], "force_command": 'echo "forced$BASH_ENV"'})
    assert Client(server, pair.private).output("date") == "forced\n"


def test_environment_is_set(keys: Keys) -> None:
    """Protects a key's own variables: the first of a name counts, and they are set without a shell, as in sshd."""
    show = 'echo "$GREETING"; echo "$PATH"'
    greeting, path = keys.client("environment").output(show).splitlines()
    assert greeting == "hello, w=rld"
    assert path == "/first:$PATH"
    assert keys.client("no option").output('echo "${GREETING-unset}"') == "unset\n"


# -- what a key may use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "granted"),
    [("no-pty", False), ("restrict", False), ("restrict but pty", True), ("no-port-forwarding", True)],
)
def test_terminals(keys: Keys, name: str, granted: bool) -> None:
    """Protects no-pty and restrict, which a later `pty` overrides; a shell is served in any case."""
    client = keys.client(name)
    since = keys.server.mark()
    assert has_terminal(client) is granted
    with Terminal(client.argv(), client_environment()) as shell:
        shell.send("tty; exit 3\n")
        shell.expect("/dev/pts/" if granted else "not a tty")
        assert shell.wait() == 3
    keys.server.wait_for("connection.closed", since=since, count=2)
    denied = [event["reason"] for event in keys.server.find("request.denied", since, request="pty-req")]
    assert denied == ([] if granted else ["this key may not have a terminal"] * 2)


@pytest.mark.parametrize("name", ["restrict", "restrict but pty", "no-port-forwarding"])
def test_no_forwarding(keys: Keys, scratch: Path, tmp_path: Path, name: str) -> None:
    """Protects restrict and no-port-forwarding: no connections out, and no listening, for ports and sockets."""
    with Target(echo) as target, Target(echo, str(scratch / "s")), Master(keys.client(name), tmp_path) as master:
        assert not reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))
        assert not reaches(master, tmp_path / "b", str(scratch / "s"))
        assert not listens(master, "0", "127.0.0.1", "1")
        assert not listens(master, f"{scratch}/r", "127.0.0.1", "1")
        assert master.run("exit 3").status == 3


def test_permitopen(keys: Keys, scratch: Path, tmp_path: Path) -> None:
    """Protects permitopen: each of several options counts; other ports, other names and sockets are refused."""
    client = keys.client("permitopen")
    with (
        Target(echo, ("127.0.0.1", keys.open)),
        Target(echo) as other,
        Target(echo, str(scratch / "s")),
        Master(client, tmp_path) as master,
    ):
        assert reaches(master, tmp_path / "a", "127.0.0.1", str(keys.open))
        assert reaches(master, tmp_path / "b", "localhost", str(keys.open))
        assert not reaches(master, tmp_path / "c", "127.0.0.1", str(other.port))
        assert not reaches(master, tmp_path / "d", "127.1", str(keys.open))
        assert not reaches(master, tmp_path / "e", str(scratch / "s"))
        assert listens(master, "0", "127.0.0.1", "1")  # permitopen does not restrict this


def test_permitlisten(keys: Keys, scratch: Path, tmp_path: Path) -> None:
    """Protects permitlisten: only the port that it names is opened, and no socket; connections go out."""
    with Target(echo) as target, Master(keys.client("permitlisten"), tmp_path) as master:
        assert not listens(master, "0", "127.0.0.1", "1")
        assert not listens(master, str(free_port()), "127.0.0.1", "1")
        assert not listens(master, f"{scratch}/r", "127.0.0.1", "1")
        assert listens(master, str(keys.listen), "127.0.0.1", str(target.port))
        assert answer(("127.0.0.1", keys.listen), b"hello") == b"hello"
        assert reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))


@pytest.mark.parametrize(
    ("name", "granted"), [("no-agent-forwarding", False), ("restrict", False), ("no option", True)]
)
def test_agent_forwarding(keys: Keys, tmp_path: Path, name: str, granted: bool) -> None:
    """Protects people's agents from keys that must not use them, and `ssh -A` for all other keys."""
    with Target(echo, str(tmp_path / "agent")):
        told = keys.client(name).output(CALLS_AN_AGENT, "-A", "-o", f"IdentityAgent={tmp_path}/agent")
    assert (told.strip() != "unset") is granted


# -- where and when a key is valid --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["from here", "expires", "no option"])
def test_conditions_that_hold(keys: Keys, name: str) -> None:
    """Protects people whose key has from= and expiry-time=: while both hold, the key works like any other."""
    assert keys.client(name).run("exit 3").status == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("from elsewhere", "the key may not be used from 127.0.0.1 (from)"),
        ("from anywhere but here", "the key may not be used from 127.0.0.1 (from)"),
        ("expired", "the key expired "),
    ],
)
def test_conditions_that_do_not_hold(keys: Keys, name: str, reason: str) -> None:
    """Protects from= and expiry-time=: the key is refused like an unknown one, and the log says why."""
    since = keys.server.mark()
    result = keys.client(name).run("exit 3")
    assert result.status == 255
    assert result.stderr.endswith(b"Permission denied (publickey).\r\n")
    denied = keys.server.wait_for("auth.attempt", since=since, fingerprint=keys.fingerprint(name))
    assert denied["result"] == "denied"
    assert denied["reason"].startswith(reason)


def test_from_is_about_the_clients_address(keys: Keys) -> None:
    """Protects the exception in a from=: the key is valid from any address but the excluded one."""
    assert keys.client("from anywhere but here").run("exit 3", "-b", "127.0.0.2").status == 3


def test_a_line_that_is_not_understood_is_refused_alone(keys: Keys) -> None:
    """Protects a file's other lines from a bad line; the bad line's own key does not get in."""
    assert keys.client("unknown option").run("exit 3").status == 255
    assert keys.client("no option").run("exit 3").status == 3
    loaded = keys.server.find("keys.loaded")[0]
    assert (loaded["accepted"], loaded["refused"]) == (len(LINES) - 1, 1)
    number = list(LINES).index("unknown option") + 1
    assert loaded["refusals"] == [f"line {number}: options: unknown option no-such-option"]


# -- how a login limits its sources -------------------------------------------------------------------------------


def test_a_login_narrows_what_its_sources_have(make_server: MakeServer, make_key: MakeKey, tmp_path: Path) -> None:
    """Protects `only_fingerprints` and `key_types` from a source that has more keys than expected: both hold."""
    expected, unexpected, ecdsa = make_key(), make_key(), make_key("ecdsa")
    lines = tmp_path / "authorized_keys"
    lines.write_text("".join(pair.public.read_text() for pair in (expected, unexpected, ecdsa)))
    server = make_server(
        login_settings={
            "keys": [f"file:{lines}"],
            "only_fingerprints": [fingerprint(expected), fingerprint(ecdsa)],
            "key_types": ["ssh-ed25519", "sk-ssh-ed25519@openssh.com"],
        }
    )
    assert Client(server, expected.private).run("exit 3").status == 3
    for pair, reason in (
        (unexpected, "only_fingerprints of this login does not have this key"),
        (ecdsa, "key_types of this login does not have ecdsa-sha2-nistp256"),
    ):
        assert Client(server, pair.private).run("exit 3").status == 255
        assert server.wait_for("auth.attempt", fingerprint=fingerprint(pair))["reason"] == reason
