"""How a point in time is written for programs, in the log and in what commands answer."""

from datetime import UTC, datetime

LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""Years have four digits (RFC 3339). A certificate may end later."""


def timestamp(time: float) -> str:
    """A Unix time in UTC, to the microsecond (RFC 3339): 2026-01-02T03:04:05.678901Z."""
    return datetime.fromtimestamp(min(time, LATEST), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
