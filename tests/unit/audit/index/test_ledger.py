"""audit.index.ledger: what becomes of connections and sessions, also of those whose end the log does not have."""

from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import SessionRow, Wanted, accounts_of, find, sessions
from tests.support.made_logs import write_log
from tests.support.written_log import MONDAY, WrittenLog


def rows(directory: Path, log: WrittenLog, wanted: Wanted | None = None) -> list[SessionRow]:
    """What the index has of a log."""
    with Index(write_log(directory, log.lines), {}, pytest.fail) as index:
        return index.ask(lambda database: list(sessions(database, wanted or Wanted())))


def test_a_session_is_told_whole(tmp_path: Path) -> None:
    """Who, what, when, how it ended, and what was done meanwhile."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    which: dict[str, Any] = {"conn": "c1", "session": "c1.1", "user": "dev"}
    log.write(1, ev.SessionOpened(**which, kind="exec", command="make", tty="", term="", pid=1, requested="shell"))
    operation = ev.FileOperation(
        **which, operation="file.removed", path="/a", target="", detail="", bytes_read=0, bytes_written=0, outcome="ok"
    )
    log.write(2, operation)
    log.write(2, ev.ForwardListening(conn="c1", user="dev", kind="forwarded-tcpip", target="localhost:80"))
    log.write(3, ev.ForwardOpened(conn="c1", user="dev", kind="direct-tcpip", target="127.0.0.1:5432"))
    closed = ev.SessionClosed(
        **which, reason="the process ended", exit_status=2, exit_signal=None, bytes_in=1, bytes_out=2, seconds=3.0
    )
    log.write(4, closed)
    log.go(5, "c1")
    (row,) = rows(tmp_path, log)
    assert (row.session, row.person, row.user, row.peer) == ("c1.1", "file:amos", "dev", "203.0.113.9")
    assert (row.since - MONDAY, row.until) == (1, MONDAY + 4)
    assert (row.command, row.requested, row.exit_status, row.bytes_out) == ("make", "shell", 2, 2)
    assert (row.state, row.files, row.forwards, row.listeners) == ("closed", 1, 1, 1)


def test_what_the_server_did_not_close_is_lost_at_its_next_start(tmp_path: Path) -> None:
    """After kill -9 of the server there is no end in the log: it was by the last event before the next start."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.terminal(11, "c1")
    log.come(20, "c2", "amos")
    (session, connection) = rows(tmp_path, log)
    assert (session.state, session.until, connection.state) == ("open", None, "open")
    log.start(500)
    log.come(600, "c3", "amos")
    found = {row.conn: row for row in rows(tmp_path, log)}
    assert {name: (row.state, row.until) for name, row in found.items()} == {
        "c1": ("lost", MONDAY + 20), "c2": ("lost", MONDAY + 20), "c3": ("open", None)
    }  # fmt: skip


def test_late_lines_of_a_killed_server_belong_to_its_connections(tmp_path: Path) -> None:
    """They come after the next server's first line, and are neither another connection nor lost."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.terminal(11, "c1")
    log.start(20)
    which: dict[str, Any] = {"conn": "c1", "session": "c1.1", "user": "dev"}
    closed = ev.SessionClosed(
        **which, reason="the server ended", exit_status=None, exit_signal="HUP", bytes_in=1, bytes_out=2, seconds=10.0
    )
    (row,) = rows(tmp_path, log)
    assert row.state == "lost"
    log.write(21, closed)
    log.go(22, "c1", goodbye=False)
    (row,) = rows(tmp_path, log)
    assert (row.session, row.state, row.until, row.exit_signal) == ("c1.1", "closed", MONDAY + 21, "HUP")


def test_who_did_not_get_in_is_found_by_any_of_their_keys(tmp_path: Path) -> None:
    """And the last of them is told."""
    log = WrittenLog()
    log.come(0, "c1")
    for key in ("SHA256:one", "SHA256:two"):
        which: dict[str, Any] = {"conn": "c1", "peer": "203.0.113.9", "user": "root", "method": "publickey"}
        log.write(1, ev.AuthAttempt(**which, result="denied", reason="unknown account", fingerprint=key))
    for key in ("SHA256:one", "SHA256:two"):
        (row,) = rows(tmp_path, log, Wanted(denied=True, person=key))
        assert row.fingerprint == "SHA256:two"
    assert not rows(tmp_path, log, Wanted(denied=True, person="SHA256:three"))
    assert not rows(tmp_path, log, Wanted(person="SHA256:one"))


def test_a_crash_of_the_monitor_loses_nothing(tmp_path: Path) -> None:
    """Connections go on over it: `server.started` with a later generation is no start of the server."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    started = ev.ServerStarted(
        version="", address="", port=0, pid=1, generation=2, host_keys=(), users=(), idle_timeout=None
    )
    log.write(20, started)
    log.go(30, "c1")
    (row,) = rows(tmp_path, log)
    assert (row.state, row.until) == ("closed", MONDAY + 30)


