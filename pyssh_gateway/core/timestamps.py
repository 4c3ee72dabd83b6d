"""How a point in time is written for programs, in the log and in what commands answer."""

from datetime import UTC, datetime

_LAST = 253_402_300_799.0
"""The last second that four digits of a year have room for: 9999-12-31T23:59:59Z."""


def timestamp(time: float) -> str:
    """A Unix time in UTC, to the microsecond (RFC 3339): 2026-01-02T03:04:05.678901Z.

    After the year 9999, which certificates have that never expire, it is the end of that year.
    """
    return datetime.fromtimestamp(min(time, _LAST), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
