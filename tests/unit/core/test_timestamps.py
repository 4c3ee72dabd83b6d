"""core.timestamps: points in time, for programs."""

from pyssh_gateway.core.timestamps import timestamp


def test_it_is_utc_to_the_microsecond() -> None:
    """Log and commands write a time in UTC, to the microsecond, also a whole second or one beyond all calendars."""
    assert timestamp(1767322985.678901) == "2026-01-02T03:03:05.678901Z"
    assert timestamp(2.0**64) == "9999-12-31T23:59:59.000000Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"


def test_what_never_ends_has_a_time_all_the_same() -> None:
    """Protects programs that read of a certificate without end: 2**64 - 1 becomes the last second of the calendar."""
    assert timestamp(float(2**64 - 1)) == "9999-12-31T23:59:59.000000Z"
