"""A clock that stands still until the next call is due, and the queue of these calls."""

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """A call that is due at `when`."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Don't make the call. Does nothing if it was made."""
        self._call = None

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Clock:
    """Simulated time in seconds, from `now`. Calls for the same moment are made in the order in which they came."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._queue: list[tuple[float, int, Timer]] = []
        self._order = count()

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make `call` at `when`, or as soon as possible if that is over."""
        timer = Timer(max(when, self.now), call)
        heapq.heappush(self._queue, (timer.when, next(self._order), timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make `call` in `seconds`."""
        return self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Make the calls that are due up to `until`, also those that they add, and leave the clock there."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._queue)
            timer.fire()
        self.now = max(self.now, until)
