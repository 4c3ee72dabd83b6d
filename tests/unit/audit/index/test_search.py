"""audit.index.search: every text that is there is found, by any part of it, and nothing else."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway import events as ev
from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import Wanted
from pyssh_gateway.audit.index.schema import TABLES
from pyssh_gateway.audit.index.search import Hit, search
from tests.support.made_logs import write_log
from tests.support.written_log import MONDAY, WrittenLog, identity


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two people, commands, files, a forward, a hold, and a stranger."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    for number, command in enumerate(("rm -rf build", "RM -RF Other", 'echo "100%_done"', "x", "é你好"), start=1):
        which: dict[str, Any] = {"conn": "c1", "session": f"c1.{number}", "user": "dev", "identity": identity("amos")}
        log.write(number, ev.SessionOpened(**which, kind="exec", command=command, tty="", term="", pid=1))
    for at in (10, 20, 30):
        forward = ev.ForwardOpened(conn="c1", user="dev", kind="direct-tcpip", target="db.example:5432")
        log.write(at, forward)
    log.write(40, ev.HoldStarted(hold="h1", user="build", seconds=60.0, reason="training run", pid=0))
    log.come(50, "c2", "example", peer="198.51.100.7")
    log.come(60, "c3")
    denied = ev.AuthAttempt(
        conn="c3", peer="203.0.113.9", user="root", method="publickey", result="denied", fingerprint="SHA256:unknown"
    )
    log.write(61, denied)
    closed = ev.ConnectionClosed(
        conn="c3", peer="", user="", reason="", seconds=1.0, bytes_in=0, bytes_out=0, client="Go", hassh="92674389fa1e"
    )
    log.write(62, closed)
    return write_log(tmp_path, log.lines)


def found(log: Path, text: str, wanted: Wanted | None = None) -> list[Hit]:
    """What is found."""
    with Index(log, {}, pytest.fail) as index:
        return index.ask(lambda database: list(search(database, text, wanted or Wanted())))


@pytest.mark.parametrize(
    ("text", "whats"),
    [
        ("rm -rf", [("c1.1", "rm -rf build"), ("c1.2", "RM -RF Other")]),
        ("M -RF B", [("c1.1", "rm -rf build")]),
        ("100%_", [("c1.3", 'echo "100%_done"')]),
        ('o "1', [("c1.3", 'echo "100%_done"')]),
        ("100__", []),
        ("x", [("c1.4", "x"), ("", "db.example:5432"), ("", "file:example"), ("", "SHA256:example")]),
        ("É", [("c1.5", "é你好")]),
        ("你好", [("c1.5", "é你好")]),
        ("training", [("", "training run")]),
        ("unknown", [("", "SHA256:unknown")]),
        ("root", [("", "root")]),
        ("674389", [("", "92674389fa1e")]),
        ("198.51", [("", "198.51.100.7")]),
        ("nothing like it", []),
        ("' OR 1=1 --", []),
        ("*", []),
        ("a AND b", []),
    ],
)  # fmt: skip
def test_any_part_of_a_text_is_found(log: Path, text: str, whats: list[tuple[str, str]]) -> None:
    """Also signs that mean something to SQL, to LIKE or to the full-text search; one character; other scripts."""
    assert sorted((hit.session, hit.text) for hit in found(log, text)) == sorted(whats)


def test_a_hit_says_who_where_and_when(log: Path) -> None:
    """What a connection repeats is one hit, with its number."""
    (hit,) = found(log, "5432")
    assert (hit.since, hit.until, hit.count) == (MONDAY + 10, MONDAY + 30, 3)
    assert (hit.conn, hit.person, hit.user, hit.peer) == ("c1", "file:amos", "dev", "203.0.113.9")
    assert hit.what == "forward, direct-tcpip"


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Wanted(person="file:amos"), 2),
        (Wanted(person="file:example"), 0),
        (Wanted(user="dev"), 2),
        (Wanted(since=MONDAY + 1.5), 1),
        (Wanted(until=MONDAY + 1.5), 1),
    ],
)
def test_only_what_was_asked_for(log: Path, wanted: Wanted, number: int) -> None:
    """By person, account and time."""
    assert len(found(log, "rm -rf", wanted)) == number


def test_a_hold_is_found_by_its_account(log: Path) -> None:
    """What happens without a connection has an account only."""
    assert [hit.user for hit in found(log, "training", Wanted(user="build"))] == ["build"]
    assert not found(log, "training", Wanted(user="dev"))
    assert not found(log, "training", Wanted(person="file:amos"))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=50)
@given(st.lists(TEXT.filter(bool), min_size=1, max_size=5), st.data())
def test_trigrams_lose_nothing(texts: list[str], data: st.DataObject) -> None:
    """Whatever the texts are, each is found by each of its parts."""
    whole = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, len(whole) - 1))
    part = whole[start : data.draw(st.integers(start + 1, len(whole)))]
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(TABLES)
    for number, text in enumerate(texts, start=1):
        database.execute("INSERT INTO texts VALUES (?, 0, ?)", (number, text))
        database.execute("INSERT INTO text_parts (rowid, text) VALUES (?, ?)", (number, text))
        database.execute("INSERT INTO mentions VALUES (?, 0, 0, 'w', '', 1, 1, 0, 0, 1)", (number,))
    hits = {hit.text for hit in search(database, part, Wanted())}
    assert whole in hits
    assert hits <= {text for text in texts if part.casefold() in text.casefold()}
    database.close()
