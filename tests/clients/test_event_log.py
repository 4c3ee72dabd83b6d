"""The log of a real server: complete, parseable, and safe to read whatever the network has sent."""

import asyncio
import json
import re
import secrets
import subprocess

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE

HOSTILE = b'echo \x1b]0;title\x07 \xff\xfe \r\n{"event":"forged"} \xe2\x80\xae \x9b31m'
"""A terminal's title, invalid UTF-8, a line of our own format, a right-to-left override, a C1 control character."""


def file_lines(server: Server) -> list[bytes]:
    """The lines of the log file."""
    return (server.audit_dir / "events.jsonl").read_bytes().splitlines(keepends=True)


def assert_harmless(lines: list[bytes]) -> None:
    """Fail unless every line is one line of JSON without anything that acts on a terminal."""
    for line in lines:
        assert re.fullmatch(rb"[^\x00-\x1f\x7f]+\n", line), line
        text = line.decode("utf-8")
        assert not re.search("[\u0080-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text), line
        assert json.loads(text)["event"]


def test_hostile_command_is_made_harmless(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person who reads the log: a command with control characters and invalid UTF-8 is shown escaped."""
    server = make_server()
    client = Client(server, user_key.private)
    command = [part.encode() for part in client.argv()]
    subprocess.run([*command, HOSTILE], check=False, capture_output=True, env=client_environment(), timeout=PATIENCE)
    server.wait_for("connection.closed")
    server.stop()
    assert_harmless(server.lines)
    assert_harmless(file_lines(server))
    (opened,) = server.find("session.opened")
    assert opened["command"].startswith("echo \\x1b]0;title\\x07 \\xff\\xfe \\r\\n{")
    assert not server.find("forged")


def test_hostile_user_name_is_made_harmless(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the same from clients that can't log in: the user name that they send is escaped."""
    server = make_server()
    client = Client(server, user_key.private)

    class Hostile(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            conn._username = "a\x1b[31m\nb\u202e"  # noqa: SLF001 - the public interface rejects this name

    async def try_it() -> None:
        with pytest.raises((asyncssh.PermissionDenied, asyncssh.IllegalUserName)):
            async with client.connect(client_factory=Hostile):
                pass

    asyncio.run(try_it())
    server.wait_for("connection.closed")
    server.stop()
    assert_harmless(server.lines)
    assert_harmless(file_lines(server))
    names = {event["user"] for event in server.find("auth.attempt")}
    assert names == {"a\\x1b[31m\\nb\\u202e"}


def test_file_and_output_agree(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the record: the file has every line that standard output has, numbered without gaps."""
    server = make_server()
    client = Client(server, user_key.private)
    assert client.run("exit 3").status == 3
    assert client.run("true", user="nobody").status == 255
    assert server.stop() == 0
    assert file_lines(server) == server.lines
    assert [event["seq"] for event in server.events] == list(range(1, len(server.events) + 1))


def test_session_is_told_whole(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the record of a session: its command, its end, the bytes in each direction, and its duration."""
    server = make_server()
    client = Client(server, user_key.private)
    ssh = client.popen("wc -c; sleep 0.3; exit 7")
    opened = server.wait_for("session.opened")  # the duration counts from here
    ssh.communicate(b"x" * 1000, timeout=PATIENCE)
    assert ssh.returncode == 7
    closed = server.wait_for("session.closed")
    assert (opened["kind"], opened["command"], opened["tty"]) == ("exec", "wc -c; sleep 0.3; exit 7", "")
    assert closed["session"] == opened["session"]
    assert (closed["exit_status"], closed["exit_signal"], closed["reason"]) == (7, None, "exited")
    assert (closed["bytes_in"], closed["bytes_out"]) == (1000, 5)
    assert 0.3 <= closed["seconds"] < AT_ONCE
    gone = server.wait_for("connection.closed")
    assert (gone["conn"], gone["user"]) == (opened["conn"], server.login)
    assert gone["bytes_in"] > 1000


def test_death_by_signal_is_told(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the same for a session in a terminal that was killed by a signal."""
    server = make_server()
    client = Client(server, user_key.private)
    assert client.run("kill -9 $$", "-tt").status == 255
    closed = server.wait_for("session.closed")
    assert (closed["exit_status"], closed["exit_signal"]) == (None, "KILL")
    (opened,) = server.find("session.opened")
    assert opened["tty"].startswith("/dev/pts/")
    assert opened["term"] == "xterm"


def test_log_is_appended_to(make_server: MakeServer) -> None:
    """Protects the record of earlier runs: a new start adds to the file."""
    server = make_server()
    server.stop()
    before = file_lines(server)
    server.start()
    server.stop()
    assert file_lines(server)[: len(before)] == before
    assert file_lines(server)[len(before) :] == server.lines


def test_log_is_not_for_everybody(make_server: MakeServer) -> None:
    """Protects the contents of the log: other accounts on the machine can't read it."""
    server = make_server()
    assert (server.audit_dir / "events.jsonl").stat().st_mode & 0o007 == 0
    assert server.audit_dir.stat().st_mode & 0o007 == 0
    assert (server.keys_dir / "ssh_host_ed25519_key").stat().st_mode & 0o077 == 0


def test_banner_says_how_to_log_in(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the first minute of use: the banner names accounts, keys, host key, the command, and the idle stop."""
    server = make_server({"idle": {"timeout": "90s"}})
    started = server.find("server.started")[0]
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(user_key.public)], capture_output=True, check=True, text=True
    ).stdout.split()[1]
    for words in (server.login, fingerprint, str(user_key.public), started["host_keys"][0], "1m30s"):
        assert words in server.stderr
    assert f"ssh -p {server.port} {server.login}@127.0.0.1" in server.stderr


def test_a_flood_of_file_names_is_counted(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects older lines: random paths are logged up to the share of an account, and then counted."""
    server = make_server({"audit": {"keep_size": "1MiB"}})
    client = Client(server, user_key.private)
    batch = "".join(f"-mkdir /nowhere/{secrets.token_hex(900)}\n" for _ in range(200))
    argv = ["sftp", "-q", "-b", "-", *client.options(), f"{server.login}@127.0.0.1"]
    subprocess.run(
        argv, input=batch.encode(), check=True, capture_output=True, env=client_environment(), timeout=PATIENCE
    )
    server.wait_for("connection.closed")
    begun, counted = server.find("audit.limited")
    assert (begun["lost"], begun["user"], counted["user"]) == (0, server.login, server.login)
    logged = len(server.find("sftp.operation"))
    assert 40 < logged < 120
    assert counted["lost"] == 200 - logged
    assert server.find("session.closed")
    numbers = [json.loads(line)["seq"] for line in file_lines(server)]
    assert numbers == list(range(1, len(numbers) + 1))
