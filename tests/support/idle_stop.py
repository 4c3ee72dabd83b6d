"""When the server has stopped by itself, according to its log: the ends of clients and processes take extra time."""

from datetime import datetime

from tests.support.server import EventFields, Server
from tests.support.waiting import AT_ONCE

EARLY_SECONDS = 0.01
"""Events are stamped with the time of day, to the millisecond."""

LATE_SECONDS = AT_ONCE
"""How late a stop may be on a busy machine. One test checks the exact promise; for the others this is enough."""


def moment(event: EventFields) -> float:
    """The time of the event, in Unix seconds."""
    return datetime.fromisoformat(event["ts"]).timestamp()


def stops_after(server: Server, event: str | None = "connection.closed", *, seconds: float) -> bool:
    """Whether `server` decides to stop `seconds` after the last `event`: never earlier, and hardly later.

    None stands for the start of its process, which takes some time itself.
    """
    assert server.wait() == 0
    began = server.launched_at if event is None else moment(server.find(event)[-1])
    return -EARLY_SECONDS <= moment(server.find("idle.reached", outcome="stop")[-1]) - began - seconds < LATE_SECONDS
