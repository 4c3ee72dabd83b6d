"""core.idle.schedule: the hours in which the machine stays up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.machine_values import hours
from pyssh_gateway.config.values import UnfitError
from pyssh_gateway.core.idle.schedule import DAYS, Hours, next_start, parse_hours, up_until

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(day: str, time: str) -> datetime:
    """A time of that day in a fixed week."""
    hour, minute = map(int, time.split(":"))
    return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)


def parsed(*texts: str) -> tuple[Hours, ...]:
    """The hours that these texts mean."""
    found = tuple(parse_hours(text) for text in texts)
    assert None not in found
    return tuple(one for one in found if one is not None)


WORK = parsed("mon-fri 08:00-18:00", "sat 09:00-12:00")


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (at("mon", "08:00"), at("mon", "18:00")),
        (at("fri", "17:59"), at("fri", "18:00")),
        (at("sat", "10:00"), at("sat", "12:00")),
        (at("mon", "07:59"), None),
        (at("mon", "18:00"), None),
        (at("sun", "10:00"), None),
    ],
)
def test_it_is_up_within_the_hours(now: datetime, end: datetime | None) -> None:
    """Protects both ends: the first minute belongs to the hours, the end itself does not."""
    found = up_until(WORK, now)
    assert (None if found is None else found[0]) == end


@pytest.mark.parametrize(
    ("now", "start"),
    [
        (at("mon", "07:59"), at("mon", "08:00")),
        (at("mon", "08:00"), at("tue", "08:00")),
        (at("fri", "19:00"), at("sat", "09:00")),
        (at("sat", "12:00"), at("mon", "08:00") + timedelta(days=7)),
    ],
)
def test_the_next_hours_are_found(now: datetime, start: datetime) -> None:
    """The next hours are found over night and over the end of the week."""
    assert next_start(WORK, now) == start


def test_without_hours_there_are_none() -> None:
    """Protects the default: no schedule keeps nothing up."""
    assert up_until((), MONDAY) is None
    assert next_start((), MONDAY) is None


def test_of_overlapping_hours_the_longest_count() -> None:
    """Protects against an end in the middle of overlapping hours."""
    found = up_until(parsed("mon 08:00-12:00", "10:00-24:00"), at("mon", "11:00"))
    assert found == (at("tue", "00:00"), "10:00-24:00")


def test_days_go_around_the_week() -> None:
    """Protects fri-mon, which goes over the week's end, and a single day."""
    assert parsed("fri-mon 10:00-11:00")[0].days == {4, 5, 6, 0}
    assert parsed("wed 10:00-11:00")[0].days == {2}
    assert parsed("10:00-11:00")[0].days == set(range(7))


@pytest.mark.parametrize(
    "text",
    ["", "mon", "8:00-18:00", "08:00-07:00", "08:00-24:01", "08:60-09:00", "mon  08:00-09:00", "mo 08:00-09:00"],
)
def test_what_is_no_hours_is_refused(text: str) -> None:
    """Protects against a typing error that silently keeps nothing up: configuration and parser both refuse it."""
    assert parse_hours(text) is None
    with pytest.raises(UnfitError):
        hours(text)


@given(st.text(max_size=20) | st.from_regex(r"(mon|fri)?(-sun)? ?\d\d:\d\d-\d\d:\d\d", fullmatch=True))
def test_the_configuration_and_the_parser_agree(text: str) -> None:
    """Protects against hours that the configuration accepts and the parser does not understand later."""
    try:
        accepted = hours(text)
    except UnfitError:
        assert parse_hours(text) is None
    else:
        assert parse_hours(accepted) is not None
