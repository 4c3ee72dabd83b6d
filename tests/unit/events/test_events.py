"""The event bus: order, numbers, and subscribers that fail."""

import itertools

import msgspec

from pyssh_gateway.events import AnyEvent, IdleTick, Record
from pyssh_gateway.events.bus import EventBus


def tick(idle: int) -> AnyEvent:
    """Any event."""
    return IdleTick(idle=idle, remaining=0, message="")


def make_bus(errors: list[str]) -> EventBus:
    """A bus whose clock counts up by one."""
    clock = itertools.count(100)
    return EventBus(lambda: float(next(clock)), errors.append)


def test_everybody_gets_everything_in_order() -> None:
    """All subscribers get the same records in order, with numbers without gaps and one time for each."""
    errors: list[str] = []
    bus = make_bus(errors)
    first: list[Record] = []
    second: list[Record] = []
    bus.subscribe(first.append)
    bus.publish(tick(1))
    bus.subscribe(second.append)
    bus.publish(tick(2))
    assert first == [Record(1, 100.0, tick(1)), Record(2, 101.0, tick(2))]
    assert second == first[1:]
    assert errors == []


def test_who_fails_harms_nobody_else() -> None:
    """A subscriber that fails, as on a full disk, is reported, and the others still get the event."""
    errors: list[str] = []
    bus = make_bus(errors)
    seen: list[Record] = []

    def fail(record: Record) -> None:
        raise OSError("disk full")

    bus.subscribe(fail)
    bus.subscribe(seen.append)
    bus.publish(tick(1))
    assert len(seen) == 1
    assert "disk full" in errors[0]


def test_a_subscription_ends() -> None:
    """A subscriber may end its subscription, also while it handles an event."""
    bus = make_bus([])
    seen: list[Record] = []

    def once(record: Record) -> None:
        seen.append(record)
        end()

    end = bus.subscribe(once)
    others: list[Record] = []
    bus.subscribe(others.append)
    bus.publish(tick(1))
    bus.publish(tick(2))
    assert len(seen) == 1
    assert len(others) == 2


def test_names_are_unique_and_dotted() -> None:
    """The tag is the event's name in the log for ever, so it is unique, lower case and dotted."""
    names = [kind.__struct_config__.tag for kind in AnyEvent.__args__]
    assert len(set(names)) == len(names)
    assert all(isinstance(name, str) and "." in name and name == name.lower() for name in names)
    assert msgspec.json.decode(msgspec.json.encode(tick(5)))["event"] == "idle.tick"
