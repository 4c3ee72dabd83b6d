"""audit.report.page and make: which time, which files of the log, and the figures of people."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit import segments
from pyssh_gateway.audit.report import make as making
from pyssh_gateway.audit.report.make import log_since, make
from pyssh_gateway.audit.report.page import Asked, Page
from pyssh_gateway.audit.segments import Line, NoLog, Segment, sealed_name
from tests.support.written_log import MONDAY, WrittenLog

HOUR = 3600.0
DAY = 86400.0


def page(directory: Path, log: WrittenLog, *, since: float, until: float, price: float | None = 1.0) -> Page:
    """The page about that time, in seconds after midnight, of a log."""
    (directory / "events.jsonl").write_bytes(b"".join(log.lines))
    asked = Asked("title", "0.1", MONDAY + since, MONDAY + until, MONDAY + 9 * DAY, price, ())
    return make(directory, asked, recordings=0)


def day() -> WrittenLog:
    """Amos is on from 8 to 12 with two clients, and uses them for two hours; a scanner comes at 20."""
    log = WrittenLog()
    log.start(8 * HOUR)
    log.come(8 * HOUR, "c1", "amos")
    log.come(9 * HOUR, "c2", "amos")
    log.go(12 * HOUR, "c1", (0, 5400))
    log.go(12 * HOUR, "c2", (0, 3600))
    log.stop(12 * HOUR + 60)
    log.start(20 * HOUR)
    log.come(20 * HOUR + 1, "c3", peer="192.0.2.77")
    log.go(20 * HOUR + 5, "c3", user="")
    log.stop(20 * HOUR + 10)
    return log


def test_the_time_begins_with_the_log_if_that_is_younger(tmp_path: Path) -> None:
    """A machine is not said to have slept before there was a log; in an older log it has slept since then."""
    assert page(tmp_path, day(), since=0, until=DAY).begun == MONDAY + 8 * HOUR
    found = page(tmp_path, day(), since=10 * HOUR, until=DAY)
    assert (found.begun, found.ended) == (MONDAY + 10 * HOUR, MONDAY + DAY)
    assert found.awake.whole == 14 * HOUR


def test_a_person_with_two_clients(tmp_path: Path) -> None:
    """The time of both counts once, connected and in use."""
    found = page(tmp_path, day(), since=0, until=DAY)
    (person,) = found.people
    assert (person.on, person.used, person.days) == (4 * HOUR, 2 * HOUR, [4.0])
    assert (found.logins, found.strangers, found.awake.for_nobody) == (2, 0, 1)
    assert [(one.why, one.seconds) for one in found.awake.totals if one.seconds] == [
        ("used", 2 * HOUR),
        ("connected", 2 * HOUR),
        ("nobody", 70.0),
    ]
    assert found.awake.cost == pytest.approx(4 + 70 / HOUR)


def test_sessions_with_one_name_are_told_apart(tmp_path: Path) -> None:
    """Older servers used names again after a start: each session has a place of its own in the page."""
    log = WrittenLog()
    for at in (0, HOUR):
        log.start(at)
        log.come(at, "c1", "amos")
        log.terminal(at + 1, "c1")
        log.stop(at + 60, "c1")
    assert [one.anchor for one in page(tmp_path, log, since=0, until=DAY).stories] == ["s-c1.1", "s-c1.1~2"]


def test_nothing_of_that_time(tmp_path: Path) -> None:
    """That is said, and is no empty report."""
    with pytest.raises(NoLog, match="has no events of that time"):
        page(tmp_path, day(), since=2 * DAY, until=3 * DAY)


def test_a_clock_that_was_set_back_hides_nothing(tmp_path: Path) -> None:
    """Up to now means all but what is a day ahead; up to an earlier moment means that moment."""
    log = day()
    log.write(9 * DAY + HOUR, ev.GatewayCrashed(pid=1, cause="x", sessions=0))
    log.write(11 * DAY, ev.GatewayCrashed(pid=1, cause="y", sessions=0))
    assert page(tmp_path, log, since=0, until=9 * DAY).alarms == 1
    assert page(tmp_path, log, since=0, until=8 * DAY).alarms == 0


def test_files_that_end_before_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a report of a week from years of a log; the file in which the time begins is read."""
    seq = 0
    for place in range(4):
        written = []
        for at in (0, 1):
            seq += 1
            ts = f"2026-01-0{place + 1}T00:00:0{at}.000000Z"
            written.append(msgspec.json.encode({"ts": ts, "seq": seq, "event": "idle.tick"}) + b"\n")
        name = "events.jsonl" if place == 3 else sealed_name(2 * place, compressed=False)
        header = b'{"event":"log.segment","first":%d,"tree":[]}\n' % (2 * place) if place else b""
        (tmp_path / name).write_bytes(header + b"".join(written))
    read: list[str] = []

    def lines(segment: Segment) -> Iterator[Line]:
        read.append(segment.path.name)
        return segments.lines(segment)

    monkeypatch.setattr(making, "lines", lines)
    third = 1_767_225_600.0 + 2 * DAY
    assert len(list(log_since(tmp_path, third + 0.5))) == 4
    assert read[-2:] == [sealed_name(4, compressed=False), "events.jsonl"]


def test_a_server_that_runs_is_awake_now(tmp_path: Path) -> None:
    """Not only up to its last line; if no server is known to run, the page says up to when it knows."""
    log = WrittenLog()
    log.start(8 * HOUR)
    (tmp_path / "events.jsonl").write_bytes(b"".join(log.lines))
    asked = Asked("title", "0.1", MONDAY, MONDAY + 9 * HOUR, MONDAY + 9 * HOUR, None, (), running=True)
    found = make(tmp_path, asked, recordings=0).awake
    assert (found.seconds, found.ends) == (HOUR, [("awake now: the server runs", 1)])
    log.write(8.5 * HOUR, ev.IdleTick(idle=0, remaining=0, message=""))
    found = page(tmp_path, log, since=0, until=9 * HOUR).awake
    assert found.seconds == HOUR / 2
    assert found.ends[0][0].endswith("what came after its last line is not known")
