"""When the machine is not needed.

Only authenticated connections count as use: whoever merely connects neither keeps the machine awake nor delays its
stop. The tracker is told what happened and is asked what to do; it never looks at a clock.
"""

import msgspec

from pyssh_gateway.events import AnyEvent, ConnectionAuthenticated, ConnectionClosed

TICK_SECONDS = 5
"""How often an idle machine says so. Long enough to be readable in a platform's log, short enough to be seen alive."""


class Stay(msgspec.Struct, frozen=True):
    """Nothing to do before `until` (None: before the next event)."""

    until: float | None


class Tick(msgspec.Struct, frozen=True):
    """Time to say how long the machine has been idle and how long is left, in whole seconds."""

    idle: int
    remaining: int


class Stop(msgspec.Struct, frozen=True):
    """The machine has not been needed for `idle` seconds, which is as long as it may."""

    idle: float


class IdleTracker:
    """Follows the event stream and says how long the machine has not been needed.

    `timeout` is in seconds, None for never; `now` is any clock that does not jump, and starts the first idle period:
    nobody is on at boot.
    """

    def __init__(self, timeout: float | None, now: float) -> None:
        self._timeout = timeout
        self._connections: set[str] = set()
        self._idle_since = now
        self._ticks = 0

    @property
    def in_use(self) -> bool:
        """Whether anybody is on."""
        return bool(self._connections)

    def stops_in(self, now: float) -> float | None:
        """Seconds until the machine has not been needed for long enough; None while it is, or if it never stops."""
        if self._timeout is None or self._connections:
            return None
        return max(0.0, self._idle_since + self._timeout - now)

    def observe(self, event: AnyEvent, now: float) -> None:
        """Take note of `event`, which happened at `now`."""
        match event:
            case ConnectionAuthenticated(conn=conn):
                self._connections.add(conn)
            case ConnectionClosed(conn=conn) if conn in self._connections:
                self._connections.discard(conn)
                if not self._connections:
                    self._idle_since = now
                    self._ticks = 0
            case _:
                pass

    def poll(self, now: float) -> Stay | Tick | Stop:
        """What to do at `now`. A `Tick` is given once for each step; ask again after it."""
        if self._timeout is None or self._connections:
            return Stay(None)
        idle = now - self._idle_since
        if idle >= self._timeout:
            return Stop(idle)
        steps = int(idle // TICK_SECONDS)
        if steps > self._ticks:
            self._ticks = steps
            return Tick(steps * TICK_SECONDS, max(0, round(self._timeout - idle)))
        next_tick = self._idle_since + (steps + 1) * TICK_SECONDS
        return Stay(min(next_tick, self._idle_since + self._timeout))
