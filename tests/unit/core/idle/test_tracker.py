"""When the machine is not needed: the tracker, compared with a naive model of the same rules."""

import math
from typing import Literal, get_args

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import (
    TICK_SECONDS,
    WARNINGS,
    IdlePolicy,
    IdleTracker,
    Stay,
    Stop,
    Tick,
    Warn,
    policy_of,
)
from pyssh_gateway.core.idle.wake import CAUSE_SECONDS, SILENT_SECONDS, WAKE_SECONDS, Wake
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundWork,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    GatewayCrashed,
    HoldEnded,
    HoldStarted,
    Identity,
    IdleTick,
    MachineResumed,
    ScheduleEntered,
    ServerStopping,
    StopStep,
    TerminalQuiet,
    TerminalUsed,
)

PEER = "203.0.113.9"

Result = Literal["done", "failed", "called_off"]


def who(key: str = "x") -> Identity:
    """The identity of a person with that key."""
    return Identity("github:example", 583231, f"SHA256:{key}")


def opened(conn: str, peer: str = PEER) -> AnyEvent:
    """A TCP connection opens."""
    return ConnectionOpened(conn=conn, peer=peer, peer_port=4000)


def authenticated(conn: str, key: str = "x", probation: float | None = None) -> AnyEvent:
    """Somebody logs in on the connection."""
    return ConnectionAuthenticated(
        conn=conn,
        peer=PEER,
        user="amos",
        fingerprint="",
        source="",
        client="",
        cipher="",
        seconds=0,
        identity=who(key),
        probation=probation,
    )


def closed(conn: str, user: str = "amos", *, goodbye: bool = True, key: str = "x") -> AnyEvent:
    """The connection closes."""
    return ConnectionClosed(
        conn=conn, peer="", user=user, reason="", seconds=0, bytes_in=0, bytes_out=0, goodbye=goodbye, identity=who(key)
    )


def quiet(conn: str) -> AnyEvent:
    """The client becomes quiet, as it was not used for a while."""
    return ClientQuiet(conn=conn, user="amos", seconds=1)


def used(conn: str) -> AnyEvent:
    """The client is used again."""
    return ClientUsed(conn=conn, user="amos", identity=who())


def held(hold: str, seconds: float) -> AnyEvent:
    """A hold begins, or gets longer."""
    return HoldStarted(hold=hold, user="amos", seconds=seconds, reason="training run", pid=0)


def released(hold: str) -> AnyEvent:
    """A hold ends before its time."""
    return HoldEnded(hold=hold, user="amos", why="released")


def crashed() -> AnyEvent:
    """An earlier monitor has crashed, which cut off clients that were logging in."""
    return GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=0)


def stopping() -> AnyEvent:
    """A stop begins."""
    return ServerStopping(reason="idle")


def asked(result: Result = "done") -> AnyEvent:
    """The result of asking Fly for the suspend; the outcome's words do not matter."""
    return StopStep(step="suspend", outcome="whatever it says", result=result, seconds=0)


class Fed(IdleTracker):
    """A tracker that passes each event to its `wake` first; its wall clock runs on while the machine is away."""

    def __init__(self, policy: IdlePolicy, now: float) -> None:
        self.away = 0.0
        self.wake = Wake(now, Clocks(now, now))
        super().__init__(policy, self.wake, now)

    def observe(self, event: AnyEvent, now: float) -> None:
        """Pass the event on, first to `wake`."""
        if isinstance(event, MachineResumed):
            self.away += event.seconds
        self.wake.observe(event, Clocks(now, now + self.away))
        super().observe(event, now)


def tracker_of(timeout: float | None, now: float = 0.0, **policy: float) -> Fed:
    """A tracker with this policy."""
    return Fed(IdlePolicy(timeout, **policy), now)


def drive(tracker: IdleTracker, now: float) -> list[Tick | Warn | Stop]:
    """Poll the tracker until nothing is due at `now`."""
    said: list[Tick | Warn | Stop] = []
    while not isinstance(answer := tracker.poll(now), Stay):
        said.append(answer)
        if isinstance(answer, Stop):
            break
    return said


def test_an_unused_machine_ticks_and_stops() -> None:
    """From boot on without a login: a tick for each step, the stop at the timeout, and correct deadlines between."""
    tracker = tracker_of(12, now=100)
    assert tracker.poll(100) == Stay(105)
    assert tracker.poll(104.9) == Stay(105)
    assert tracker.poll(105) == Tick(5, 7)
    assert tracker.poll(105) == Stay(110)
    assert tracker.poll(110.2) == Tick(10, 2)
    assert tracker.poll(110.2) == Stay(112)
    assert tracker.poll(112) == Stop(12, "nobody has logged in for 12 s")


