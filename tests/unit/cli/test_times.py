"""cli.times: what people type for a point in time."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from pyssh_gateway.cli.exit_codes import WrongUsage
from pyssh_gateway.cli.times import moment, shown, zone

NOW = datetime.fromisoformat("2026-03-10T15:30:00+01:00").timestamp()


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place with another time than UTC, with summer time from 29 March on."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setattr("pyssh_gateway.cli.times.time.time", lambda: NOW)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("now", "2026-03-10T15:30:00+01:00"),
        ("1h30m", "2026-03-10T14:00:00+01:00"),
        ("7d", "2026-03-03T15:30:00+01:00"),
        ("14:00", "2026-03-10T14:00:00+01:00"),
        ("9:05:07", "2026-03-10T09:05:07+01:00"),
        ("today", "2026-03-10T00:00:00+01:00"),
        ("yesterday", "2026-03-09T00:00:00+01:00"),
        ("yesterday 14:00", "2026-03-09T14:00:00+01:00"),
        ("2026-01-31", "2026-01-31T00:00:00+01:00"),
        ("2026-07-31 14:00", "2026-07-31T14:00:00+02:00"),
        ("2026-01-31T14:00:05", "2026-01-31T14:00:05+01:00"),
        ("2026-01-31T14:00:05.678901Z", "2026-01-31T14:00:05.678901+00:00"),
        ("2026-01-31 14:00+00:00", "2026-01-31T14:00:00+00:00"),
    ],
)
def test_what_is_meant(word: str, meant: str) -> None:
    """Without a zone it is the machine's own, as in everything that the commands print."""
    assert moment("--since", word) == pytest.approx(datetime.fromisoformat(meant).timestamp(), abs=1e-6)


@pytest.mark.parametrize(
    ("word", "end"), [("yesterday", "2026-03-10T00:00:00+01:00"), ("2026-03-29", "2026-03-30T00:00:00+02:00")]
)
def test_the_end_of_a_day_is_its_last_moment(word: str, end: str) -> None:
    """Protects `--until yesterday`: the whole day counts, also one of 23 hours."""
    until = moment("--until", word, is_end=True)
    assert 0 < datetime.fromisoformat(end).timestamp() - until < 1e-5


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("14:00", 60), ("14:00:00", 1), ("yesterday 14:00", 60), ("2026-01-31 14:00", 60), ("2026-01-31T14:00:00Z", 1)],
)
def test_what_is_typed_stands_for_all_of_its_minute_or_second(word: str, seconds: int) -> None:
    """Protects `--at 14:00:07`: the log has microseconds, and a table shows none."""
    assert moment("--at", word, is_end=True) - moment("--at", word) == pytest.approx(seconds, abs=1e-5)


def test_a_time_of_day_is_the_last_one() -> None:
    """At half past three, 16:00 is yesterday's, and as an end it bounds nothing."""
    yesterday = datetime.fromisoformat("2026-03-09T16:00:00+01:00").timestamp()
    assert moment("--at", "16:00") == yesterday
    assert moment("--until", "16:00", is_end=True, may_come=True) > NOW


@pytest.mark.parametrize("word", ["", "7", "25:00", "2026-13-01", "2026-02-30", "tomorrow", "-1d", "99999999d", "\x1b"])
def test_what_is_no_time_is_refused(word: str) -> None:
    """With a line that says what is taken, and is safe to print."""
    with pytest.raises(WrongUsage, match="--since takes") as raised:
        moment("--since", word)
    assert str(raised.value).isprintable()


def test_times_are_shown_in_the_same_zone() -> None:
    """And whatever a log says, it is shown or left out."""
    assert (shown(NOW), zone()) == ("2026-03-10 15:30:00", "CET")
    assert shown(1e300) == "-"
