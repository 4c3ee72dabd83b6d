"""audit.index.update: however the log grew, was cut into files and renamed, the index is that of the whole log."""

import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench.audit.month import Month
from pyssh_gateway.audit.index import update as module
from pyssh_gateway.audit.index.queries import Wanted
from pyssh_gateway.audit.index.schema import TABLES
from pyssh_gateway.audit.index.search import search
from pyssh_gateway.audit.index.update import Stale, update
from tests.support.made_logs import write_log
from tests.support.written_log import WrittenLog

LINES = [line + b"\n" for line in Month(2, 40).lines(2)]
"""About two thousand lines: people, strangers, starts and stops."""


def database() -> sqlite3.Connection:
    """An empty index."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(TABLES)
    return made


def rows(index: sqlite3.Connection) -> dict[str, list[Any]]:
    """Everything in the index; texts by themselves instead of their numbers."""
    found = {name: index.execute(f"SELECT * FROM {name}").fetchall() for name in ("connections", "sessions")}
    mentions = index.execute("SELECT t.text, m.* FROM mentions m JOIN texts t ON t.id = m.text")
    found["mentions"] = sorted((text, *rest) for text, _, *rest in mentions)
    found["state"] = index.execute("SELECT next, first, last, damaged, time FROM state").fetchall()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The index of the whole log, read at once."""
    index = database()
    update(index, write_log(tmp_path_factory.mktemp("whole"), LINES))
    found = rows(index)
    assert len(found["connections"]) > 200
    assert len(found["mentions"]) > 200
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_log_that_grows_gives_the_same(
    tmp_path: Path, whole: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Read in steps, with files closed and compressed in between, and a line cut off at each step."""
    monkeypatch.setattr(module, "BATCH", 97)
    random = Random(seed)
    index = database()
    cuts: list[int] = []
    for end in sorted(random.sample(range(10, len(LINES)), 8)):
        write_log(tmp_path, [*LINES[:end], LINES[end][: random.randrange(len(LINES[end]))]], cuts)
        update(index, tmp_path)
        if random.random() < 0.5:
            cuts.append(random.choice((end, random.randrange(cuts[-1] + 1 if cuts else 1, end))))
    write_log(tmp_path, LINES, cuts)
    update(index, tmp_path)
    assert rows(index) == whole
    before = index.total_changes
    update(index, tmp_path)
    assert index.total_changes == before  # there was nothing new


def test_lines_that_are_no_events_are_counted(tmp_path: Path, whole: dict[str, list[Any]]) -> None:
    """Damage in the log costs no more than itself: of types, of numbers too large for a database, of bytes."""
    damaged = [
        b"\xff\xfe\n",
        b"\n",
        b"[]\n",
        b'{"event":"connection.opened"}\n',
        b'{"ts":"2026-01-05T00:00:00Z","event":"session.closed","conn":"c1","session":"c1.1","bytes_in":99999999999999999999}\n',
        b'{"ts":"2026-01-05T00:00:00Z","event":"connection.opened","conn":7}\n',
        b'{"ts":"2026-01-05T00:00:00Z","event":"\\ud800"}\n',
        b'{"ts":"' + b"x" * 3_000_000 + b'"}\n',
    ]
    index = database()
    update(index, write_log(tmp_path, [*LINES, *damaged]))
    assert index.execute("SELECT damaged, next FROM state").fetchone() == (len(damaged), len(LINES) + len(damaged))
    assert rows(index)["connections"] == whole["connections"]
    update(index, write_log(tmp_path, [*LINES, *damaged, *LINES[-1:]]))  # the offset behind the long line is wrong
    assert index.execute("SELECT damaged, next FROM state").fetchone() == (len(damaged), len(LINES) + len(damaged) + 1)


def test_another_log_is_noticed(tmp_path: Path) -> None:
    """A log that was replaced, emptied, or whose last line was changed needs a new index."""
    index = database()
    update(index, write_log(tmp_path, LINES[:100]))
    for other in (LINES[100:300], LINES[:50], [*LINES[:99], LINES[99].replace(b'"', b"'", 1)], []):
        write_log(tmp_path, other)
        with pytest.raises(Stale):
            update(index, tmp_path)


def test_what_was_deleted_is_forgotten(tmp_path: Path) -> None:
    """When old files are deleted, the index does not keep what they said; what goes on is kept whole."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    log.terminal(1, "c1")
    log.go(2, "c1")
    log.come(3, "c2", "amos")
    log.terminal(4, "c2")
    log.go(5, "c2")
    index = database()
    update(index, write_log(tmp_path, log.lines, cuts=[5]))
    assert index.execute("SELECT count(*) FROM connections").fetchone() == (2,)
    update(index, write_log(tmp_path, log.lines, cuts=[5], deleted=1))
    assert index.execute("SELECT conn FROM connections").fetchall() == [("c2",)]
    assert index.execute("SELECT session FROM sessions").fetchall() == [("c2.1",)]
    assert index.execute("SELECT first FROM state").fetchone() == (5,)


def test_the_text_of_what_was_deleted_is_not_found(tmp_path: Path) -> None:
    """Not in the texts, and not in their index, whose integrity SQLite checks itself."""
    index = database()
    update(index, write_log(tmp_path, LINES, cuts=[1500]))
    assert list(search(index, "rm -rf build", Wanted()))
    update(index, write_log(tmp_path, LINES, cuts=[1500], deleted=1))
    index.execute("INSERT INTO text_parts (text_parts) VALUES ('integrity-check')")
    fresh = database()
    update(fresh, tmp_path)
    ours, theirs = [{hit.line for hit in search(one, "part-0001", Wanted())} for one in (index, fresh)]
    assert ours == theirs
    texts = "SELECT text FROM texts ORDER BY text"
    assert index.execute(texts).fetchall() == fresh.execute(texts).fetchall()
