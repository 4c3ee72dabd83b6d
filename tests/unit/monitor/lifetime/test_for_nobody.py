"""monitor.lifetime.for_nobody: each wake is counted once, at the stop that ends it, by what woke the machine."""

from pathlib import Path

import pytest

from pyssh_gateway.core.idle.nobody import Entry, Ledger, Source
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    HoldEnded,
    HoldStarted,
    Identity,
    MachineResumed,
    Record,
    ServerStopping,
    StopStep,
)
from pyssh_gateway.machine import nobody_file
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.lifetime.for_nobody import ForNobody

NOW = 1_795_000_000.0
SCANNER = "203.0.113.9"
FROM_SCANNER = Source("address", SCANNER)
BY_HAND = Source("start")


class Machine:
    """Server processes that share a directory, the parts that `ForNobody` asks, and a clock that the test moves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = NOW
        self.returned = ""
        self.start()

    def start(self) -> None:
        """Start the machine."""
        self.awake = Awake(self.now, lambda: Clocks(self.now - NOW, self.now), self.directory / "awake.json")
        self.tracker = IdleTracker(IdlePolicy(60.0), self.awake.wake, self.now)
        self.for_nobody = ForNobody(
            self.awake,
            self,
            in_use=lambda: self.tracker.in_use,
            clock=lambda: self.now,
            directory=self.directory,
        )

    def happens(self, *events: AnyEvent) -> None:
        """Report events that happen now."""
        for event in events:
            record = Record(1, self.now, event)
            self.awake.observe(record)
            self.tracker.observe(event, self.now)
            self.for_nobody.observe(record)

    def stops(self, after: float = 5.0) -> None:
        """Stop for want of use after some seconds."""
        self.now += after
        self.happens(ServerStopping(reason="idle"))
        self.for_nobody.note()()

    def sleeps(self, seconds: float = 100.0) -> None:
        """Be suspended by the stop that has just been made, and come back."""
        self.happens(StopStep(step="suspend", outcome="ok", result="done", seconds=0.1))
        self.now += seconds
        self.happens(MachineResumed(seconds=seconds))

    @property
    def counted(self) -> dict[Source, tuple[int, float]]:
        """What people are told, which has to be what the file has after a stop."""
        return told(self.for_nobody.summary().entries)


def told(entries: tuple[Entry, ...]) -> dict[Source, tuple[int, float]]:
    """Count and seconds of each source."""
    return {entry.source: (entry.tally.count, round(entry.tally.seconds, 3)) for entry in entries}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has just been started."""
    return Machine(tmp_path)


def came(peer: str = SCANNER) -> AnyEvent:
    """A connection."""
    return ConnectionOpened(conn=peer, peer=peer, peer_port=4000)


def logged_in(peer: str = SCANNER) -> AnyEvent:
    """A login."""
    return ConnectionAuthenticated(
        conn=peer,
        peer=peer,
        user="amos",
        fingerprint="",
        source="",
        client="",
        cipher="",
        seconds=0,
        identity=Identity("github:example", None, "SHA256:x"),
    )


def went(peer: str = SCANNER) -> AnyEvent:
    """A logged-in connection closes."""
    return ConnectionClosed(conn=peer, peer=peer, user="amos", reason="", seconds=0, bytes_in=0, bytes_out=0)


HELD = HoldStarted(hold="h", user="root", seconds=3.0, reason="", pid=0)
RELEASED = HoldEnded(hold="h", user="root", why="released")
CALLED_OFF = StopStep(step="suspend", outcome="whatever it says", result="called_off", seconds=0)


def test_a_scanner_is_counted_at_each_start(machine: Machine) -> None:
    """Protects `why` after the next start: the file has what every stop has added."""
    machine.happens(came())
    machine.stops(5)
    machine.start()
    assert machine.counted == {FROM_SCANNER: (1, 5)}
    machine.stops(7)
    machine.start()
    assert machine.counted == {FROM_SCANNER: (1, 5), BY_HAND: (1, 7)}


def test_a_scanner_is_counted_at_each_resume(machine: Machine) -> None:
    """Protects machines that are suspended: each resume is a wake of its own, written down before the suspend."""
    machine.happens(came())
    machine.stops(5)
    assert nobody_file.read(machine.directory) != Ledger()
    machine.sleeps()
    machine.happens(came())
    machine.stops(6)
    assert machine.counted == {FROM_SCANNER: (2, 11)}
    machine.start()
    assert machine.counted == {FROM_SCANNER: (2, 11)}


def test_somebody_who_logs_in_was_somebody(machine: Machine) -> None:
    """Protects people: a wake with a login is not counted, and the next wake is judged anew."""
    machine.happens(came(), logged_in(), went())
    machine.stops()
    assert machine.counted == {}
    machine.sleeps()
    machine.stops()
    assert machine.counted == {BY_HAND: (1, 5)}


def test_what_was_held_up_was_held_up_for_somebody(machine: Machine) -> None:
    """Protects holds and schedules: they need no login, and the time for which they kept the machine up was wanted."""
    machine.happens(HELD, RELEASED)
    machine.stops()
    assert machine.counted == {}


def test_a_client_returned_counts_as_nobody(machine: Machine) -> None:
    """Protects the figures from editors left open: their wakes count, by the name of the person whose client it is."""
    machine.happens(came())
    machine.awake.observe(Record(1, machine.now, logged_in()))  # on probation, a login is no reason for the tracker
    machine.returned = "github:example"
    machine.stops()
    assert machine.counted == {Source("person", "github:example"): (1, 5)}


def test_a_stop_that_was_called_off_is_counted_once(machine: Machine) -> None:
    """Protects the sum: a machine that stays up after all is counted at its real stop, for the whole time, or not."""
    machine.happens(came())
    machine.stops(5)
    machine.happens(CALLED_OFF)
    assert machine.counted == {}
    machine.stops(5)
    assert machine.counted == {FROM_SCANNER: (1, 10)}
    machine.happens(CALLED_OFF, came("192.0.2.1"), logged_in("192.0.2.1"), went("192.0.2.1"))
    machine.stops(5)
    assert machine.counted == {}
    machine.start()
    assert machine.counted == {}


def test_a_file_that_cannot_be_written_is_an_error(machine: Machine) -> None:
    """Protects the log: a full disk is reported by the stop, which goes on."""
    machine.directory /= "missing"
    machine.start()
    write = machine.for_nobody.note()
    with pytest.raises(OSError, match="No such file"):
        write()
