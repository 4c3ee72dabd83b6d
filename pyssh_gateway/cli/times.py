"""Points in time as people type them: a length back from now, a time of day, a day, or both."""

import re
import time
from datetime import datetime, timedelta

from pyssh_gateway.cli.exit_codes import WrongUsage
from pyssh_gateway.config import values

MOST_BACK = 100 * values.YEAR

_DAYS = {"today": 0, "yesterday": 1}
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_ISO_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?P<second>:\d\d)?(?P<part>[.,]\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

_TAKES = "a length such as 7d or 12h, a time such as 14:00, a day such as 2026-01-31, yesterday, or '2026-01-31 14:00'"


def moment(option: str, word: str, *, is_end: bool = False, may_come: bool = False) -> float:
    """The Unix time that `word` means; a day is its first moment or, with `is_end`, its last. Raises WrongUsage.

    So are a minute and, if the word has seconds, a second: the log has microseconds, which nobody types. Times without
    a zone are local ones. A time of day is the last such time, so perhaps yesterday's; with `may_come` today's.
    """
    now = datetime.fromtimestamp(time.time()).astimezone()
    try:
        return _moment(word.strip(), now, is_end=is_end, may_come=may_come)
    except (ValueError, OverflowError, OSError):
        raise WrongUsage(f"{option} takes {_TAKES}, not {values.shown(word)}") from None


def _moment(word: str, now: datetime, *, is_end: bool, may_come: bool) -> float:
    if word == "now":
        return now.timestamp()
    day, _, clock = word.partition(" ")
    if day in _DAYS and (not clock or _CLOCK.fullmatch(clock)):
        date = (now - timedelta(days=_DAYS[day])).date().isoformat()
        return _local(date, clock, is_end=is_end)
    if _CLOCK.fullmatch(word):
        today = now.date().isoformat()
        if may_come or _local(today, word, is_end=False) <= now.timestamp():
            return _local(today, word, is_end=is_end)
        return _local((now - timedelta(days=1)).date().isoformat(), word, is_end=is_end)
    if _DATE.fullmatch(word):
        return _local(word, "", is_end=is_end)
    if _DATE.match(word):
        typed = _ISO_CLOCK.match(word)
        rest = _rest(typed["second"], typed["part"]) if typed is not None and is_end else 0.0
        return datetime.fromisoformat(word).timestamp() + rest
    if word.isdigit():  # a duration in the configuration, but here it could mean days, or an hour
        raise ValueError(word)
    try:
        return now.timestamp() - values.duration(0, MOST_BACK)(word)
    except values.UnfitError as error:
        raise ValueError from error


def _local(date: str, clock: str, *, is_end: bool) -> float:
    if clock:
        *_, second_typed = typed = _CLOCK.fullmatch(clock).groups()  # type: ignore[union-attr]  # callers have matched it
        hour, minute, second = (int(part or 0) for part in typed)
        begin = datetime.fromisoformat(date).replace(hour=hour, minute=minute, second=second).timestamp()
        return begin + _rest(second_typed) if is_end else begin
    first = datetime.fromisoformat(date)
    return (first + timedelta(days=1)).timestamp() - 1e-6 if is_end else first.timestamp()


def _rest(second: str | None, part: str | None = None) -> float:
    """From the beginning to the last moment of the minute, or of the second, or of nothing that has parts of one."""
    return 0.0 if part else 1 - 1e-6 if second else 60 - 1e-6


def is_clock(word: str) -> bool:
    """Whether it is a time of day without a day."""
    return _CLOCK.fullmatch(word.strip()) is not None


def shown(when: float) -> str:
    """A Unix time on the machine's clock, to the second, without its zone, which stands in the heading."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (ValueError, OverflowError, OSError):
        return "-"


def zone() -> str:
    """The name of the machine's zone, for a heading."""
    return time.strftime("%Z")
