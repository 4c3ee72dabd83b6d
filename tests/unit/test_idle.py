"""When the machine is not needed: the tracker against a naive model of the same rules."""

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyssh_gateway.core.idle import TICK_SECONDS, IdleTracker, Stay, Stop, Tick
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    IdleTick,
)


def opened(conn: str) -> AnyEvent:
    """A TCP connection."""
    return ConnectionOpened(conn=conn, peer="192.0.2.1", peer_port=4000)


def authenticated(conn: str) -> AnyEvent:
    """Somebody is on."""
    return ConnectionAuthenticated(
        conn=conn,
        peer="192.0.2.1",
        user="amos",
        fingerprint="",
        source="",
        client="",
        cipher="",
        seconds=0,
        identity=Identity("github:example", 583231, "SHA256:x"),
    )


def closed(conn: str, user: str = "amos") -> AnyEvent:
    """The connection is gone."""
    return ConnectionClosed(conn=conn, peer="", user=user, reason="", seconds=0, bytes_in=0, bytes_out=0)


def drive(tracker: IdleTracker, now: float) -> list[Tick | Stop]:
    """Ask until there is nothing to do at `now`."""
    said: list[Tick | Stop] = []
    while not isinstance(answer := tracker.poll(now), Stay):
        said.append(answer)
        if isinstance(answer, Stop):
            break
    return said


def test_an_unused_machine_ticks_and_stops() -> None:
    """From boot on, with nobody there: a tick for every step, the stop at the timeout, the deadlines in between."""
    tracker = IdleTracker(12, now=100)
    assert tracker.poll(100) == Stay(105)
    assert tracker.poll(104.9) == Stay(105)
    assert tracker.poll(105) == Tick(5, 7)
    assert tracker.poll(105) == Stay(110)
    assert tracker.poll(110.2) == Tick(10, 2)
    assert tracker.poll(110.2) == Stay(112)
    assert tracker.poll(112) == Stop(12)


def test_a_late_look_says_only_the_last_step() -> None:
    """A machine that was suspended does not tick through the hours that it slept."""
    tracker = IdleTracker(60, now=0)
    assert drive(tracker, 33) == [Tick(30, 27)]


def test_without_a_timeout_it_never_stops() -> None:
    """Idle shutdown can be switched off."""
    tracker = IdleTracker(None, now=0)
    assert tracker.poll(1e9) == Stay(None)


def test_the_period_begins_when_the_last_one_leaves() -> None:
    """Of two people the one who stays keeps the machine; when both have gone, the whole timeout runs again."""
    tracker = IdleTracker(10, now=0)
    tracker.observe(authenticated("a"), 1)
    tracker.observe(authenticated("b"), 2)
    tracker.observe(closed("a"), 50)
    assert tracker.in_use
    assert tracker.poll(100) == Stay(None)
    tracker.observe(closed("b"), 100)
    assert not tracker.in_use
    assert tracker.poll(100) == Stay(105)
    assert tracker.poll(110) == Stop(10)


def test_strangers_neither_keep_nor_delay() -> None:
    """A scanner that comes and goes all the time changes nothing; nor do events that are no use of the machine."""
    tracker = IdleTracker(10, now=0)
    for second in range(10):
        tracker.observe(opened(f"s{second}"), second)
        tracker.observe(closed(f"s{second}", user=""), second + 0.5)
        tracker.observe(IdleTick(idle=5, remaining=5, message=""), second)
    assert tracker.poll(10) == Stop(10)


class Machine(RuleBasedStateMachine):
    """Any order of comings, goings and time, against sets and subtraction."""

    @initialize(timeout=st.one_of(st.none(), st.floats(0.1, 200), st.integers(1, 120)))
    def start(self, timeout: float | None) -> None:
        """Boot."""
        self.timeout = timeout
        self.now = 1000.0
        self.tracker = IdleTracker(timeout, self.now)
        self.strangers: set[str] = set()
        self.people: set[str] = set()
        self.since = self.now
        self.ticked: list[int] = []
        self.number = 0
        self.stopped = False

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def wait_for_the_deadline(self) -> None:
        """Sleep for exactly as long as the tracker says; something must be due then."""
        answer = self.tracker.poll(self.now)
        if isinstance(answer, Stay) and answer.until is not None:
            assert answer.until >= self.now
            self.now = answer.until
            due = self.tracker.poll(self.now)
            # Sums of floats may fall short of the deadline by their last bit.
            assert not isinstance(due, Stay) or (due.until is not None and math.isclose(due.until, self.now))
            if isinstance(due, Tick):
                self.note(due)

    @rule()
    def connect(self) -> None:
        """Somebody connects, and nobody knows who."""
        self.number += 1
        self.strangers.add(f"c{self.number}")
        self.tracker.observe(opened(f"c{self.number}"), self.now)

    @precondition(lambda self: self.strangers)
    @rule(data=st.data())
    def log_in(self, data: st.DataObject) -> None:
        """One of them is known now."""
        conn = data.draw(st.sampled_from(sorted(self.strangers)))
        self.strangers.remove(conn)
        self.people.add(conn)
        self.tracker.observe(authenticated(conn), self.now)

    @precondition(lambda self: self.strangers | self.people)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A connection closes."""
        conn = data.draw(st.sampled_from(sorted(self.strangers | self.people)))
        was_person = conn in self.people
        self.strangers.discard(conn)
        self.people.discard(conn)
        self.tracker.observe(closed(conn), self.now)
        if was_person and not self.people:
            self.since = self.now
            self.ticked = []

    def note(self, tick: Tick) -> None:
        """Each step is said once, in order, and truly."""
        assert tick.idle % TICK_SECONDS == 0
        assert not self.ticked or tick.idle > self.ticked[-1]
        assert tick.idle <= self.now - self.since < tick.idle + TICK_SECONDS
        assert self.timeout is not None
        assert 0 <= tick.remaining <= math.ceil(self.timeout)
        self.ticked.append(tick.idle)

    @invariant()
    def agrees(self) -> None:
        """Stop exactly when nobody is on and the time is up; never otherwise."""
        if not hasattr(self, "tracker"):
            return
        assert self.tracker.in_use == bool(self.people)
        idle = self.now - self.since
        answer = self.tracker.poll(self.now)
        should_stop = self.timeout is not None and not self.people and idle >= self.timeout
        assert isinstance(answer, Stop) == should_stop
        match answer:
            case Stop(idle=told):
                assert told == pytest.approx(idle)
            case Tick():
                assert not self.people
                self.note(answer)
                assert not isinstance(self.tracker.poll(self.now), Tick)
            case Stay(until=None):
                assert self.people or self.timeout is None
            case Stay(until=until):
                assert until is not None
                # Sums of floats may meet the deadline a last bit too early.
                assert self.now < until or math.isclose(self.now, until)
                assert until <= self.since + (self.timeout or 0)


TestMachine = Machine.TestCase


def test_it_says_when_the_machine_stops() -> None:
    """Protects `pyssh-gateway status`: the time that is left is that of the stop, and nothing while somebody is on."""
    tracker = IdleTracker(60.0, 0.0)
    assert tracker.stops_in(10.0) == 50.0
    assert tracker.stops_in(70.0) == 0.0
    tracker.observe(authenticated("c1"), 20.0)
    assert tracker.stops_in(30.0) is None
    assert IdleTracker(None, 0.0).stops_in(0.0) is None
