"""The one stream of events, to which other parts subscribe."""

import traceback
from collections.abc import Callable

from pyssh_gateway.events import AnyEvent, Record

Subscriber = Callable[[Record], None]


class EventBus:
    """Hands every event to every subscriber, in order, before `publish` returns.

    A subscriber that raises is reported to `on_error` and the others still get the event: a full disk under the
    audit log must not change who may log in. Events are numbered after `counted`, the last number of an earlier
    process.
    """

    def __init__(self, now: Callable[[], float], on_error: Callable[[str], None], counted: int = 0) -> None:
        self._now = now
        self._on_error = on_error
        self._seq = counted
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add `subscriber`; it sees every event published from now on. Returns a function that removes it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: AnyEvent) -> None:
        """Give `event` the next number and the current time, and pass it to all subscribers."""
        self._seq += 1
        record = Record(self._seq, self._now(), event)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(record)
            except Exception:  # noqa: BLE001 - a bug in the log must not keep the event from other subscribers
                self._on_error(traceback.format_exc())
