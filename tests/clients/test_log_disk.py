"""A full or read-only disk under the log, or no directory: nobody is kept out, or everybody but by break-glass."""

import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.account import other_account
from tests.support.client import Client, Result
from tests.support.commands import as_root
from tests.support.server import Server, Settings
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")

REFUSED = b"this machine can't write its log, and refuses new sessions until it can"


class Disk:
    """A file system of 128 KiB, mounted as the `audit_dir` of a server."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(mode=0o750)
        self._mount("-t", "tmpfs", "-o", "size=128k,mode=750", "none")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self._place)], check=True)

    def fill(self) -> None:
        """Leave no room."""
        with suppress(OSError), (self._place / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        """Remove what fills it."""
        (self._place / "filling").unlink()

    def protect(self, *, read_only: bool) -> None:
        """Mount it read-only, while nothing in it is open for writing, or as before."""
        self._mount("-o", "remount,ro" if read_only else "remount,rw")

    def unmount(self) -> None:
        """Remove it, as soon as the server does not use it any more."""
        subprocess.run(["umount", "--lazy", str(self._place)], check=True)


def remove(directory: Path) -> None:
    """Remove the directory at one stroke: one that is emptied before may be used again before it is removed."""
    shutil.rmtree(directory.rename(directory.with_name("removed")))


MakeDisk = Callable[[Server], Disk]


@pytest.fixture
def make_disk() -> Iterator[MakeDisk]:
    """Mounts the disk of a server that has not been started."""
    disks: list[Disk] = []

    def make(server: Server) -> Disk:
        disks.append(Disk(server.audit_dir))
        return disks[-1]

    yield make
    for disk in disks:
        disk.unmount()


@pytest.fixture
def required(user_key: KeyPair, account: pwd.struct_passwd) -> Iterator[Settings]:
    """The settings of a server that needs its log, with a second account that gets in without one."""
    keys = [f"file:{user_key.public}"]
    with other_account("breakglass") as helper:
        logins = [{"user": account.pw_name, "keys": keys}, {"user": helper.pw_name, "keys": keys, "break_glass": True}]
        yield {"audit": {"required": True}, "login": logins}


def break_glass(settings: Settings) -> str:
    """The second account."""
    return str(settings["login"][1]["user"])


def logged(server: Server) -> list[dict[str, Any]]:
    """The lines in the log's file, in the order of their numbers."""
    found = [json.loads(line) for line in (server.audit_dir / "events.jsonl").read_text().splitlines()]
    numbers = [line["seq"] for line in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return found


def until_refused(client: Client) -> Result:
    """Log in until that is refused: the file's last page on the disk has room for a few lines."""
    last: list[Result] = []

    def is_refused() -> bool:
        last[:] = [client.run("true")]
        return last[0].status != 0

    until(is_refused, what="refusal")
    return last[0]


def test_a_full_disk_keeps_nobody_out(
    make_server: MakeServer,
    user_key: KeyPair,
    make_disk: MakeDisk,
) -> None:
    """Sessions go on and begin, `status`, `check` and the figures say it, and the log has everything in the end."""
    server = make_server({}, start=False)
    disk = make_disk(server)
    server.start()
    client = Client(server, user_key.private)
    disk.fill()

    def status() -> Any:  # noqa: ANN401 - JSON
        assert client.run("true").status == 0
        return json.loads(as_root(client, "status", "--json").stdout)["log"]

    log = until(status, what="trouble")
    assert "No space left on device" in log["trouble"]
    assert (log["required"], log["lost"]) == (False, 0)
    assert log["waiting"] > 0
    shown = as_root(client, "status").stdout
    assert "the log can't be written: " in shown
    assert "nobody is kept out" in shown
    checked = as_root(client, "check")
    assert "is full: nobody is kept out" in checked.stdout + checked.stderr
    assert "events wait for that to be put right" in server.stderr
    disk.make_room()
    until(lambda: json.loads(as_root(client, "status", "--json").stdout)["log"] is None, what="end of the trouble")
    names = [line["event"] for line in logged(server)]
    assert names.count("session.closed") == len(server.find("session.closed")) >= 1


def test_a_log_that_is_required(
    make_server: MakeServer, user_key: KeyPair, make_disk: MakeDisk, required: Settings, tmp_path: Path
) -> None:
    """On a full disk new sessions are refused, running ones go on, break-glass gets in, and the log says so later."""
    server = make_server(required, start=False)
    disk = make_disk(server)
    server.start()
    client = Client(server, user_key.private)
    shared = str(tmp_path / "master")
    with client.popen("cat", "-M", "-S", shared) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        until(Path(shared).exists, what="the shared connection")
        assert client.run("exit 7", "-S", shared).status == 7
        disk.fill()
        refused = until_refused(client)
        assert REFUSED in refused.stderr
        assert refused.stdout == b""
        assert client.run("exit 7", "-S", shared).status == 255  # and stderr is the other client's
        assert client.run("exit 7", user=break_glass(required)).status == 7
        running.stdin.write(b"still here\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"still here\n"
        assert "nobody gets in, but by break_glass" in as_root(client, "status").stdout
        assert f"break-glass login to {break_glass(required)} from 127.0.0.1" in server.stderr
        disk.make_room()
        until(lambda: client.run("exit 7").status == 7, what="login")
        assert client.run("exit 8", "-S", shared).status == 8
        running.stdin.close()
        assert running.wait() == 0
    lines = logged(server)
    glass = [line["user"] for line in lines if line["event"] == "connection.authenticated" and line["break_glass"]]
    assert glass == [break_glass(required)]
    denied = [line["reason"] for line in lines if line["event"] == "request.denied"]
    assert REFUSED.decode() in denied


@pytest.mark.parametrize("is_required", [False, True])
def test_a_start_with_a_read_only_disk(
    make_server: MakeServer, user_key: KeyPair, make_disk: MakeDisk, required: Settings, is_required: bool
) -> None:
    """The server starts and says it; without a log nobody gets in if that is required; a reload opens the log."""
    settings = required | {"audit": {"required": is_required}}
    server = make_server(settings, start=False)
    disk = make_disk(server)
    server.start()
    client = Client(server, user_key.private)
    assert client.run("exit 7").status == 7
    server.stop()
    disk.protect(read_only=True)
    server.start()
    assert client.run("exit 7", user=break_glass(required)).status == 7
    assert client.run("exit 7").status == (255 if is_required else 7)
    assert "Read-only file system; events wait" in server.stderr
    meaning = "nobody gets in, but by break_glass" if is_required else "nobody is kept out"
    assert meaning in as_root(client, "status").stdout
    for command in ("check", "doctor"):
        said = as_root(client, command)
        assert "is read-only" in said.stdout + said.stderr
        assert meaning in said.stdout + said.stderr
    disk.protect(read_only=False)
    mark = server.mark()
    os.kill(server.pid, signal.SIGHUP)
    server.wait_for("audit.reopened", since=mark)
    assert client.run("exit 8").status == 8
    lines = logged(server)
    assert [line["event"] for line in lines].count("server.started") == 2
    glass = [line["user"] for line in lines if line["event"] == "connection.authenticated" and line["break_glass"]]
    assert glass == ([break_glass(required)] if is_required else [])


def test_a_directory_that_is_gone(make_server: MakeServer, user_key: KeyPair, required: Settings) -> None:
    """A removed directory is made again, and nobody notices; if that is impossible, a required log keeps people out."""
    server = make_server(required)
    client = Client(server, user_key.private)
    remove(server.audit_dir)
    assert client.run("exit 7").status == 7
    server.wait_for("audit.reopened")
    remove(server.audit_dir)
    server.audit_dir.write_text("in the way")
    assert REFUSED in until_refused(client).stderr
    assert client.run("exit 7", user=break_glass(required)).status == 7
    server.audit_dir.unlink()  # and nobody has to say so
    until(lambda: client.run("exit 7").status == 7, what="login")
