"""What the real programs show when a client that has come back by itself is refused, and how a person is let in."""

import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, free_port, socks5
from tests.support.server import Server
from tests.support.sleepers import TEXT, WRAPPER
from tests.support.vscode import ALIVE, Connection, install_script
from tests.support.waiting import PATIENCE, listens, until

SAID = f"pyssh-gateway: {TEXT}\n".encode()

WHY = "the client has come back by itself: only a terminal or SFTP ends the machine's sleep"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Server]:
    """A server to which every client is one that has come back by itself."""
    server = Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=[f"file:{user_key.public}"])
    server.wrapper = WRAPPER
    with server:
        yield server


def denied(server: Server, since: int) -> list[str]:
    """The requests that were refused since the mark, for this reason, on the connection that is over now."""
    server.wait_for("connection.closed", since=since)
    return [event["request"] for event in server.find("request.denied", since=since, reason=WHY)]


@pytest.mark.parametrize("command", ["touch {}", None])
def test_a_command_gets_a_line_and_an_exit_status(client: Client, scratch: Path, command: str | None) -> None:
    """Protects scripts and people: nothing runs, the reason is on standard error, and the status is our refusals' 254.

    Not 255, with which autossh and many a script try again at once.
    """
    trace = scratch / "started"
    since = client.server.mark()
    result = client.run(command and command.format(trace), "-T", input=f"touch {trace}\n".encode())
    assert result == (254, b"", SAID)
    assert not trace.exists()
    assert denied(client.server, since) == ["shell" if command is None else "exec"]
    assert not client.server.find("session.opened", since=since)


