"""The log of `scp -O`, with the machine's scp and with ours, and the requests that forced commands replace."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.server import EventFields, Server
from tests.support.waiting import PATIENCE

WITHOUT_SCP = "PATH=/nowhere"
"""With this the machine has no scp, and ours serves."""


@pytest.fixture(params=["theirs", "ours"])
def copying(request: pytest.FixtureRequest, make_server: MakeServer, user_key: KeyPair) -> Client:
    """A client of a server whose copies are served by the machine's scp, or by ours."""
    settings = {"set_env": [WITHOUT_SCP]} if request.param == "ours" else {}
    return Client(make_server(login_settings=settings), user_key.private)


def scp(client: Client, *arguments: str | Path) -> int:
    """Run `scp -O`, where the server is `far:` in `arguments`; returns its exit status."""
    far = f"scp://{client.server.login}@127.0.0.1:{client.server.port}/"
    argv = ["scp", "-O", "-q", *client.options(), *(str(argument).replace("far:", far) for argument in arguments)]
    done = subprocess.run(argv, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE)
    return done.returncode


def operations(server: Server) -> list[tuple[str, str, str, str, int, int, str]]:
    """The log's file operations in order, without ids."""
    server.wait_for("session.closed")
    fields = ("operation", "path", "target", "detail", "bytes_read", "bytes_written", "outcome")
    return [tuple(event[field] for field in fields) for event in server.find("sftp.operation")]


def test_an_upload_and_its_directories(copying: Client, scratch: Path, tmp_path: Path) -> None:
    """Protects the record of what people did: each uploaded file is logged with its size, at any depth."""
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "top" / "inner" / "größe 大").write_bytes(b"x" * 100_000)
    assert scp(copying, "-r", tmp_path / "top", f"far:{scratch}/") == 0
    expected = ("file.closed", f"{scratch}/top/inner/größe 大", "", "scp write", 0, 100_000, "ok")
    assert operations(copying.server) == [expected]
    assert (scratch / "top" / "inner" / "größe 大").stat().st_size == 100_000


def test_an_upload_that_is_refused(copying: Client, tmp_path: Path) -> None:
    """A failed upload is logged with the reason."""
    (tmp_path / "f").touch()
    assert scp(copying, tmp_path / "f", "far:/proc/nothing/") == 1
    (told,) = operations(copying.server)
    assert told[:4] == ("file.open_failed", "/proc/nothing/f", "", "scp write")


def test_a_download(copying: Client, scratch: Path, tmp_path: Path) -> None:
    """Each downloaded file is logged, and so is one that did not exist."""
    (scratch / "a.txt").write_bytes(b"hello")
    (scratch / "b.txt").write_bytes(b"")
    assert scp(copying, f"far:{scratch}/*.txt", f"far:{scratch}/none", tmp_path) == 1
    copying.server.wait_for("session.closed", count=2)
    assert operations(copying.server) == [
        ("file.closed", f"{scratch}/a.txt", "", "scp read", 5, 0, "ok"),
        ("file.closed", f"{scratch}/b.txt", "", "scp read", 0, 0, "ok"),
        ("file.open_failed", f"{scratch}/none", "", "scp read", 0, 0, "ENOENT"),
    ]


def test_a_relative_target(copying: Client, account: pwd.struct_passwd, scratch: Path, tmp_path: Path) -> None:
    """The log does not guess whether a relative target is a directory or the file itself."""
    (tmp_path / "f").write_bytes(b"ab")
    relative = os.path.relpath(scratch, account.pw_dir)
    assert scp(copying, tmp_path / "f", f"far:{relative}") == 0
    (told,) = operations(copying.server)
    assert told == ("file.closed", f"{account.pw_dir}/{relative}", "f", "scp write", 0, 2, "ok")
    assert (scratch / "f").read_bytes() == b"ab"


def opened(server: Server, count: int) -> EventFields:
    """The event of the `count`-th session."""
    return server.wait_for("session.opened", count=count)


def test_what_a_forced_command_stands_for(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the record: the log has the requested command beside the forced one, and only if one was forced."""
    server = make_server(login_settings={"force_command": "exit 3"})
    client = Client(server, user_key.private)
    assert client.run("cat /etc/motd").status == 3
    assert client.run(None, "-T").status == 3
    subprocess.run(
        ["sftp", "-b", "-", *client.options(), f"{server.login}@127.0.0.1"],
        input=b"ls\n", capture_output=True, check=False, env=client_environment(), timeout=PATIENCE,
    )  # fmt: skip
    (tmp_path / "f").touch()
    assert scp(client, tmp_path / "f", "far:/tmp/") != 0
    told = [opened(server, count) for count in range(1, 5)]
    assert {(event["kind"], event["command"]) for event in told} == {("exec", "exit 3")}
    assert [event["requested"] for event in told] == [
        "exec cat /etc/motd",
        "shell",
        "subsystem sftp",
        "exec scp -t /tmp/",
    ]
    assert not server.find("sftp.operation")


def test_nothing_was_forced(server: Server, client: Client) -> None:
    """A plain command has no requested command beside it."""
    client.run("true")
    assert server.wait_for("session.opened", command="true")["requested"] == ""


def test_a_wrapper_that_serves_scp_is_followed(
    make_server: MakeServer, user_key: KeyPair, scratch: Path, tmp_path: Path
) -> None:
    """Protects the record behind `command="wrapper"`, which runs the requested command after a check."""
    client = Client(make_server(login_settings={"force_command": "eval $SSH_ORIGINAL_COMMAND"}), user_key.private)
    (tmp_path / "f").write_bytes(b"abc")
    assert scp(client, tmp_path / "f", f"far:{scratch}/") == 0
    assert operations(client.server) == [("file.closed", f"{scratch}/f", "", "scp write", 0, 3, "ok")]


def test_a_forced_copy_is_told_as_it_is(
    make_server: MakeServer, user_key: KeyPair, scratch: Path, tmp_path: Path
) -> None:
    """Protects the record from a client: if the forced command is a copy, that command tells which file it was."""
    client = Client(make_server(login_settings={"force_command": f"scp -t {scratch}/"}), user_key.private)
    (tmp_path / "f").write_bytes(b"abc")
    assert scp(client, tmp_path / "f", "far:/somewhere/else") == 0
    assert operations(client.server) == [("file.closed", f"{scratch}/f", "", "scp write", 0, 3, "ok")]


def test_what_is_no_copy_is_said_once(server: Server, client: Client) -> None:
    """Output that is not the scp protocol, such as an rc file's greeting, is logged once as that."""
    since = server.mark()
    client.run("scp -t /tmp", input=b"hello\nhello\n")
    server.wait_for("session.closed", since=since)
    assert [event["operation"] for event in server.find("sftp.operation", since)] == ["events.invalid"]
