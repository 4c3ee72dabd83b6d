"""How a point in time is written for programs, in the log and in what commands answer."""

from datetime import UTC, datetime


def timestamp(time: float) -> str:
    """A Unix time in UTC, to the microsecond (RFC 3339): 2026-01-02T03:04:05.678901Z."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
