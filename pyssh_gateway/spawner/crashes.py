"""The crashes of monitors: when there are too many, and when to try again after a failed start."""

from pyssh_gateway.ipc.crash import Crash

__all__ = ["Crash", "Crashes"]

MAX_CRASHES = 5
CRASH_PERIOD_SECONDS = 60.0
"""If monitors crash more often than `MAX_CRASHES` times in this period, another start will not help; the platform is
better placed to decide, so the spawner gives up. It also gives up after a period in which none could be started."""

RETRY_SECONDS = 0.5
"""How long after a failed start the next one is tried. The missing resource (a place in the process table, memory)
becomes free when a process ends, as the last monitor just has."""


class Crashes:
    """The crashes of the last period, and since when no monitor could be started. Times are `time.monotonic()`'s."""

    def __init__(self) -> None:
        self._crashes: list[tuple[float, Crash]] = []
        self._failing_since: float | None = None

    @property
    def latest(self) -> tuple[Crash, ...]:
        """The crashes, the last one at the end."""
        return tuple(crash for _, crash in self._crashes)

    def add(self, crash: Crash, now: float) -> bool:
        """Note a crash; returns whether there are too many."""
        self._crashes = [entry for entry in self._crashes if now - entry[0] < CRASH_PERIOD_SECONDS]
        self._crashes.append((now, crash))
        return len(self._crashes) > MAX_CRASHES

    def started(self) -> None:
        """A monitor could be started."""
        self._failing_since = None

    def not_started(self, now: float) -> float | None:
        """A monitor could not be started: when to try again; None: it has been tried for long enough."""
        if self._failing_since is None:
            self._failing_since = now
        return None if now - self._failing_since >= CRASH_PERIOD_SECONDS else now + RETRY_SECONDS
