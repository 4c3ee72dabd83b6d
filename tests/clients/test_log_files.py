"""The log over several files, starts and deaths, and on disks that take nothing: no line is lost or there twice."""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pyssh_gateway.audit.segments import segments
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.log_files import LONG, assert_indexes_fit, events, last_seq, write_much
from tests.support.server import Server
from tests.support.waiting import until

SMALL = {"audit": {"segment_size": "64KiB"}}
LINES = 20
"""Long lines that are more than a small file has."""


def closed(server: Server) -> list[Path]:
    """The closed files, which have all been compressed."""
    return sorted(server.audit_dir.glob("events-*.jsonl.zst"))


def plain(server: Server) -> list[Path]:
    """The closed files that have not been compressed yet."""
    return sorted(server.audit_dir.glob("events-*.jsonl"))


def until_tidy(server: Server, count: int) -> None:
    """Wait until there are `count` closed files, all compressed."""
    until(lambda: len(closed(server)) >= count and not plain(server), what="the closed files")


def test_a_full_file_is_closed(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the record: when a file is large, the log goes on in another one, and each line is in one of them."""
    server = make_server(SMALL)
    client = Client(server, user_key.private)
    write_much(client, LINES)
    until(lambda: closed(server) or plain(server), what="another file")
    assert client.run("true").status == 0
    server.stop()
    assert [event["seq"] for event in events(server.audit_dir)] == list(range(1, last_seq(server) + 1))
    assert_indexes_fit(server.audit_dir)


@pytest.mark.soak
def test_full_files_are_closed_and_compressed(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the disk: closed files are compressed, and have the rights of the file before."""
    server = make_server(SMALL)
    client = Client(server, user_key.private)
    (server.audit_dir / "events.jsonl").chmod(0o604)
    for count in (1, 2):
        write_much(client, LINES)
        until_tidy(server, count)
    server.stop()
    assert [event["seq"] for event in events(server.audit_dir)] == list(range(1, last_seq(server) + 1))
    assert_indexes_fit(server.audit_dir)
    assert len(segments(server.audit_dir)) == 3
    for path in closed(server):
        assert path.stat().st_size < 64 * 1024 // 4
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o604, os.geteuid())
    assert not [line for line in server.lines if b"log.segment" in line]


@pytest.mark.parametrize("killed", [(0,), pytest.param((1, 2), marks=pytest.mark.soak)], ids=["two", "four"])
def test_numbers_and_names_go_on_over_starts(
    make_server: MakeServer, user_key: KeyPair, killed: tuple[int, ...]
) -> None:
    """Protects `audit show c2`: over stops and a death of everything, no number and no name stands for two things."""
    server = make_server(start=False)
    server.audit_dir.mkdir()
    old = b'{"ts":"2026-01-02T03:04:05.678901Z","seq":%d,"event":"connection.opened","conn":"3fa9c1d2e4"}\n'
    (server.audit_dir / "events.jsonl").write_bytes(old % 1 + old % 2 + old % 1)
    starts = killed[-1] + 2
    for number in range(starts):
        server.start()
        assert Client(server, user_key.private).run("true").status == 0
        server.wait_for("connection.closed")
        if number in killed:
            until(lambda: b"connection.closed" in (server.audit_dir / "events.jsonl").read_bytes()[-4096:], what="it")
            os.kill(server.gateway_pid, signal.SIGSTOP)  # so that it writes nothing more
            server.signal(signal.SIGKILL)
            os.kill(server.gateway_pid, signal.SIGKILL)
            server.wait()
        else:
            server.stop()
    found = events(server.audit_dir)[3:]
    assert [event["seq"] for event in found] == list(range(2, len(found) + 2))
    names = [event["conn"] for event in found if event["event"] == "connection.opened"]
    assert [int(name[1:]) for name in names] == sorted({int(name[1:]) for name in names})
    assert len(names) == starts


@pytest.mark.soak
def test_a_monitor_that_dies_while_files_change(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the record: the monitor is killed at any moment while files are closed; no line is lost or twice."""
    server = make_server(SMALL)
    for number in range(4):  # after five deaths in a minute the server gives up
        client = Client(server, user_key.private)
        write_much(client, LINES - 6)
        since = server.mark()
        client.run(LONG)
        files = len(closed(server)) + len(plain(server))
        late = time.monotonic() + 0.005 * number
        until(
            lambda: len(closed(server)) + len(plain(server)) > files or time.monotonic() > late,  # noqa: B023 - called within the turn
            what="the change, or not",
        )
        os.kill(server.gateway_pid, signal.SIGKILL)
        started = server.wait_for("server.started", since=since, generation=number + 2)
        server.gateway_pid = started["pid"]
    write_much(Client(server, user_key.private), LINES)
    until_tidy(server, 2)
    server.stop()
    seqs = [event["seq"] for event in events(server.audit_dir)]
    assert sorted(set(seqs)) == seqs  # the number of a line that was about to be written may be missing
    assert len(seqs) >= seqs[-1] - 4
    assert_indexes_fit(server.audit_dir)


@pytest.mark.soak
def test_what_a_dead_server_has_left_is_tidied(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the disk: a start finishes what was interrupted, and deletes what is older than `audit.keep`."""
    server = make_server({"audit": {"keep": "1h"}})
    server.stop()
    log = server.audit_dir / "events.jsonl"
    first = log.rename(server.audit_dir / "events-000000000000.jsonl")
    content = first.read_bytes()
    (server.audit_dir / "events-000000000000.jsonl.zst.new").write_bytes(b"half")
    server.start()
    until_tidy(server, 1)
    os.utime(closed(server)[0], (time.time() - 3601,) * 2)
    server.stop()
    assert [event["seq"] for event in events(server.audit_dir)][: content.count(b"\n")] == list(
        range(1, content.count(b"\n") + 1)
    )
    assert not list(server.audit_dir.glob("*.new"))
    server.start()
    until(lambda: not closed(server), what="the deletion")
    assert events(server.audit_dir)[0]["seq"] == content.count(b"\n") + 1


# -- disks that take nothing ------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Leave no room on the disk."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_loses_nothing_that_fits_into_memory(
    make_server: MakeServer, user_key: KeyPair, disk: Path
) -> None:
    """Protects logins and the record: everybody gets in although the disk is full, and their lines come later."""
    server = make_server({"audit_dir": str(disk / "audit")}, start=False)
    server.audit_dir = disk / "audit"
    server.start()
    server.wait_for("host_key.created")
    ballast = disk / "ballast"
    fill(ballast)
    client = Client(server, user_key.private)
    write_much(client, 5)
    assert client.run("true").status == 0
    server.wait_for("connection.closed", count=2)
    assert "No space left on device; events wait" in server.stderr
    before = len(events(server.audit_dir))
    ballast.unlink()
    assert client.run("true").status == 0
    server.wait_for("connection.closed", count=3)
    server.stop()
    found = events(server.audit_dir)
    assert len(found) > before
    assert [event["seq"] for event in found] == list(range(1, last_seq(server) + 1))
