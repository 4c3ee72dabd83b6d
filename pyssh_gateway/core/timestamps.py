"""The format of times for programs, in the log and in the output of commands."""

from datetime import UTC, datetime

_LAST = 253_402_300_799.0
"""The last second of a four-digit year: 9999-12-31T23:59:59Z."""


def timestamp(time: float) -> str:
    """A Unix time in UTC, to the microsecond (RFC 3339): 2026-01-02T03:04:05.678901Z.

    A later time, as in certificates that never expire, is shown as the end of the year 9999.
    """
    return datetime.fromtimestamp(min(time, _LAST), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
