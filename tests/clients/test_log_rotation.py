"""The log's file is moved, emptied and deleted while the server is in use: no line is lost or goes elsewhere."""

import os
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyssh_gateway.audit.header import BEGINNING
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.reloads import numbers
from tests.support.server import Server
from tests.support.waiting import until

LOGINS = 3
"""Logins after each step, so that lines are written before, during and after it."""


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A server for this test only."""
    return make_server()


@pytest.fixture
def log(server: Server) -> Path:
    """The log's file."""
    return server.audit_dir / "events.jsonl"


@contextmanager
def use(server: Server, key: KeyPair) -> Iterator[None]:
    """People log in and out all the time while this lasts."""
    over = threading.Event()
    failed: list[int] = []

    def log_in() -> None:
        client = Client(server, key.private)
        while not over.is_set():
            status = client.run("true").status
            if status:
                failed.append(status)

    thread = threading.Thread(target=log_in)
    thread.start()
    try:
        server.wait_for("session.closed", count=LOGINS)
        yield
        server.wait_for("session.closed", since=server.mark(), count=LOGINS)
    finally:
        over.set()
        thread.join()
    assert not failed


def assert_complete(server: Server, *files: Path) -> None:
    """Fail unless every event from the first to the last one is in one of the files, once."""
    server.stop()
    found = numbers(*files)
    assert found == list(range(1, found[-1] + 1))
    assert found[-1] == server.events[-1]["seq"]


def rotate(log: Path, number: int, *, create: bool) -> Path:
    """What logrotate does: move the file away, and with `create` put an empty one in its place."""
    old = log.with_name(f"events.jsonl.{number}")
    log.rename(old)
    if create:
        log.touch(0o640)
    return old


@pytest.mark.parametrize("create", [True, False], ids=["create", "nocreate"])
@pytest.mark.parametrize("told", [True, False], ids=["SIGHUP", "silent"])
def test_no_line_is_lost_over_rotations(server: Server, log: Path, user_key: KeyPair, create: bool, told: bool) -> None:
    """Protects the record: after logrotate's move the new file gets the lines, with a SIGHUP or without one."""
    old: list[Path] = []
    with use(server, user_key):
        for number in range(1, 4):
            old.append(rotate(log, number, create=create))
            if told:
                server.signal(signal.SIGHUP)
            server.wait_for("audit.reopened", count=number)
            server.wait_for("session.closed", since=server.mark(), count=LOGINS)
    assert_complete(server, *old, log)
    assert all(numbers(file) for file in (*old, log))
    header, first = log.read_bytes().splitlines()[:2]
    assert header.startswith(BEGINNING)
    assert b"audit.reopened" in first


def test_copied_and_emptied_file_goes_on(server: Server, log: Path, user_key: KeyPair) -> None:
    """Protects logrotate's `copytruncate`: the file stays the same one, and the next line becomes its first."""
    client = Client(server, user_key.private)
    assert client.run("true").status == 0
    server.wait_for("connection.closed")
    old = log.with_name("events.jsonl.1")
    shutil.copyfile(log, old)
    os.truncate(log, 0)
    assert client.run("true").status == 0
    server.wait_for("connection.closed", count=2)
    assert_complete(server, old, log)
    assert not server.find("audit.reopened")


def test_removed_directory_is_made_again(server: Server, log: Path, user_key: KeyPair) -> None:
    """Protects the record when somebody deletes it: directory and file come back as they were, with all new lines."""
    log.parent.chmod(0o751)
    server.stop()
    server.start()  # now the server knows the directory's mode
    client = Client(server, user_key.private)
    assert client.run("true").status == 0
    server.wait_for("connection.closed")
    before = server.events[-1]["seq"]
    shutil.rmtree(log.parent)
    with use(server, user_key):
        server.wait_for("audit.reopened")
    server.stop()
    found = numbers(log)
    assert found[-1] == server.events[-1]["seq"]
    assert set(range(before + 1, found[-1] + 1)) <= set(found)
    assert len(found) == len(set(found))
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o751
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


def test_directory_that_cannot_be_made_is_said(server: Server, log: Path, user_key: KeyPair) -> None:
    """Protects against a log that is lost silently: it is reported once, and later the new file has all lines."""
    client = Client(server, user_key.private)
    server.wait_for("host_key.created")  # the last line of a start
    shutil.rmtree(log.parent)
    before = server.events[-1]["seq"]
    log.parent.write_text("in the way")
    assert client.run("true").status == 0
    reason = server.wait_for("audit.lost")["reason"]
    assert reason == f"audit_dir {log.parent}: not a directory; set audit_dir to one"
    assert f"the log can't be opened anew, and goes on where it was: {reason}" in server.stderr
    log.parent.unlink()
    server.signal(signal.SIGHUP)
    server.wait_for("audit.reopened")
    server.stop()
    assert set(range(before + 1, server.events[-1]["seq"] + 1)) <= set(numbers(log))
    assert len(server.find("audit.lost")) == 1


def test_link_in_the_place_of_the_file_is_not_followed(
    server: Server, log: Path, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects other files: the spawner, which may be root, does not follow a link in the place of the log."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"root:x:0:0\n")
    old = rotate(log, 1, create=False)
    log.symlink_to(victim)
    assert Client(server, user_key.private).run("true").status == 0
    assert "not a plain file" in server.wait_for("audit.lost")["reason"]
    server.stop()
    assert victim.read_bytes() == b"root:x:0:0\n"
    assert numbers(old)[-1] == server.events[-1]["seq"]


def test_file_of_a_gateway_that_crashed_is_gone_on_with(server: Server, log: Path, user_key: KeyPair) -> None:
    """Protects the record over a crash between two rotations: the next network side opens the existing file."""
    old = rotate(log, 1, create=True)
    since = server.mark()
    os.kill(server.gateway_pid, signal.SIGKILL)
    server.wait_for("server.started", since=since, generation=2)
    assert Client(server, user_key.private).run("true").status == 0
    server.wait_for("connection.closed", since=since)
    until(lambda: b"connection.closed" in log.read_bytes(), what="its line")
    assert old.exists()