def test_a_late_look_says_only_the_last_step() -> None:
    """A late poll, as after a suspend, gives only the latest tick and not all that were missed."""
    assert drive(tracker_of(60), 33) == [Tick(30, 27)]


def test_without_a_timeout_it_never_stops() -> None:
    """Without a timeout, the machine never stops by itself."""
    tracker = tracker_of(None)
    assert tracker.poll(1e9) == Stay(None)
    assert tracker.stops_in(1e9) is None
    assert tracker.reasons(1e9) == ()


def test_the_period_begins_when_the_last_one_leaves() -> None:
    """While one of two users stays, the machine is in use; when both have gone, the whole timeout runs again."""
    tracker = tracker_of(10)
    tracker.observe(authenticated("a"), 1)
    tracker.observe(authenticated("b"), 2)
    tracker.observe(closed("a"), 50)
    assert tracker.in_use
    assert tracker.poll(100) == Stay(None)
    assert tracker.stops_in(100) is None
    tracker.observe(closed("b"), 100)
    assert not tracker.in_use
    assert tracker.poll(100) == Stay(105)
    assert tracker.stops_in(102) == 8
    assert tracker.poll(110) == Stop(10, "idle for 10 s")


def test_strangers_neither_keep_nor_delay() -> None:
    """Connections without a login, and events that are no use of the machine, neither delay the stop nor prevent it."""
    tracker = tracker_of(10)
    for second in range(10):
        tracker.observe(opened(f"s{second}"), second)
        tracker.observe(closed(f"s{second}", user=""), second + 0.5)
        tracker.observe(IdleTick(idle=5, remaining=5, message=""), second)
    assert tracker.poll(10) == Stop(10, f"woken by {PEER}, no login")


def test_a_start_without_a_login_ends_early() -> None:
    """Protects the bill from scanners: a client that wakes the machine without a login is named, after a short wait."""
    tracker = tracker_of(60, boot_grace=20)
    tracker.observe(opened("s"), 1)
    (reason,) = tracker.reasons(2)
    assert (reason.kind, reason.text, reason.until) == ("boot", f"woken by {PEER}, nobody has logged in yet", 20)
    assert drive(tracker, 20) == [Stop(20, f"woken by {PEER}, no login")]
    tracker.observe(authenticated("a"), 19)
    tracker.observe(closed("a"), 19)
    assert tracker.stops_in(19) == 60
    assert tracker.reasons(19) == ()


def test_a_scanner_costs_seconds() -> None:
    """Protects the bill: once the connection that woke the machine has gone without a login, the stop is near."""
    tracker = tracker_of(600, boot_grace=300, wake_grace=5)
    tracker.observe(opened("s"), 1)
    tracker.wake.spoke("s")
    assert tracker.stops_in(2) == 298, "it may be a person who reads a fingerprint or touches a key"
    tracker.observe(opened("t"), 3)
    tracker.wake.spoke("t")
    tracker.observe(closed("s", user=""), 4)
    assert tracker.stops_in(4) == 296
    tracker.observe(closed("t", user=""), 6)
    assert tracker.stops_in(6) == 5
    assert drive(tracker, 11)[-1] == Stop(11, f"woken by {PEER}, no login")


def test_a_scanner_that_only_listens_costs_seconds_too() -> None:
    """Protects the bill: a connection that sends nothing is no login that may still come, however long it stays."""
    tracker = tracker_of(600, wake_grace=2)
    tracker.observe(opened("s"), 1)
    assert tracker.stops_in(1) == SILENT_SECONDS
    assert drive(tracker, 1 + SILENT_SECONDS)[-1] == Stop(1 + SILENT_SECONDS, f"woken by {PEER}, no login")


def test_use_that_is_known_when_the_client_has_gone_counts() -> None:
    """Protects people who work by commands: the idle time begins when the command has ended, not with the start."""
    tracker = tracker_of(600, wake_grace=2)
    tracker.observe(opened("a"), 1)
    tracker.observe(authenticated("a", probation=60), 2)
    tracker.observe(closed("a"), 50)
    tracker.observe(used("a"), 50)
    assert tracker.stops_in(50) == 600


