"""The one stream of events, to which other parts subscribe."""

import traceback
from collections.abc import Callable
from typing import Protocol

import msgspec

from pyssh_gateway.events import AnyEvent, Origin, Record

Subscriber = Callable[[Record], None]


class Admitted(msgspec.Struct, frozen=True):
    """What becomes of an event: perhaps it is shortened, or not logged; `notice` is published before it."""

    event: AnyEvent
    is_logged: bool = True
    notice: AnyEvent | None = None


Admit = Callable[[AnyEvent, float], Admitted]


class Publish(Protocol):
    """`EventBus.publish`."""

    def __call__(self, event: AnyEvent, origin: Origin | None = None) -> None:
        """Publish an event; `origin` is as in `Record`."""


class EventBus:
    """Hands every event to every subscriber, in order, before `publish` returns.

    A subscriber that raises is reported to `on_error` and the others still get the event: a full disk under the
    audit log must not change who may log in. Events are numbered after `counted`, the last number of an earlier
    process. `admit` decides about those that other processes report; one that is not logged has the number 0.
    """

    def __init__(
        self, now: Callable[[], float], on_error: Callable[[str], None], counted: int = 0, admit: Admit | None = None
    ) -> None:
        self._now = now
        self._on_error = on_error
        self._seq = counted
        self._admit = admit
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add `subscriber`; it sees every event published from now on. Returns a function that removes it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: AnyEvent, origin: Origin | None = None) -> None:
        """Give `event` the next number and the current time, and pass it to all subscribers."""
        now = self._now()
        is_logged = True
        if self._admit is not None and origin is not None:
            admitted = self._admit(event, now)
            if admitted.notice is not None:
                self.publish(admitted.notice)
            event, is_logged = admitted.event, admitted.is_logged
        if is_logged:
            self._seq += 1
        record = Record(self._seq if is_logged else 0, now, event, origin)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(record)
            except Exception:  # noqa: BLE001 - a bug in the log must not keep the event from other subscribers
                self._on_error(traceback.format_exc())
