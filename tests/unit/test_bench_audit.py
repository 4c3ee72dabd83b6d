"""The benchmark of the log's readers: its month is a log that they read whole, and a small run works."""

from pathlib import Path

import msgspec
import pytest

from bench.audit import __main__ as command
from bench.audit.month import DAY, MONDAY, Month
from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.reading.choosing import decoded, time_of
from pyssh_gateway.audit.reading.lines_for_people import event_of
from tests.support.made_logs import write_log


def test_the_month_is_a_log(tmp_path: Path) -> None:
    """Its lines are the server's events, in order of time and number, and nothing in it is damaged for the index."""
    lines = list(Month(2, 30).lines(3))
    found = [fields for line in lines if (fields := decoded(line)) is not None]
    assert [fields["seq"] for fields in found] == list(range(1, len(lines) + 1))
    times = [time_of(fields) for fields in found]
    assert times == sorted(times)
    assert times[0] >= MONDAY
    assert times[-1] < MONDAY + 3 * DAY
    assert all(event_of(fields) is not None for fields in found)
    tmp_path.chmod(0o750)
    with Index(write_log(tmp_path, [line + b"\n" for line in lines]), {}, pytest.fail) as index:
        assert index.ask(lambda database: database.execute("SELECT damaged FROM state").fetchone()) == (0,)
        ended = "SELECT count(*) FROM sessions WHERE state = 'closed'"
        assert index.ask(lambda database: database.execute(ended).fetchone()) == (3 * 2 * 66,)


def test_a_small_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the real commands, over several files, and prints a figure for each."""
    monkeypatch.setattr(command, "REPEATED", 1)
    monkeypatch.setattr(command, "SEGMENT", 200_000)
    assert command.main(["--events", "3000"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed][4:7] == [
        "first question, which builds the index", "audit sessions --since 7d", "audit search 'rm -rf'"
    ]  # fmt: skip
    assert len(printed) >= 8


def test_a_day_of_a_developer_has_the_stated_size() -> None:
    """docs/audit.md says 0.3 MB, and 0.02 MB compressed."""
    written, compressed = command.developer_day()
    assert written == pytest.approx(300_000, rel=0.1)
    assert compressed == pytest.approx(20_000, rel=0.4)
    assert msgspec.json.decode(next(iter(Month(1, 0).lines(1))))["event"] == "server.started"
