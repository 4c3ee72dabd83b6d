"""audit.index.screens: what recordings have shown is found, once each, and forgotten with them."""

import json
import os
import sys
from pathlib import Path

import pytest

from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import Wanted
from pyssh_gateway.audit.index.search import Hit, search
from tests.support.made_logs import write_log
from tests.support.written_log import MONDAY, WrittenLog

HEAD = {"version": 3, "term": {"cols": 80, "rows": 24, "type": "xterm"}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a session, which will be recorded."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    log.terminal(10, "c1")
    return write_log(tmp_path, log.lines)


def record(log: Path, *shown: str, session: str = "c1.1", part: str = "", account: str = "dev") -> Path:
    """Write a recording, a line a second."""
    path = log / "recordings" / account / f"{session}{part}.cast.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    events = [HEAD, *([1.0, "o", f"{text}\r\n"] for text in shown)]
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def found(log: Path, text: str, remarks: list[str] | None = None) -> list[Hit]:
    """What a search finds."""
    said: list[str] = []
    with Index(log, {}, said.append) as index:
        index.add_screens()
        hits = index.ask(lambda database: list(search(database, text, Wanted())))
    assert said == (remarks or [])
    return hits


def test_a_line_is_found_at_its_time(log: Path) -> None:
    """With who, where, when and for how long the recording had run; also in another part of it."""
    record(log, "one", "\x1b[31mthe nee\x1b[0mdle here", "three")
    (hit,) = found(log, "THE NEEDLE")
    assert (hit.session, hit.conn, hit.person, hit.user) == ("c1.1", "c1", "file:amos", "dev")
    assert (hit.what, hit.text, hit.at) == ("screen", "the needle here", 2.0)
    assert hit.since == MONDAY + 10 + 2
    record(log, "another needle", part=".2")
    assert [hit.text for hit in found(log, "needle")] == ["the needle here", "another needle"]


def test_a_recording_that_grows_is_read_again(log: Path) -> None:
    """One that has not changed is not; one that is gone is forgotten."""
    path = record(log, "needle one")
    assert len(found(log, "needle")) == 1
    record(log, "needle one", "needle two")
    assert len(found(log, "needle")) == 2
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)  # nobody writes a recording like that: it would be noticed if it were read
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(found(log, "needle")) == 2
    path.unlink()
    assert found(log, "needle") == []
    assert found(log, "ne") == []


def test_one_that_can_not_be_read_is_said_once(log: Path) -> None:
    """And keeps no other from being found."""
    record(log, "needle")
    broken = record(log, session="c9.1")
    broken.write_bytes(b'{"version":99}\n')
    said: list[str] = []
    with Index(log, {}, said.append) as index:
        index.add_screens()
    assert len(said) == 1
    assert said[0].startswith("the recording of c9.1 can't be searched: ")
    assert [hit.session for hit in found(log, "needle")] == ["c1.1"]


def test_a_recording_without_a_session_in_the_log_is_found(log: Path) -> None:
    """Its beginning may have been deleted: then account and session are known from its name."""
    path = record(log, "needle", session="c7.2")
    (hit,) = found(log, "needle")
    assert (hit.session, hit.user, hit.conn) == ("c7.2", "dev", "")
    path.write_text(path.read_text().replace('"version": 3', '"version": 3, "timestamp": 1767571200'))
    (hit,) = found(log, "needle")
    assert hit.since == MONDAY + 1


def test_a_command_that_the_shell_has_marked_is_found_as_one(log: Path) -> None:
    """Beside the line on the screen, which says less."""
    record(log, "\x1b]133;A\x07$ \x1b]133;B\x07", "\x1b]133;C;cmdline_url=make%20needle\x07", "\x1b]133;D;0\x07")
    assert [hit.text for hit in found(log, "needle") if hit.what == "command, at a shell"] == ["make needle"]


def test_without_the_extra_that_is_said(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the log is searched all the same, and the recording later."""
    record(log, "needle file:amos")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    remark = "what recordings showed is not searched: that needs the extra, pip install 'pyssh-gateway[audit]'"
    assert {hit.what for hit in found(log, "file:amos", [remark])} == {"person"}
    monkeypatch.undo()
    assert {hit.what for hit in found(log, "file:amos")} == {"person", "screen"}
    assert "pyte" in sys.modules


def test_another_account_s_recording_of_that_name_is_not_the_session_s(log: Path) -> None:
    """Protects from forged evidence: an account can name its own recordings as it likes."""
    record(log, "true needle")
    record(log, "forged needle", account="mallory")
    told = {hit.text: (hit.session, hit.conn, hit.person, hit.user, hit.at) for hit in found(log, "needle")}
    assert told == {
        "true needle": ("c1.1", "c1", "file:amos", "dev", 1.0),
        "forged needle": ("c1.1", "", "", "mallory", 1.0),
    }


def test_a_session_that_another_connection_claims_has_no_recording(log: Path) -> None:
    """Older monitors have written such lines, also of another person with the same account."""
    record(log, "needle")
    later = WrittenLog()
    later.come(0, "c1", "amos")
    later.terminal(10, "c1")
    later.come(20, "c9", "mallory")
    later.terminal(30, "c9")
    lines = [line.replace(b'"c9.1"', b'"c1.1"') for line in later.lines]
    write_log(log, lines)
    (hit,) = found(log, "needle")
    assert (hit.conn, hit.person) == ("c1", "file:amos")
