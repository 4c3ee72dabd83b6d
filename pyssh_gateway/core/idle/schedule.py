"""Hours in which the machine stays up: `mon-fri 08:00-18:00`. Pure: the local time comes in."""

import re
from datetime import datetime, timedelta

import msgspec

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = "|".join(DAYS)
_HOURS = re.compile(rf"(?:({_DAY})(?:-({_DAY}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)

MINUTES_PER_DAY = 24 * 60


class Hours(msgspec.Struct, frozen=True):
    """On `days` (0 is Monday) from minute `start` of the day to minute `end`, which is later and at most 24:00."""

    days: frozenset[int]
    start: int
    end: int
    text: str


def parse_hours(text: str) -> Hours | None:
    """Parse `mon-fri 08:00-18:00`, `sat 09:00-12:00` or `22:00-24:00` (every day); None if `text` has another form."""
    match = _HOURS.fullmatch(text)
    if match is None:
        return None
    first, last, *times = match.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, times)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start_minute > 59 or end_minute > 59 or not start < end <= MINUTES_PER_DAY:
        return None
    begin = DAYS.index(first) if first else 0
    until = DAYS.index(last) if last else (begin if first else 6)
    days = frozenset((begin + offset) % 7 for offset in range((until - begin) % 7 + 1))
    return Hours(days, start, end, text)


def up_until(hours: tuple[Hours, ...], now: datetime) -> tuple[datetime, str] | None:
    """The end of the hours that contain `now`, and their text; None outside of all hours. `now` is local time."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    minute = (now - midnight).total_seconds() / 60
    ends = [
        (midnight + timedelta(minutes=each.end), each.text)
        for each in hours
        if now.weekday() in each.days and each.start <= minute < each.end
    ]
    return max(ends, default=None)


def next_start(hours: tuple[Hours, ...], now: datetime) -> datetime | None:
    """When the next hours begin after `now`; None if there are none."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [
        midnight + timedelta(days=ahead, minutes=each.start)
        for ahead in range(8)
        for each in hours
        if (now.weekday() + ahead) % 7 in each.days
    ]
    return min((start for start in starts if start > now), default=None)