def test_a_client_on_probation_that_stirs_is_waited_for_longer() -> None:
    """Protects a person from a stop under their hands, while it is not certain that they are one."""
    tracker = tracker_of(600, wake_grace=2)
    tracker.observe(opened("a"), 1)
    tracker.observe(authenticated("a", probation=30), 2)
    tracker.wait_longer("a", 20)
    assert tracker.stops_in(30) == 2
    tracker.wait_longer("a", 90)
    assert tracker.stops_in(30) == 60
    tracker.wait_longer("b", 900)
    assert tracker.stops_in(30) == 60


@pytest.mark.parametrize(
    "happens",
    [
        [],  # nobody has connected
        [authenticated("a"), closed("a")],
        [held("h1", 1), released("h1")],
    ],
)
def test_a_machine_that_was_started_for_somebody_waits(happens: list[AnyEvent]) -> None:
    """Protects people: the short wait is only for a machine that a scanner woke and nobody has used since."""
    tracker = tracker_of(60, wake_grace=5)
    if happens:
        tracker.observe(opened("s"), 0)
    for event in happens:
        tracker.observe(event, 0)
    tracker.observe(opened("t"), CAUSE_SECONDS + 1)
    tracker.observe(closed("t", user=""), CAUSE_SECONDS + 1)
    assert tracker.stops_in(CAUSE_SECONDS + 1) == 60 - CAUSE_SECONDS - 1


def test_a_client_on_probation_is_no_reason() -> None:
    """Protects the bill from an editor that comes back by itself: the machine waits for its leash, and no longer."""
    tracker = tracker_of(600, wake_grace=5)
    tracker.observe(opened("a"), 1)
    tracker.observe(authenticated("a", probation=60), 2)
    assert not tracker.in_use
    assert tracker.quiet == ("github:example is on as amos from 203.0.113.9",)
    assert tracker.quiet_connections == {"a"}
    (reason,) = tracker.reasons(2)
    assert (reason.kind, reason.text, reason.until) == (
        "probation",
        "github:example from 203.0.113.9 came back by itself",
        62,
    )
    assert drive(tracker, 62)[-1] == Stop(62, "github:example from 203.0.113.9 came back by itself, and was not used")


def test_a_client_on_probation_that_goes_lets_the_machine_stop_at_once() -> None:
    """Protects the bill: nobody is waited for when the client has gone, as the machine was awake only for it."""
    tracker = tracker_of(600, wake_grace=5)
    tracker.observe(opened("a"), 1)
    tracker.observe(authenticated("a", probation=60), 2)
    tracker.observe(closed("a"), 3)
    assert tracker.stops_in(3) == 0


def test_a_client_on_probation_that_is_used_is_a_reason() -> None:
    """Protects a person: their first key ends the probation, and the machine waits for the whole timeout afterwards."""
    tracker = tracker_of(600, wake_grace=5)
    tracker.observe(opened("a"), 1)
    tracker.observe(authenticated("a", probation=60), 2)
    tracker.observe(used("a"), 9)
    assert [reason.kind for reason in tracker.reasons(9)] == ["connection"]
    tracker.observe(closed("a"), 100)
    assert tracker.stops_in(100) == 600


def test_a_lost_client_is_waited_for() -> None:
    """Protects the session of a closed lid: a lost client keeps the machine up longer than one that said goodbye."""
    tracker = tracker_of(10, lost_grace=300)
    tracker.observe(authenticated("a"), 0)
    tracker.observe(closed("a", goodbye=False), 5)
    assert tracker.stops_in(5) == 300
    assert [reason.kind for reason in tracker.reasons(100)] == ["lost"]
    tracker.observe(authenticated("b"), 100)
    tracker.observe(closed("b"), 110)
    assert tracker.stops_in(110) == 10
    tracker.observe(authenticated("c"), 111)
    tracker.observe(closed("c", goodbye=False), 112)
    tracker.observe(authenticated("d", key="another"), 113)
    tracker.observe(closed("d", key="another"), 114)
    assert tracker.stops_in(114) == 298
    assert drive(tracker, 412)[-1] == Stop(298, "idle for 298 s")


