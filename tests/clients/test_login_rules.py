"""What the configuration permits a login, and what it sets in the login's sessions, tested on a real server."""

import asyncio
import pwd
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, answer, dial, echo, free_port, read_all
from tests.support.server import Server
from tests.support.waiting import PATIENCE


@pytest.fixture
def with_login(make_server: MakeServer, user_key: KeyPair) -> "WithLogin":
    """Starts servers with further settings of their login: `with_login(forwarding="local")`."""
    return WithLogin(make_server, user_key)


class WithLogin:
    """Makes clients of new servers, with further settings of their login."""

    def __init__(self, make_server: MakeServer, user_key: KeyPair) -> None:
        self._make_server = make_server
        self._user_key = user_key

    def __call__(self, **login_settings: object) -> Client:
        """A client of a server whose login has these settings."""
        return Client(self._make_server(login_settings=login_settings), self._user_key.private)


@pytest.fixture
def target() -> Iterator[Target]:
    """A target to forward to."""
    with Target(echo) as listening:
        yield listening


def reaches(master: Master, local: Path, *spec: str) -> bool:
    """Whether a local forward to `spec` leads to an echo."""
    master.forward("-L", f"{local}:{':'.join(spec)}")
    with dial(str(local)) as sock:
        try:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"
        except (BrokenPipeError, ConnectionResetError):
            return False


# -- forwarding ---------------------------------------------------------------------------------------------------


def test_no_forwarding(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `forwarding = "none"`: no connections out, no listening, no agent; sessions go on."""
    client = with_login(forwarding="none")
    with Target(echo, str(scratch / "s")), Master(client, tmp_path) as master:
        assert not reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))
        assert not reaches(master, tmp_path / "b", str(scratch / "s"))
        assert master.control("forward", "-R", "0:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", f"{scratch}/r:127.0.0.1:1").status != 0
        assert not (scratch / "r").exists()
        assert "administratively prohibited" in master.said
        assert master.run("exit 3").status == 3
    with Target(echo, str(tmp_path / "agent")):
        agent = ("-A", "-o", f"IdentityAgent={tmp_path}/agent")
        assert client.run('echo "${SSH_AUTH_SOCK-unset}"', *agent).stdout == b"unset\n"
    requests = {event["request"].split()[0] for event in client.server.find("request.denied")}
    assert requests == {"direct-tcpip", "direct-streamlocal", "tcpip-forward", "streamlocal-forward", "auth-agent-req"}
    assert not client.server.find("forward.opened")


def test_local_forwarding_only(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `forwarding = "local"`: connections go out, and nothing listens on the machine."""
    client = with_login(forwarding="local")
    with Target(echo, str(scratch / "s")), Master(client, tmp_path) as master:
        assert reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))
        assert reaches(master, tmp_path / "b", str(scratch / "s"))
        assert master.control("forward", "-R", "0:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", f"{scratch}/r:127.0.0.1:1").status != 0
        assert master.run("exit 3").status == 3


