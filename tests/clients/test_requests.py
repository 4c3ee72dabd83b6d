"""Other requests of clients: sharing a connection, parallel sessions, and requests that the server refuses."""

import asyncio
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.client import Client, client_environment, terminate
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def master(client: Client, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The options with which `ssh` uses an existing connection."""
    path = tmp_path / "master"
    options = ("-o", f"ControlPath={path}", "-o", "ControlMaster=no")
    ssh = client.popen(None, "-N", "-o", f"ControlPath={path}", "-o", "ControlMaster=yes")
    try:
        until(path.exists, what="control socket")
        yield options
    finally:
        terminate(ssh)
        ssh.communicate(timeout=PATIENCE)


def test_shared_connection_carries_many_sessions(client: Client, server: Server, master: tuple[str, ...]) -> None:
    """Protects ControlMaster: 15 sessions at once on one connection, each with its own status."""
    since = server.mark()
    running = [
        subprocess.Popen(
            client.argv(f"read line; exit {number}", *master), stdin=subprocess.PIPE, env=client_environment()
        )
        for number in range(15)
    ]
    server.wait_for("session.opened", since=since, count=15)
    for ssh in running:
        ssh.communicate(b"go\n", timeout=PATIENCE)
    assert [ssh.returncode for ssh in running] == list(range(15))
    opened = server.find("session.opened", since)
    assert len({event["conn"] for event in opened}) == 1
    assert {event["session"].rpartition(".")[2] for event in opened} == {str(number) for number in range(1, 16)}


def test_shared_connection_keeps_a_late_exit_status(client: Client, master: tuple[str, ...]) -> None:
    """Protects `&&` after a command that closes its output early: the client closes its end, but gets the status."""
    assert client.run("exec >&- 2>&-; sleep 0.3; exit 7", *master).status == 7


def test_terminal_on_a_shared_connection(client: Client, master: tuple[str, ...]) -> None:
    """Protects a second window on the same connection: it has its own pty, and its end ends nothing else."""
    with client.terminal("tty; read x", *master) as first, client.terminal("tty; read x", *master) as second:
        ttys = {window.expect(r"(/dev/pts/\d+)")[1] for window in (first, second)}
        assert len(ttys) == 2
        second.send("x\n")
        assert second.wait() == 0
        assert client.run("exit 3", *master).status == 3
        first.send("x\n")
        assert first.wait() == 0


def test_connection_without_a_session(client: Client, server: Server) -> None:
    """Protects `ssh -N`: a connection without a session is served, counts as use, and ends with its client."""
    since = server.mark()
    ssh = client.popen(None, "-N")
    conn = server.wait_for("connection.authenticated", since=since)["conn"]
    terminate(ssh)
    ssh.communicate(timeout=PATIENCE)
    server.wait_for("connection.closed", since=since, conn=conn)
    assert not server.find("session.opened", since)


@pytest.mark.parametrize("options", [("-v",), ("-vvv",), ("-q",)])
def test_talkative_and_silent_clients(client: Client, options: tuple[str, ...]) -> None:
    """Protects VS Code, which parses the output of `ssh -v`: it contains the login and the exit status."""
    result = client.run("exit 3", *options)
    assert result.status == 3
    said = result.stderr.decode()
    assert ("Exit status 3" in said) == (options[0] != "-q")
    assert ("Authenticated to 127.0.0.1" in said) == (options[0] != "-q")


def test_idle_connection_is_kept_alive(client: Client) -> None:
    """Protects `ServerAliveInterval`: the server answers keepalives, so that the client does not give up."""
    assert client.run("sleep 3; exit 3", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1").status == 3


def test_rekeying_loses_nothing(client: Client) -> None:
    """Protects long connections: a rekey after every 1 MiB, in the middle of bulk data in both directions."""
    data = bytes(range(256)) * 32768
    result = client.run("cat", "-o", "RekeyLimit=1M", input=data, seconds=60)
    assert result.status == 0
    assert result.stdout == data


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "options",
    [("-X",), ("-Y",), ("-w", "any")],
    ids=["x11", "trusted-x11", "tunnel"],
)
def test_unserved_request_leaves_the_session_alone(client: Client, options: tuple[str, ...]) -> None:
    """Protects sessions from extra requests of their client: these are refused, and the command runs."""
    result = client.run("echo ran; exit 3", *options, environ={"DISPLAY": ":9"})
    assert (result.status, result.stdout) == (3, b"ran\n")


@pytest.mark.parametrize("kind", ["local", "socks"])
def test_failed_forward_leaves_the_session_alone(client: Client, server: Server, kind: str) -> None:
    """Protects a session beside -L or -D: a connection that fails is closed, and the session goes on."""
    port, nobody = free_port(), free_port()
    since = server.mark()
    option = ("-L", f"127.0.0.1:{port}:127.0.0.1:{nobody}") if kind == "local" else ("-D", f"127.0.0.1:{port}")
    ssh = client.popen("echo ready; read line; exit 3", *option)
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"ready\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as through:
        if kind == "socks":
            through.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + nobody.to_bytes(2, "big"))
        server.wait_for("request.denied", since=since)
        while through.recv(4096):
            pass
    ssh.communicate(b"line\n", timeout=PATIENCE)
    assert ssh.returncode == 3


def test_unknown_subsystem_fails(client: Client, server: Server) -> None:
    """Protects against giving a shell to a client that requested something else."""
    since = server.mark()
    result = client.run("nonsense", "-s")
    assert result.status not in {0, 3}
    assert b"subsystem request failed" in result.stderr
    assert "nonsense" in server.wait_for("request.denied", since=since)["request"]


def test_sessions_per_connection_are_bounded(client: Client, server: Server) -> None:
    """Protects the machine from one connection that opens sessions without end: past the limit they are refused."""

    async def talk() -> tuple[int, int | None]:
        async with asyncio.timeout(30), client.connect() as connection:
            running = [await connection.create_process("read line") for _ in range(64)]
            refused = 0
            for _ in range(3):
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.create_process("true")
                refused += 1
            running[0].stdin.write("x\n")
            await running[0].wait()
            status = (await connection.run("exit 3")).exit_status
            for process in running[1:]:
                process.stdin.write("x\n")
            for process in running[1:]:
                await process.wait()
            return refused, status

    since = server.mark()
    assert asyncio.run(talk()) == (3, 3)
    assert re.search("64 sessions", server.find("request.denied", since)[0]["reason"])