def test_an_editor_gets_the_line_instead_of_its_markers(client: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects the end of VS Code's loop: `ssh -T -D port host sh` ends with the line, and its server isn't started."""
    with Connection(client, tmp_path, "sh", "-T", "-D", str(free_port())) as ssh:
        ssh.send(install_script("marker", scratch) + ALIVE)
        assert ssh.process.wait(PATIENCE) == 254
        assert ssh.errors.read_bytes() == SAID
        assert not list(scratch.iterdir())


def test_copies_by_commands_get_the_line(client: Client, tmp_path: Path, scratch: Path) -> None:
    """Protects people who copy with `scp -O` and rsync: they see why it fails, and nothing is copied."""
    file = tmp_path / "file"
    file.write_text("text")
    far = f"{client.server.login}@127.0.0.1:{scratch}/"
    copies = [["scp", "-O", *client.options(), str(file), far]]
    copies.append(["rsync", "-e", " ".join(["ssh", *client.options()]), str(file), far])
    for argv in copies:
        done = subprocess.run(argv, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE)
        assert done.returncode != 0
        assert SAID in done.stderr
    assert not list(scratch.iterdir())


def test_git_shows_the_line(client: Client, tmp_path: Path) -> None:
    """Protects people who fetch from the machine: git shows the reason."""
    environ = client_environment(GIT_SSH_COMMAND=" ".join(["ssh", *client.options()]))
    url = f"ssh://{client.server.login}@127.0.0.1/srv/none.git"
    done = subprocess.run(["git", "ls-remote", url], capture_output=True, check=False, env=environ, timeout=PATIENCE)
    assert done.returncode == 128
    assert done.stderr.startswith(SAID)


def test_a_forward_is_refused_and_the_connection_closed(client: Client, tmp_path: Path) -> None:
    """Protects the bill from a loop around `ssh -N -D`: a connection through it is refused, and `ssh` told to go."""
    since = client.server.mark()
    with socket.create_server(("127.0.0.1", 0)) as target, Master(client, tmp_path) as ssh:
        target.setblocking(False)
        port, proxy = target.getsockname()[1], free_port()
        ssh.forward("-D", str(proxy))
        with pytest.raises((AssertionError, ConnectionError)):
            socks5(proxy, b"127.0.0.1", port)
        assert ssh.process.wait(PATIENCE) == 255
        with pytest.raises(BlockingIOError):
            target.accept()
    assert f"open failed: administratively prohibited: {TEXT}" in ssh.said
    assert f": {TEXT}\n" in ssh.said.partition("Received disconnect from")[2]
    assert denied(client.server, since) == [f"direct-tcpip 127.0.0.1:{port}"]
    assert client.server.find("connection.closed", since=since, reason=TEXT, goodbye=True)


def test_a_listener_ends_with_the_connection(client: Client) -> None:
    """Protects the bill from a loop around `ssh -N -R`: it is told to go, with the reason."""
    since = client.server.mark()
    ssh = client.popen(None, "-N", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:9")
    _, stderr = ssh.communicate(timeout=PATIENCE)
    assert ssh.returncode == 255
    assert TEXT in stderr.decode()
    assert denied(client.server, since) == ["tcpip-forward 127.0.0.1:0"]


def test_a_terminal_is_let_in_with_everything_that_its_configuration_asks_for(client: Client, tmp_path: Path) -> None:
    """Protects people: a terminal works at once, also with listeners and an agent, which `ssh` asks for before it."""
    agent = str(tmp_path / "agent")
    command = ["ssh-agent", "-D", "-a", agent]
    since = client.server.mark()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=client_environment()) as running:
        until(lambda: listens(agent), what="agent")
        options = ["-A", "-o", f"IdentityAgent={agent}", "-o", "ExitOnForwardFailure=yes"]
        with client.terminal("ssh-add -l; read x", *options, "-R", "127.0.0.1:0:127.0.0.1:9") as terminal:
            terminal.expect("The agent has no identities")
            terminal.send("\n")
            assert terminal.process.wait(PATIENCE) == 0
        running.terminate()
    assert denied(client.server, since) == []


def test_a_terminal_of_a_shared_connection_wakes_it(client: Client, tmp_path: Path) -> None:
    """Protects people with ControlMaster: `ssh -N -M` waits, a terminal on it is served, and then commands are."""
    with Master(client, tmp_path) as shared:
        with shared.terminal() as terminal:
            terminal.send("echo $((40 + 2)); exit\n")
            terminal.expect("42")
        assert shared.run("echo more") == (0, b"more\n", b"")


@pytest.mark.parametrize("program", ["sftp", "scp"])
def test_a_transfer_by_sftp_is_let_in(client: Client, tmp_path: Path, scratch: Path, program: str) -> None:
    """Protects copies by hand: `sftp` and today's `scp` use SFTP, and work at once."""
    file = tmp_path / "file"
    file.write_text("text")
    host = f"{client.server.login}@127.0.0.1"
    since = client.server.mark()
    if program == "scp":
        argv, commands = ["scp", *client.options(), str(file), f"{host}:{scratch}/"], b""
    else:
        argv, commands = ["sftp", "-b", "-", *client.options(), host], f"put {file} {scratch}/file\n".encode()
    done = subprocess.run(
        argv, input=commands, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (scratch / "file").read_text() == "text"
    assert denied(client.server, since) == []


def test_a_key_for_sftp_alone_is_let_in(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, scratch: Path
) -> None:
    """Protects accounts with a forced internal-sftp: their transfers are SFTP, too."""
    server = make_server(login_settings={"force_command": "internal-sftp"}, start=False)
    server.wrapper = WRAPPER
    server.start()
    client = Client(server, user_key.private)
    argv = ["sftp", "-b", "-", *client.options(), f"{server.login}@127.0.0.1"]
    done = subprocess.run(
        argv, input=b"pwd\n", capture_output=True, check=False, env=client_environment(), timeout=PATIENCE
    )
    assert done.returncode == 0
    assert client.run("true") == (254, b"", SAID)


@pytest.mark.skipif(shutil.which("autossh") is None, reason="autossh is not installed")
def test_autossh_gives_up_at_a_command(client: Client, tmp_path: Path) -> None:
    """Protects the bill from `autossh host command`: the status ends its loop, which a disconnect would not."""
    log = tmp_path / "log"
    environ = client_environment(AUTOSSH_GATETIME="0", AUTOSSH_LOGFILE=str(log), AUTOSSH_LOGLEVEL="6")
    argv = ["autossh", "-M", "0", *client.argv("true", "-T")[1:]]
    done = subprocess.run(argv, capture_output=True, check=False, env=environ, timeout=PATIENCE)
    assert "ssh exited with status 254" in log.read_text(), done
