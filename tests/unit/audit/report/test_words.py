"""audit.report.words: numbers and times as people read them."""

import pytest

from pyssh_gateway.audit.report import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (42, "42 s"), (59.7, "1 min"), (185, "3 min 5 s"), (7620, "2 h 7 min"),
     (3600, "1 h"), (47.9 * 3600, "47 h 54 min"), (76 * 3600, "3 d 4 h"), (-1, "0.0 s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    """Two units at most, and none that is zero."""
    assert words.duration(seconds) == text


def test_what_is_not_nothing_is_not_shown_as_nothing() -> None:
    """Hours, percentages: a little is less than the smallest number, and not 0."""
    assert [words.hours(seconds) for seconds in (0, 1, 360, 4_500_000)] == ["0.0", "<0.1", "0.1", "1,250.0"]
    assert [words.percent(part, 1000) for part in (0, 1, 10, 694)] == ["0 %", "<1 %", "1 %", "69 %"]
    assert words.percent(1, 0) == "0 %"


def test_times_out_of_reach() -> None:
    """A hostile log may have any time."""
    assert words.when(-1e18) == "Thu 1 Jan 00:00"
    assert words.iso(1e18) == "9999-12-31T23:59:59Z"


def test_others() -> None:
    """Sizes, counts, money, places in a recording."""
    assert [words.size(count) for count in (0, 1023, 1024, 3 << 40, 1 << 70)] == [
        "0 B", "1023 B", "1.0 KiB", "3.0 TiB", "1048576.0 PiB",
    ]  # fmt: skip
    assert [words.number(count, "entry", "entries") for count in (1, 2000)] == ["1 entry", "2,000 entries"]
    assert words.money(1234.5) == "1,234.50"
    assert [words.position(seconds) for seconds in (5.9, 754, 3723)] == ["0:05", "12:34", "1:02:03"]
    assert words.date(1_796_000_400) == "30 November 2026"
    assert words.visible("a\x1b\u202eb é 你") == "a\\x1b\\u202eb é 你"
