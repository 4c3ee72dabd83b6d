"""Puts what recordings have shown into the index, so that it can be searched.

A recording is read once, and again if it has grown. Reading one is much slower than reading the log, so it is done for
a search only.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from pyssh_gateway.audit.reading.lines_for_people import clean
from pyssh_gateway.audit.recordings.commands import commands
from pyssh_gateway.audit.recordings.files import recordings
from pyssh_gateway.audit.recordings.reading import header
from pyssh_gateway.audit.segments import NoLog

SLOW = 4 * 1024 * 1024
"""Bytes of recordings, compressed, from which on people are told that it takes a while."""

SCREEN = "screen"
AT_A_SHELL = "command, at a shell"
"""What a text of a recording is: a line that the screen showed, or a command that the shell has marked."""

AT_ONCE = 5_000
"""Lines that are written together."""

COMMITTED = 1.0
"""Seconds after which what has been read is kept, even if the person gives up."""


class _Recording(msgspec.Struct):
    """The files of a session's recording, in order; how large they are and when they were changed last."""

    account: str
    session: str
    files: list[tuple[int, Path]]
    size: int = 0
    changed: int = 0


def add_screens(database: sqlite3.Connection, audit_dir: Path, remark: Callable[[str], None]) -> None:
    """Read the recordings that are new or have grown, and forget those that are gone. Raises sqlite3.Error."""
    try:
        there = _listed(audit_dir)
    except NoLog as error:
        remark(f"what recordings showed is not searched: {error}")
        return
    rows = database.execute("SELECT id, account, session, size, changed FROM recordings")
    known = {(account, session): (number, size, changed) for number, account, session, size, changed in rows}
    new = {name: one for name, one in there.items() if known.get(name, (0, -1, -1))[1:] != (one.size, one.changed)}
    gone = [number for name, (number, _, _) in known.items() if name not in there or name in new]
    if not new and not gone:
        return
    if new and not _has_emulator():
        remark("what recordings showed is not searched: that needs the extra, pip install 'pyssh-gateway[audit]'")
        new = {}
    if sum(one.size for one in new.values()) > SLOW:
        remark(f"{len(new)} recordings are read for the index first; this is done once")
    database.execute("BEGIN IMMEDIATE")
    for number in gone:
        _forget(database, number)
    since = time.monotonic()
    for recording in sorted(new.values(), key=lambda one: one.changed):
        if time.monotonic() - since > COMMITTED:
            database.execute("COMMIT")
            database.execute("BEGIN IMMEDIATE")
            since = time.monotonic()
        problem = _add(database, recording)
        if problem:
            remark(f"the recording of {recording.session} can't be searched: {problem}")
    database.execute("COMMIT")


def _listed(audit_dir: Path) -> dict[tuple[str, str], _Recording]:
    """By account and session: another account may have a recording of that name, too."""
    found: dict[tuple[str, str], _Recording] = {}
    for name, session, part, path in recordings(audit_dir):
        try:
            status = path.lstat()
        except OSError:
            continue
        account = name.encode("utf-8", "backslashreplace").decode()
        one = found.setdefault((account, session), _Recording(account, session, []))
        one.files.append((part, path))
        one.size += status.st_size
        one.changed = max(one.changed, status.st_mtime_ns)
    return found


def _has_emulator() -> bool:
    from importlib.util import find_spec  # late: only needed if there are new recordings

    return find_spec("pyte") is not None


def _add(database: sqlite3.Connection, recording: _Recording) -> str:
    """Add a recording; returns why that was not possible, or an empty text. It counts as read in any case."""
    from pyssh_gateway.audit.recordings.screen_text import shown  # late: the emulator takes a while to import

    cursor = database.execute(
        "INSERT INTO recordings (account, session, size, changed, began) VALUES (?, ?, ?, ?, ?)",
        (recording.account, recording.session, recording.size, recording.changed, recording.changed / 1e9),
    )
    number = cursor.lastrowid
    files = [path for _, path in sorted(recording.files)]
    try:
        began = header(files[0]).timestamp
        if began is not None:
            database.execute("UPDATE recordings SET began = ? WHERE id = ?", (float(began), number))
        _write(database, ((number, one.time, SCREEN, one.text) for one in shown(*files)))
        _write(database, ((number, one.at, AT_A_SHELL, clean(one.text)) for one in commands(*files) if one.text))
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - hostile output may break the emulator; other recordings have to be found
        return str(error) or type(error).__name__
    return ""


def _write(database: sqlite3.Connection, lines: Iterator[tuple[int | None, float, str, str]]) -> None:
    number = int(database.execute("SELECT coalesce(max(id), 0) FROM screens").fetchone()[0])
    while some := list(islice(lines, AT_ONCE)):
        rows = []
        for recording, at, what, text in some:
            number += 1
            rows.append((number, recording, at, what, text.encode("utf-8", "backslashreplace").decode()))
        database.executemany("INSERT INTO screens (id, recording, time, what, text) VALUES (?, ?, ?, ?, ?)", rows)
        database.executemany("INSERT INTO screen_parts (rowid, text) VALUES (?, ?)", [(row[0], row[4]) for row in rows])


def _forget(database: sqlite3.Connection, recording: int) -> None:
    database.execute(
        "INSERT INTO screen_parts (screen_parts, rowid, text) "
        "SELECT 'delete', id, text FROM screens WHERE recording = ?",
        (recording,),
    )
    database.execute("DELETE FROM screens WHERE recording = ?", (recording,))
    database.execute("DELETE FROM recordings WHERE id = ?", (recording,))