def test_a_lost_client_is_waited_for_although_another_of_its_connections_came_back_by_itself() -> None:
    """Protects a closed lid: the person's editor is back first, and does not end the wait for their terminal."""
    tracker = tracker_of(10, lost_grace=300)
    tracker.observe(authenticated("terminal"), 0)
    tracker.observe(closed("terminal", goodbye=False), 5)
    tracker.observe(authenticated("editor", probation=60), 6)
    assert tracker.stops_in(6) == 299
    tracker.observe(used("editor"), 10)
    tracker.observe(closed("editor"), 20)
    assert tracker.stops_in(20) == 10


def test_whom_a_crash_cut_off_is_waited_for() -> None:
    """Protects people from a crash of ours: the next server waits for them as for lost clients, not as after a boot."""
    tracker = tracker_of(60, boot_grace=20, lost_grace=300)
    tracker.observe(crashed(), 100)
    (reason,) = tracker.reasons(100)
    assert (reason.kind, reason.until) == ("lost", 400)
    assert reason.text == "whoever was logging in when the server crashed may come back"
    tracker.observe(authenticated("a"), 110)
    tracker.observe(closed("a"), 120)
    assert tracker.stops_in(120) == 280  # one of several has come back
    assert drive(tracker, 400)[-1] == Stop(280, "idle for 280 s")


def test_no_grace_is_no_grace() -> None:
    """With `lost_client_grace = 0`, losing a client counts as its goodbye, and a crash causes no wait."""
    tracker = tracker_of(10, boot_grace=5)
    tracker.observe(crashed(), 0)
    assert tracker.reasons(0) == ()
    assert tracker.stops_in(0) == 10
    tracker = tracker_of(10)
    tracker.observe(authenticated("a"), 0)
    tracker.observe(closed("a", goodbye=False), 5)
    assert tracker.stops_in(5) == 10


def test_a_quiet_client_does_not_keep_the_machine() -> None:
    """Protects the bill from a forgotten editor: it stops counting, is warned twice, and counts again when used."""
    tracker = tracker_of(100, lost_grace=300)
    tracker.observe(authenticated("a"), 0)
    tracker.observe(quiet("a"), 1000)
    assert not tracker.in_use
    assert tracker.quiet == ("github:example is on as amos from 203.0.113.9",)
    said = [(now, one.seconds) for now in range(1000, 1100) for one in drive(tracker, now) if isinstance(one, Warn)]
    assert said == [(1100 - warning, warning) for warning in WARNINGS]
    tracker.observe(used("a"), 1099)
    assert tracker.in_use
    assert tracker.quiet == ()
    tracker.observe(quiet("a"), 2000)
    assert Warn(30) in drive(tracker, 2070)
    assert tracker.poll(2070) == Stay(2075)
    tracker.observe(closed("a", goodbye=False), 2080)
    assert (tracker.reasons(2080), tracker.quiet) == ((), ())
    assert drive(tracker, 2100) == [Stop(100, "idle for 100 s")]


def test_a_warning_comes_on_time() -> None:
    """Protects the two warnings from being late: the tracker asks to be polled when each of them is due."""
    tracker = tracker_of(73)
    tracker.observe(authenticated("a"), 0)
    tracker.observe(quiet("a"), 100)
    asked = [100.0]
    while not isinstance(answer := tracker.poll(asked[-1]), Stop):
        if isinstance(answer, Stay):
            assert answer.until is not None
            asked.append(answer.until)
    assert {113.0, 163.0, 173.0} <= set(asked)


def test_a_short_time_is_warned_of_once() -> None:
    """Protects the screen: if less than ten seconds are left, there is only one warning."""
    tracker = tracker_of(8)
    tracker.observe(authenticated("a"), 0)
    tracker.observe(quiet("a"), 1)
    assert drive(tracker, 1) == [Warn(8)]
    assert drive(tracker, 5) == []


def test_holds_last_as_long_as_they_say() -> None:
    """Protects the training run: a hold keeps the machine up, can be extended, and ends by itself or by a release."""
    tracker = tracker_of(10)
    tracker.observe(held("h1", 100), 0)
    assert tracker.poll(50) == Stay(100)
    assert tracker.stops_in(50) == 60
    tracker.observe(held("h1", 100), 50)
    tracker.observe(held("h2", 20), 50)
    assert [reason.text for reason in tracker.reasons(60)] == ["amos holds it: training run"] * 2
    assert drive(tracker, 149.9) == []
    assert drive(tracker, 160) == [Stop(10, "nobody has logged in for 10 s")]
    tracker.observe(held("h3", 1000), 155)
    tracker.observe(released("h3"), 170)
    tracker.observe(released("nobody's"), 171)
    assert tracker.stops_in(172) == 8


