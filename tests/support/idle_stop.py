"""When the server has left by itself, as its log has it: the ends of clients and processes take time of their own."""

from datetime import datetime

from tests.support.server import EventFields, Server
from tests.support.waiting import AT_ONCE

EARLY_SECONDS = 0.01
"""Events have the time of day, to the millisecond."""

LATE_SECONDS = AT_ONCE
"""A busy machine is late. The promise is tried in one test; for the rest this is near enough."""


def moment(event: EventFields) -> float:
    """When it happened, in Unix seconds."""
    return datetime.fromisoformat(event["ts"]).timestamp()


def stops_after(server: Server, event: str | None = "connection.closed", *, seconds: float) -> bool:
    """Whether `server` ends by itself, which it decides `seconds` after the last `event`: never earlier, hardly later.

    None is the start of its process, which takes some time itself.
    """
    assert server.wait() == 0
    began = server.launched_at if event is None else moment(server.find(event)[-1])
    return -EARLY_SECONDS <= moment(server.find("idle.reached", outcome="stop")[-1]) - began - seconds < LATE_SECONDS