def test_remote_forwarding_only(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `forwarding = "remote"`: ports and sockets are opened for the client, and no connection goes out."""
    client = with_login(forwarding="remote")
    with Target(echo, str(scratch / "s")), Master(client, tmp_path) as master:
        port = master.forward("-R", f"0:127.0.0.1:{target.port}")
        assert answer(("127.0.0.1", port), b"hello") == b"hello"
        master.forward("-R", f"{scratch}/r:127.0.0.1:{target.port}")
        assert answer(str(scratch / "r"), b"hello") == b"hello"
        assert not reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))
        assert not reaches(master, tmp_path / "b", str(scratch / "s"))
        assert master.run("exit 3").status == 3


def test_each_kind_by_itself(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `forward_sockets` and `forward_agent`: they count also where all other forwarding is denied."""
    client = with_login(forwarding="none", forward_sockets="local", forward_agent=True)
    with Target(echo, str(scratch / "s")), Master(client, tmp_path) as master:
        assert reaches(master, tmp_path / "a", str(scratch / "s"))
        assert not reaches(master, tmp_path / "b", "127.0.0.1", str(target.port))
        assert master.control("forward", "-R", "0:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", f"{scratch}/r:127.0.0.1:1").status != 0
    with Target(echo, str(tmp_path / "agent")):
        agent = ("-A", "-o", f"IdentityAgent={tmp_path}/agent")
        assert client.run('echo "${SSH_AUTH_SOCK:+set}"', *agent).stdout == b"set\n"


def test_permitted_destinations(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `permit_open`: a destination that is not listed is refused, by another name or port, or as a socket."""
    client = with_login(permit_open=[f"127.0.0.1:{target.port}", "[::1]:*"])
    with (
        Target(echo) as other,
        Target(echo, ("::1", 0)) as six,
        Target(echo, str(scratch / "s")),
        Master(client, tmp_path) as master,
    ):
        assert reaches(master, tmp_path / "a", "127.0.0.1", str(target.port))
        assert reaches(master, tmp_path / "b", "[::1]", str(six.port))
        assert not reaches(master, tmp_path / "c", "127.0.0.1", str(other.port))
        assert not reaches(master, tmp_path / "d", "localhost", str(target.port))
        assert not reaches(master, tmp_path / "e", "127.1", str(target.port))
        assert not reaches(master, tmp_path / "f", str(scratch / "s"))
        assert master.said.count("administratively prohibited") == 4
        assert master.run("exit 3").status == 3


def test_permitted_ports_to_listen_on(with_login: WithLogin, target: Target, scratch: Path, tmp_path: Path) -> None:
    """Protects `permit_listen`: only the listed ports are opened, and no sockets."""
    port = free_port()
    client = with_login(permit_listen=[f"localhost:{port}"])
    with Master(client, tmp_path) as master:
        assert master.control("forward", "-R", f"{free_port()}:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", "0:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", f"*:{port}:127.0.0.1:1").status != 0
        assert master.control("forward", "-R", f"{scratch}/r:127.0.0.1:1").status != 0
        master.forward("-R", f"{port}:127.0.0.1:{target.port}")
        assert answer(("127.0.0.1", port), b"hello") == b"hello"


def test_bad_rules_are_told(make_server: MakeServer) -> None:
    """Protects the person who misspells a rule: the server says where, and does not start without it."""
    server = make_server(login_settings={"forwarding": "sometimes", "permit_open": ["everything"]}, start=False)
    server.launch()
    assert server.wait() != 0
    assert "login[0].forwarding" in server.stderr
    assert "login[0].permit_open[0]" in server.stderr


# -- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("-T",), ("-tt",)], ids=["pipes", "pty"])
def test_forced_command(with_login: WithLogin, options: tuple[str, ...]) -> None:
    """Protects `force_command`: it replaces whatever was requested, which is in its environment."""
    client = with_login(force_command='echo "forced:${SSH_ORIGINAL_COMMAND-none}"; exit 5')
    asked = client.run("rm -rf ~; exit 0", *options)
    assert (asked.status, asked.stdout.strip()) == (5, b"forced:rm -rf ~; exit 0")
    shell = client.run(None, *options)
    assert (shell.status, shell.stdout.strip()) == (5, b"forced:none")


def test_forced_command_takes_the_place_of_sftp(with_login: WithLogin) -> None:
    """Protects files from a login that may run one command only: the forced command replaces SFTP, too."""
    client = with_login(force_command='echo "forced:$SSH_ORIGINAL_COMMAND" >&2; exit 5')
    argv = ["sftp", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    done = subprocess.run(
        argv, input=b"ls\n", capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    assert done.returncode != 0
    assert b"forced:" in done.stderr
    assert client.run("sftp", "-s").stderr.strip() == done.stderr.splitlines()[0]


def test_forced_command_is_not_signalled(with_login: WithLogin) -> None:
    """Protects wrappers from clients that may only start them: signal requests are refused, as by sshd."""
    client = with_login(force_command="echo go; read line; echo done")

    async def talk() -> tuple[str, int | None]:
        async with client.connect() as connection, asyncio.timeout(PATIENCE):
            process = await connection.create_process("true")
            assert await process.stdout.readline() == "go\n"
            process.send_signal("KILL")
            process.stdin.write("\n")
            return str((await process.wait()).stdout), process.exit_status

    assert asyncio.run(talk()) == ("done\n", 0)
    assert client.server.wait_for("request.denied")["request"] == "signal KILL"


def test_a_wrapper_that_lets_sftp_through(with_login: WithLogin, scratch: Path) -> None:
    """Protects the usual wrapper, which runs the requested command after a check: here an sftp-server."""
    wrapper = 'case $SSH_ORIGINAL_COMMAND in *sftp-server*) exec /bin/sh -c "$SSH_ORIGINAL_COMMAND";; esac; exit 5'
    client = with_login(force_command=wrapper)
    (scratch / "asked for").touch()
    argv = ["sftp", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    listing = f"ls -1 {scratch}\n".encode()
    done = subprocess.run(
        argv, input=listing, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert b"asked for" in done.stdout
    assert client.run("sftp").status == 5


def test_forced_command_is_in_the_log(with_login: WithLogin) -> None:
    """Protects the record: the log has the command that ran."""
    client = with_login(force_command="exit 5")
    assert client.run("something else").status == 5
    assert client.server.wait_for("session.opened")["command"] == "exit 5"


def test_original_command_can_not_be_forged(client: Client, server: Server) -> None:
    """Protects forced commands from a client that sets variables which only the server may set."""
    names = ("SSH_ORIGINAL_COMMAND", "PYSSH_SESSION", "SSH_AUTH_SOCK", "SSH_CONNECTION")
    result = client.run("env -0", "-o", f"SendEnv={' '.join(names)}", environ=dict.fromkeys(names, "forged"))
    assert b"forged" not in result.stdout


@pytest.mark.alone
def test_no_rc_file_under_an_administrators_command(
    make_server: MakeServer,
    account: pwd.struct_passwd,
    user_key: KeyPair,
    make_key: Callable[..., KeyPair],
    tmp_path: Path,
) -> None:
    """Protects `force_command` and `no-user-rc` from ~/.ssh/rc, which others get, and SFTP from its output."""
    barred = make_key()
    keys = tmp_path / "keys"
    keys.write_text(f"{user_key.public.read_text()}no-user-rc {barred.public.read_text()}")
    rc = Path(account.pw_dir, ".ssh/rc")
    made = not rc.parent.exists()
    rc.parent.mkdir(exist_ok=True)
    assert not rc.exists()
    rc.write_text('echo "rc $SSH_CONNECTION"')
    try:
        login = {"keys": [f"file:{keys}"]}
        client = Client(make_server(login_settings=login), user_key.private)
        assert re.fullmatch(rb"rc [0-9. ]+\nx\n", client.run("echo x").stdout)
        assert client.run("echo x", key=barred.private).stdout == b"x\n"
        assert client.run("sftp", "-s").stdout == b""
        forced = Client(make_server(login_settings=login | {"force_command": "echo forced"}), user_key.private)
        assert forced.run("echo x").stdout == b"forced\n"
    finally:
        rc.unlink()
        if made:
            rc.parent.rmdir()


# -- environment --------------------------------------------------------------------------------------------------


def test_set_env(with_login: WithLogin) -> None:
    """Protects `set_env`: it applies to every kind of session, verbatim, and wins over a client's variables."""
    client = with_login(set_env=["GREETING=hello, w=rld", "EMPTY=", "LC_PYSSH=ours", "PYSSH_SESSION=forged"])
    show = 'echo "$GREETING|${EMPTY-unset}|$LC_PYSSH|${PYSSH_SESSION}"'
    sent = ("-o", "SendEnv=LC_PYSSH")
    for result in (
        client.run(show, *sent, environ={"LC_PYSSH": "theirs"}),
        client.run(show, "-tt", *sent, environ={"LC_PYSSH": "theirs"}),
        client.run(None, "-T", *sent, environ={"LC_PYSSH": "theirs"}, input=show.encode() + b"\n"),
    ):
        greeting, empty, language, session = result.stdout.decode().splitlines()[-1].split("|")
        assert (greeting, empty, language) == ("hello, w=rld", "", "ours")
        assert session != "forged"


def test_accept_env(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects `session.accept_env`: it replaces the defaults, and never admits variables that load code."""
    patterns = ["APP_*", "EDITOR", "*"]
    names = {"APP_MODE": "x", "EDITOR": "vi", "OTHER": "o", "LD_PRELOAD": "/no.so", "PYTHONPATH": "/p", "PATH": "/evil"}
    sent = f"SendEnv={' '.join(names)}"

    def seen(*accepted: str) -> set[str]:
        client = Client(make_server({"session": {"accept_env": list(accepted)}}), user_key.private)
        # The client itself must not run with these variables: /usr/bin/env sets them where ssh looks for them.
        argv = ["env", *(f"{name}={value}" for name, value in names.items() if name not in {"PATH", "LD_PRELOAD"})]
        result = subprocess.run(
            [*argv, *client.argv("env -0", "-o", sent)],
            capture_output=True, check=False, env=client_environment(), timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return {entry.split("=", 1)[0] for entry in result.stdout.decode().split("\0")} & set(names) - {"PATH"}

    assert seen(*patterns[:2]) == {"APP_MODE", "EDITOR"}
    assert seen(*patterns) == {"APP_MODE", "EDITOR", "OTHER"}
    assert seen() == set()


def test_session_id_is_the_logs(client: Client, server: Server) -> None:
    """Protects the link from a process to the log: PYSSH_SESSION is the session's id in the log."""
    since = server.mark()
    session = client.output('echo "$PYSSH_SESSION"').strip()
    opened = server.wait_for("session.opened", since=since)
    assert opened["session"] == session
    assert re.fullmatch(rf"{opened['conn']}\.\d+", session)


def test_each_session_has_its_own_id(client: Client, tmp_path: Path) -> None:
    """Protects ControlMaster: sessions of one connection can be told apart."""
    with Master(client, tmp_path) as master:
        ids = [master.run('echo "$PYSSH_SESSION"').stdout.decode().strip() for _ in range(3)]
    assert len(set(ids)) == 3
    assert len({session.partition(".")[0] for session in ids}) == 1


def test_standard_streams_obey_the_rules(with_login: WithLogin, target: Target) -> None:
    """Protects `permit_open` from `ssh -W`, which opens the same kind of channel in another way."""
    client = with_login(permit_open=["127.0.0.1:1"])
    result = client.run(None, "-W", f"127.0.0.1:{target.port}")
    assert result.status != 0
    assert b"administratively prohibited" in result.stderr


def test_socks_obeys_the_rules(with_login: WithLogin, target: Target, tmp_path: Path) -> None:
    """Protects `permit_open` from -D: each destination is checked."""
    client = with_login(permit_open=[f"localhost:{target.port}"])
    proxy = free_port()
    with Master(client, tmp_path, "-D", f"127.0.0.1:{proxy}"), dial(("127.0.0.1", proxy)) as sock:
        sock.sendall(b"\x04\x01" + target.port.to_bytes(2, "big") + b"\x7f\x00\x00\x01\x00")
        assert read_all(sock)[:2] in {b"", b"\x00\x5b"}