def test_the_idle_time_begins_when_a_hold_ended() -> None:
    """Protects the bill: the idle time counts from a hold's end, also if the poll comes later."""
    tracker = tracker_of(10)
    tracker.observe(held("h1", 100), 0)
    assert drive(tracker, 111) == [Stop(11, "nobody has logged in for 11 s")]


def test_somebody_at_a_terminal_keeps_the_machine() -> None:
    """Protects mosh users: they are a reason with a name and without an end, and the idle time begins after them."""
    tracker = tracker_of(10)
    tracker.observe(TerminalUsed(what="amos is at pts/3 (mosh-server)"), 5)
    assert [(reason.kind, reason.text, reason.until) for reason in tracker.reasons(100)] == [
        ("terminal", "amos is at pts/3 (mosh-server)", None)
    ]
    assert tracker.stops_in(100) is None
    tracker.observe(TerminalQuiet(what="amos is at pts/3 (mosh-server)"), 100)
    assert tracker.stops_in(100) == 10


def test_background_work_and_hours_keep_the_machine() -> None:
    """Background work, such as a build after the laptop was closed, and scheduled hours keep the machine up."""
    tracker = tracker_of(10)
    tracker.observe(BackgroundWork(seconds=30, what="make of amos"), 0)
    assert [reason.kind for reason in tracker.reasons(5)] == ["background"]
    tracker.observe(BackgroundWork(seconds=0, what=""), 20)
    assert tracker.stops_in(20) == 10
    tracker.observe(ScheduleEntered(seconds=100, what="mon-fri 08:00-18:00"), 25)
    assert [(reason.kind, reason.until) for reason in tracker.reasons(30)] == [("schedule", 125)]
    assert drive(tracker, 124) == []
    assert isinstance(tracker.poll(135), Stop)


def test_a_suspended_machine_starts_anew() -> None:
    """Protects a resume: the time asleep does not count as idle, and a hold that expired meanwhile has ended."""
    tracker = tracker_of(10)
    tracker.observe(held("h1", 100), 0)
    tracker.observe(authenticated("a"), 0)
    tracker.fall_behind(3600, 5)
    tracker.observe(MachineResumed(seconds=3600), 5)
    assert [reason.kind for reason in tracker.reasons(5)] == ["connection"]
    tracker.observe(closed("a"), 6)
    tracker.observe(MachineResumed(seconds=3600), 15)
    assert tracker.stops_in(15) == 10


def test_a_resume_is_a_start() -> None:
    """Protects the bill of a suspended machine: after a resume, a scanner is named and the grace is shorter."""
    tracker = tracker_of(60, boot_grace=20)
    tracker.observe(opened("a", "198.51.100.7"), 0)
    tracker.observe(authenticated("a"), 1)
    tracker.observe(closed("a"), 2)
    for event in (stopping(), asked(), opened("s"), MachineResumed(seconds=3600)):
        tracker.observe(event, 62)
    assert [(reason.kind, reason.until) for reason in tracker.reasons(62)] == [("boot", 82)]
    assert drive(tracker, 82) == [Stop(20, f"woken by {PEER}, no login")]
    # A login that began and ended before the resume was noticed still counts as a login.
    for event in (stopping(), asked(), opened("b"), authenticated("b"), closed("b"), MachineResumed(seconds=0)):
        tracker.observe(event, 82)
    assert tracker.reasons(82) == ()
    assert tracker.stops_in(82) == 60


def test_whoever_is_on_over_a_jump_of_the_clock_stays_known() -> None:
    """Users who are connected when the clock jumps, or the machine was away, stay logged in and still count."""
    tracker = tracker_of(60, boot_grace=20)
    tracker.observe(opened("a"), 0)
    tracker.observe(authenticated("a"), 1)
    tracker.observe(quiet("a"), 2)
    tracker.observe(MachineResumed(seconds=3600), 3)
    assert tracker.stops_in(3) == 60
    tracker.observe(used("a"), 4)
    tracker.observe(MachineResumed(seconds=3600), 5)
    tracker.observe(closed("a"), 6)
    tracker.observe(MachineResumed(seconds=-3600), 7)  # the clock was set back, which is no resume
    assert tracker.stops_in(7) == 60
    tracker.observe(MachineResumed(seconds=3600), 8)
    assert tracker.stops_in(8) == 20


