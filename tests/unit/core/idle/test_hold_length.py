"""core.idle.hold_length: the length of a hold, in the words that people type."""

import pytest

from pyssh_gateway.core.idle.hold_length import NoLength, split


@pytest.mark.parametrize(
    ("typed", "seconds", "reason"),
    [
        ("30m", 1800, ()),
        ("1h30m build", 5400, ("build",)),
        ("1.5h", 5400, ()),
        ("90min", 5400, ()),
        ("1day2hours", 93600, ()),
        ("2 hours", 7200, ()),
        ("2 h of work", 7200, ("of", "work")),
        ("1 hour 30 minutes training run", 5400, ("training", "run")),
        ("2h 3 runs", 7200, ("3", "runs")),
        ("365d", 365 * 86400, ()),
        ("1s", 1, ()),
    ],
)
def test_a_length_has_units(typed: str, seconds: float, reason: tuple[str, ...]) -> None:
    """Protects `hold 2 hours` from meaning two seconds: a length may have one word or several."""
    assert split(typed.split()) == (seconds, reason)


def test_quotes_keep_words_together() -> None:
    """Protects a reason that begins with a time, and a length that is one quoted word."""
    assert split(("2h", "30 minutes of tests")) == (7200, ("30 minutes of tests",))
    assert split(("2 hours", "30m")) == (7200, ("30m",))
    assert split(()) == (None, ())


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("30", "build"), "30 has no unit: write 30m for minutes, 30h for hours, or 30s"),
        (("2",), "2 has no unit"),
        (("soon",), '"soon" is not a length of time, such as 30m, 2h, 1h30m or 2 hours'),
        (("",), '"" is not a length'),
        ((" ",), '" " is not a length'),
        (("1h30",), '"1h30" is not a length'),
        (("2 hours of",), '"2 hours of" is not a length'),
        (("2weeks",), '"2weeks" is not a length'),
        (("-2h",), '"-2h" is not a length'),
        (("\u0662h",), "is not a length"),
        (("30m1h",), '"30m1h" is not a length from 1s to 365d, largest unit first'),
        (("1h2h",), '"1h2h" is not a length from'),
        (("0m",), '"0m" is not a length from'),
        (("366", "days"), '"366 days" is not a length from'),
        (("2h", "30m", "tests"), '"30m" could be more of the time or the beginning of the reason'),
        (("2h", "30", "minutes"), '"30" could be more of the time'),
        (("2", "hours", "30m"), '"30m" could be more of the time'),
    ],
)
def test_nothing_is_guessed(words: tuple[str, ...], what: str) -> None:
    """Protects the bill and the build: a length that is wrong or ambiguous is an error that says what to write."""
    with pytest.raises(NoLength) as failure:
        split(words)
    assert what in str(failure.value)
    assert str(failure.value).isprintable()