def test_names_that_old_logs_use_again_are_several_connections(tmp_path: Path) -> None:
    """Until this version each start counted connections anew."""
    log = WrittenLog()
    for begun in (0, 1000):
        log.start(begun)
        log.come(begun + 1, "c1", "amos")
        log.terminal(begun + 2, "c1")
        log.go(begun + 3, "c1", (0, 1))
    with Index(write_log(tmp_path, log.lines), {}, pytest.fail) as index:
        for name in ("c1", "c1.1"):
            found = index.ask(lambda database, name=name: find(database, name))  # type: ignore[misc]  # mypy infers no default
            assert [row.since - MONDAY for row in found] == [1, 1001]
            # `client.use`, which follows the end, is in the range of lines.
            assert [row.last_line - row.line for row in found] == [4, 4]
        assert index.ask(lambda database: find(database, "c2")) == []


def test_a_log_that_begins_in_the_middle_still_knows_who(tmp_path: Path) -> None:
    """If the beginning of a connection has been deleted, its later events name the person."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    opened = ev.SessionOpened(
        conn="c1",
        session="c1.1",
        user="dev",
        kind="shell",
        command="",
        tty="",
        term="",
        pid=1,
        identity=ev.Identity("github:example", 7, "SHA256:x"),
    )
    log.write(1, opened)
    del log.lines[:2]
    (row,) = rows(tmp_path, log)
    assert (row.person, row.person_id, row.user, row.fingerprint) == ("github:example", 7, "dev", "SHA256:x")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ["c1", "c2"]),
        (Wanted(since=MONDAY + 50), ["c2"]),
        (Wanted(until=MONDAY + 50), ["c1"]),
        (Wanted(since=MONDAY + 5, until=MONDAY + 6), ["c1"]),
        (Wanted(since=MONDAY + 20, until=MONDAY + 30), []),
        (Wanted(person="file:amos"), ["c1"]),
        (Wanted(person="amos"), ["c1"]),
        (Wanted(person="SHA256:amos"), ["c1"]),
        (Wanted(person="a%"), []),
        (Wanted(user="dev"), ["c1", "c2"]),
        (Wanted(user="de"), []),
        (Wanted(command="make"), []),
        (Wanted(denied=True), ["c3"]),
    ],
)
def test_only_what_was_asked_for(tmp_path: Path, wanted: Wanted, found: list[str]) -> None:
    """By time (what lasted then), person (name or key), account, command; and those who did not get in."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    log.go(10, "c1")
    log.come(100, "c2", "example")
    log.come(200, "c3")
    denied = ev.AuthAttempt(
        conn="c3", peer="203.0.113.9", user="root", method="publickey", result="denied", reason="unknown account"
    )
    log.write(201, denied)
    assert [row.conn for row in rows(tmp_path, log, wanted)] == found


def test_a_session_of_another_connection_can_not_be_spoken_for(tmp_path: Path) -> None:
    """Protects from a process that its user had taken over, whose lines an older monitor has written."""
    log = WrittenLog()
    log.come(0, "c5", "amos")
    log.terminal(1, "c5")
    log.come(2, "c9", "mallory")
    forged = ev.SessionOpened(
        conn="c9", session="c5.1", user="dev", kind="exec", command="forged", tty="", term="", pid=1
    )
    log.write(3, forged)
    for at, conn, status in ((4, "c9", 9), (5, "c5", 0)):
        which = {"conn": conn, "session": "c5.1", "user": "dev", "reason": conn, "exit_signal": None}
        sizes = {"bytes_in": 1, "bytes_out": 1, "seconds": 1.0}
        log.write(at, ev.SessionClosed(**which, **sizes, exit_status=status))  # type: ignore[arg-type]  # fields of several types
    true, false = rows(tmp_path, log)
    assert (true.conn, true.person, true.command, true.exit_status, true.state) == ("c5", "file:amos", "", 0, "closed")
    assert (false.conn, false.person, false.command, false.exit_status) == ("c9", "file:mallory", "forged", 9)
    with Index(tmp_path, {}, pytest.fail) as index:
        assert index.ask(lambda database: accounts_of(database, "c5.1")) == {"dev"}
        assert index.ask(lambda database: accounts_of(database, "c9.1")) == set()