def test_a_stop_that_was_called_off_changes_nothing_else() -> None:
    """A stop that was called off changes neither who woke the machine nor whether somebody has logged in."""
    tracker = tracker_of(60, boot_grace=20)
    tracker.observe(opened("a", "198.51.100.7"), 0)
    tracker.observe(authenticated("a"), 1)
    tracker.observe(stopping(), 2)
    tracker.observe(asked("called_off"), 3)
    tracker.observe(opened("s"), 4)
    tracker.observe(MachineResumed(seconds=3600), 5)
    tracker.observe(closed("a"), 6)
    assert tracker.stops_in(6) == 60


def test_time_that_the_clock_has_seen_is_not_counted_twice() -> None:
    """Protects a hold from a suspend during which our clock ran on: that time is not subtracted again."""
    tracker = tracker_of(10)
    tracker.observe(held("h1", 7200), 0)
    tracker.observe(MachineResumed(seconds=3600), 3600)
    assert [(reason.kind, reason.until) for reason in tracker.reasons(3600)] == [("hold", 7200)]


class Machine(RuleBasedStateMachine):
    """Any order of connections, holds, work and time, compared with a model.

    The model keeps no idle state: it has a list of when each reason to stay up ends, and searches it each time.
    """

    @initialize(
        timeout=st.one_of(st.none(), st.floats(0.1, 200), st.integers(1, 120)),
        boot=st.one_of(st.none(), st.floats(0.1, 200)),
        lost=st.floats(0, 100),
        wake=st.one_of(st.none(), st.floats(0, 20)),
        crash=st.booleans(),
    )
    def start(self, timeout: float | None, boot: float | None, lost: float, wake: float | None, crash: bool) -> None:
        """Boot, or begin after a server's crash."""
        self.timeout = timeout
        self.boot = boot
        self.lost = lost
        self.now = 1000.0
        self.wake_grace = wake
        self.policy = IdlePolicy(timeout, boot, lost, wake)
        self.tracker = Fed(self.policy, self.now)
        self.began = self.now
        self.strangers: set[str] = set()
        self.people: set[str] = set()
        self.quiet: set[str] = set()
        self.periods: dict[str, list[float]] = {}  # reason -> its end as far as it is known (inf: open)
        self.ended: list[float] = []  # when each reason ended
        self.waits: list[float] = []
        self.leashes: dict[str, float] = {}  # client on probation -> until when the machine waits for it
        self.caused: bool | None = None  # whether the first connection came early enough; None: none has come
        self.left = -math.inf  # when the last connection without a login went
        self.needed = False  # whether there was any reason so far
        self.story: list[str] = ["login"] if crash else []  # the events that decide whether somebody has logged in
        self.number = 0
        self.crash = self.now + lost if crash else 0.0
        if crash:
            self.tracker.observe(crashed(), self.now)

    def settle(self) -> None:
        """End the reasons whose time is over."""
        for name, (end,) in list(self.periods.items()):
            if end <= self.now:
                del self.periods[name]
                self.ended.append(end)

    def begin(self, name: str, seconds: float = math.inf) -> None:
        """Begin a reason."""
        self.settle()
        self.needed = True
        self.periods[name] = [self.now + seconds]

    def end(self, name: str) -> None:
        """End a reason now, if it still exists."""
        self.settle()
        if self.periods.pop(name, None) is not None:
            self.ended.append(self.now)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def wait_for_the_deadline(self) -> None:
        """Wait for exactly as long as the tracker says; the time must not be in the past."""
        answer = self.tracker.poll(self.now)
        if isinstance(answer, Stay) and answer.until is not None:
            assert answer.until >= self.now
            self.now = answer.until

    @rule()
    def connect(self) -> None:
        """A client connects, not logged in yet."""
        self.number += 1
        self.strangers.add(f"c{self.number}")
        if self.caused is None and self.now - 1000 <= WAKE_SECONDS:
            self.caused = self.now - 1000 <= CAUSE_SECONDS
        self.tracker.observe(opened(f"c{self.number}"), self.now)
        self.tracker.wake.spoke(f"c{self.number}")

    @precondition(lambda self: self.strangers)
    @rule(data=st.data())
    def log_in(self, data: st.DataObject) -> None:
        """One of these clients logs in."""
        conn = data.draw(st.sampled_from(sorted(self.strangers)))
        self.strangers.remove(conn)
        self.people.add(conn)
        self.story.append("login")
        self.waits = []  # All have the same key here, so any login is by the person who was lost.
        self.begin(conn)
        self.tracker.observe(authenticated(conn), self.now)

    @precondition(lambda self: self.strangers)
    @rule(data=st.data(), leash=st.floats(0, 60))
    def come_back(self, data: st.DataObject, leash: float) -> None:
        """One of these clients logs in on probation."""
        conn = data.draw(st.sampled_from(sorted(self.strangers)))
        self.strangers.remove(conn)
        self.people.add(conn)
        self.quiet.add(conn)
        self.leashes[conn] = self.now + leash
        self.tracker.observe(authenticated(conn, probation=leash), self.now)

    @precondition(lambda self: self.strangers | self.people)
    @rule(data=st.data(), goodbye=st.booleans())
    def leave(self, data: st.DataObject, goodbye: bool) -> None:
        """A connection closes."""
        conn = data.draw(st.sampled_from(sorted(self.strangers | self.people)))
        if conn in self.people - self.quiet and not goodbye and self.lost:
            self.waits = [self.now + self.lost]
        self.end(conn)
        self.leashes.pop(conn, None)
        if conn in self.strangers:
            self.left = self.now
        user = "amos" if conn in self.people else ""
        for group in (self.strangers, self.people, self.quiet):
            group.discard(conn)
        self.tracker.observe(closed(conn, user, goodbye=goodbye), self.now)

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def use_or_not(self, data: st.DataObject) -> None:
        """A client becomes quiet, or is used again."""
        conn = data.draw(st.sampled_from(sorted(self.people)))
        if conn in self.quiet:
            self.quiet.remove(conn)
            self.leashes.pop(conn, None)
            self.waits = []
            self.story.append("login")
            self.begin(conn)
            self.tracker.observe(used(conn), self.now)
        else:
            self.quiet.add(conn)
            self.end(conn)
            self.tracker.observe(quiet(conn), self.now)

    @rule(name=st.sampled_from(["h1", "h2"]), seconds=st.floats(1, 60))
    def hold(self, name: str, seconds: float) -> None:
        """A hold begins, or is extended or shortened."""
        self.begin(name, seconds)
        self.tracker.observe(held(name, seconds), self.now)

    @rule(name=st.sampled_from(["h1", "h2"]))
    def release(self, name: str) -> None:
        """A hold is released, if it exists."""
        self.end(name)
        self.tracker.observe(released(name), self.now)

    @rule()
    def stop(self) -> None:
        """A stop begins."""
        self.story.append("stop")
        self.tracker.observe(stopping(), self.now)

    @rule(result=st.sampled_from(get_args(Result)))
    def ask(self, result: Result) -> None:
        """The stop goes on, is called off or fails; in the last two cases it does not count."""
        if result != "done":
            self.story = [word for word in self.story if word != "stop"]
        self.tracker.observe(asked(result), self.now)

    @rule(seconds=st.sampled_from([-60.0, 0.0, 60.0]))
    def resume(self, seconds: float) -> None:
        """The machine resumes: of the time before the stop, only connected users count.

        Which connection has caused a resume is not modelled, so from then on the wait after it is left out.
        """
        self.wake_grace = None
        follow(self.tracker, msgspec.structs.replace(self.policy, wake_grace=None), self.now)
        if "stop" in self.story:
            *_, last = (place for place, word in enumerate(self.story) if word == "stop")
            self.story = self.story[last + 1 :] + ["login"] * len(self.people - self.leashes.keys())
        elif seconds > 0 and not self.people - self.leashes.keys():
            self.story = []
        self.settle()
        self.ended.append(self.now)
        self.tracker.observe(MachineResumed(seconds=seconds), self.now)

    @rule(seconds=st.floats(-60, 60))
    def fall_behind(self, seconds: float) -> None:
        """The wall clock jumps, so that reasons that end at a time of day end earlier, or later."""
        self.settle()
        self.periods = {name: [end - seconds] for name, (end,) in self.periods.items()}
        self.settle()
        self.ended.append(self.now)
        self.tracker.fall_behind(seconds, self.now)

    @rule(seconds=st.one_of(st.just(0.0), st.floats(1, 60)))
    def work(self, seconds: float) -> None:
        """Background work begins, or ends."""
        if seconds:
            self.begin("background", seconds)
        else:
            self.end("background")
        self.tracker.observe(BackgroundWork(seconds=seconds, what="make"), self.now)

    @invariant()
    def agrees(self) -> None:
        """The tracker stops exactly when no reason is left and the time is over, and it names every reason."""
        if not hasattr(self, "tracker"):
            return
        self.settle()
        answer = self.tracker.poll(self.now)
        while isinstance(answer, Tick | Warn):
            assert not self.periods
            if isinstance(answer, Tick):
                assert answer.idle % TICK_SECONDS == 0
            answer = self.tracker.poll(self.now)
        named = self.tracker.reasons(self.now)
        if self.timeout is None:
            assert answer == Stay(None)
            return
        if self.periods:
            assert isinstance(answer, Stay)
            assert len(named) == len(self.periods)
            ends = [end for (end,) in self.periods.values()]
            assert answer.until == (None if min(ends) == math.inf else min(ends))
            return
        since = max([self.began, *self.ended])
        grace = self.timeout if "login" in self.story or self.boot is None else self.boot
        idle_end = since + grace
        is_woken = self.caused and not self.strangers and not self.needed and "login" not in self.story
        if self.wake_grace is not None and is_woken:
            idle_end = min(idle_end, self.left + self.wake_grace)
        waits = (self.crash, *self.waits, *self.leashes.values())
        deadline = max([idle_end, *(end for end in waits if end > self.now)])
        assert all(reason.kind in {"lost", "boot", "probation"} for reason in named)
        left = self.tracker.stops_in(self.now)
        assert left == pytest.approx(max(0.0, deadline - self.now))
        if isinstance(answer, Stop):
            assert self.now >= deadline or math.isclose(self.now, deadline)
            assert answer.idle == pytest.approx(self.now - since)
        else:
            assert isinstance(answer, Stay)
            assert answer.until is not None
            # Rounding in sums of floats may make them meet the deadline slightly too early.
            assert self.now < deadline or math.isclose(self.now, deadline)
            assert answer.until <= deadline or math.isclose(answer.until, deadline)


