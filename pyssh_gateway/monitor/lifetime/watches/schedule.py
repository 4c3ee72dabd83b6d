"""Enters the hours in which the machine stays up; `core.idle.schedule` knows when they are."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn
from zoneinfo import ZoneInfo

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.schedule import Hours, next_start, parse_hours, up_until
from pyssh_gateway.events import AnyEvent, ScheduleEntered

MAX_SCHEDULE_SLEEP = 3600.0
"""Seconds after which the hours are looked at again in any case: clocks are set, and summer time begins."""


async def watch_schedule(
    settings: config.Idle, *, publish: Callable[[AnyEvent], None], clock: Callable[[], float]
) -> NoReturn:
    """Publish `ScheduleEntered` when such hours begin, or have begun already, until cancelled. `clock` is Unix time."""
    hours = tuple(filter(None, map(parse_hours, settings.schedule)))
    zone = ZoneInfo(settings.timezone)
    while True:
        wait = _enter(hours, datetime.fromtimestamp(clock(), zone), publish)
        await asyncio.sleep(min(wait, MAX_SCHEDULE_SLEEP))


def _enter(hours: tuple[Hours, ...], local: datetime, publish: Callable[[AnyEvent], None]) -> float:
    """Publish it if the machine is up by schedule now; returns the seconds after which to look again."""
    if (now_up := up_until(hours, local)) is not None:
        end, text = now_up
        seconds = (end - local).total_seconds()
        publish(ScheduleEntered(seconds=round(seconds, 1), what=text))
        return seconds
    start = next_start(hours, local)
    return MAX_SCHEDULE_SLEEP if start is None else (start - local).total_seconds()