TestMachine = Machine.TestCase


def follow(tracker: IdleTracker, policy: IdlePolicy, now: float, **kept: bool) -> None:
    """Give the tracker another policy; the rules named in `kept` as False change, too."""
    same = {"usage": True, "schedule": True, "background": True} | kept
    tracker.follow(policy, now=now, **same)


def test_other_rules_count_from_when_they_are_given() -> None:
    """Protects the bill: if the timeout changes while nobody is connected, the idle time so far counts."""
    tracker = tracker_of(None)
    follow(tracker, IdlePolicy(60), 100)
    assert drive(tracker, 100) == [Stop(100, "nobody has logged in for 100 s")]
    follow(tracker, IdlePolicy(200), 100)
    assert tracker.stops_in(100) == 100


def test_who_was_quiet_is_needed_again_under_other_rules_of_use() -> None:
    """Protects connected users: if the rule for unused connections changes, none counts as quiet any more."""
    tracker = tracker_of(60)
    tracker.observe(authenticated("c1"), 0)
    tracker.observe(quiet("c1"), 10)
    follow(tracker, IdlePolicy(60), 20)
    assert tracker.quiet
    follow(tracker, IdlePolicy(60), 20, usage=False)
    assert not tracker.quiet
    assert tracker.in_use


def test_hours_and_work_that_are_not_asked_for_any_more_hold_nothing() -> None:
    """Protects the bill: a schedule or a background rule that was removed does not keep the machine up."""
    tracker = tracker_of(60)
    tracker.observe(ScheduleEntered(seconds=9999, what="mon-fri"), 0)
    tracker.observe(BackgroundWork(seconds=9999, what="make"), 0)
    follow(tracker, IdlePolicy(60), 10)
    assert [reason.kind for reason in tracker.reasons(10)] == ["schedule", "background"]
    follow(tracker, IdlePolicy(60), 10, schedule=False)
    assert [reason.kind for reason in tracker.reasons(10)] == ["background"]
    follow(tracker, IdlePolicy(60), 10, background=False)
    assert tracker.stops_in(10) == 60


def test_the_policy_is_that_of_the_settings() -> None:
    """Protects the settings: each rule is the one that was configured, and "off" is no time."""
    idle = Idle(timeout=None, boot_grace=Duration(7), wake_grace=Duration(3), lost_client_grace=Duration(5))
    assert policy_of(idle) == IdlePolicy(None, 7.0, 5.0, 3.0)
    assert policy_of(Idle(timeout=Duration(9))) == IdlePolicy(9.0, None, 300.0, 2.0)
