"""core.idle.wake: since when the machine is awake and who woke it, for each row of the module's table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.wake import REMEMBERED, SILENT_SECONDS, WAKE_SECONDS, Kept, Wake
from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    GatewayCrashed,
    Identity,
    MachineResumed,
    ServerStopping,
    StopStep,
)

NOW = 1_795_000_000.0
HOUR = 3600.0
ROUNDING = 0.001
"""Seconds by which sums of wall clock times may differ, as these are floats of the order of 2**31."""

FIRST, SECOND = "203.0.113.9", "198.51.100.7"
STOPPING = ServerStopping(reason="idle")
ASKED = StopStep(step="suspend", outcome="ok", result="done", seconds=0.1)
CALLED_OFF = StopStep(step="suspend", outcome="whatever it says", result="called_off", seconds=0)


class Machine:
    """A machine with its server and two clocks, of which the wall clock runs on while it is suspended."""

    def __init__(self) -> None:
        self.steady, self.wall = 100.0, NOW
        self.wake = Wake(NOW, self.clocks)

    @property
    def clocks(self) -> Clocks:
        """Both clocks now."""
        return Clocks(self.steady, self.wall)

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.steady += seconds
        self.wall += seconds

    def sleeps(self, seconds: float) -> MachineResumed:
        """Suspend the machine for a time; returns the event that reports it."""
        self.wall += seconds
        return MachineResumed(seconds=seconds)

    def crashes(self, started: float = NOW) -> None:
        """Replace the server process; another `started` means a new start, not a crash."""
        self.wake = Wake(started, self.clocks, self.wake.kept)

    def happens(self, *events: AnyEvent) -> None:
        """Observe events now."""
        for event in events:
            self.wake.observe(event, self.clocks)

    @property
    def said(self) -> tuple[float, str, bool]:
        """Seconds awake by the wall clock, who woke the machine, and whether somebody has logged in."""
        assert self.wake.seconds(self.steady) == pytest.approx(self.wall - self.wake.since, abs=ROUNDING)
        return self.wall - self.wake.since, self.wake.woken_by, self.wake.logged_in


@pytest.fixture
def machine() -> Machine:
    """A machine that has just been started."""
    return Machine()


def came(peer: str = FIRST) -> AnyEvent:
    """A TCP connection opens."""
    return ConnectionOpened(conn=peer, peer=peer, peer_port=4000)


def logged_in(peer: str = FIRST, probation: float | None = None) -> AnyEvent:
    """Somebody logs in on the connection; with `probation`, a client that may have come back by itself."""
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
        probation=probation,
    )


def went(peer: str = FIRST) -> AnyEvent:
    """The connection closes."""
    return ConnectionClosed(conn=peer, peer=peer, user="amos", reason="", seconds=0, bytes_in=0, bytes_out=0)


def stranger_went(peer: str = FIRST) -> AnyEvent:
    """The connection closes without a login."""
    return ConnectionClosed(conn=peer, peer=peer, user="", reason="", seconds=0, bytes_in=0, bytes_out=0)


# -- started -------------------------------------------------------------------------------------------------------


def test_the_first_to_come_has_woken_it(machine: Machine) -> None:
    """Protects `why` after a start: the first connection is named, with or without a login, and no later one."""
    assert machine.said == (0, "", False)
    machine.passes(WAKE_SECONDS)
    machine.happens(came(FIRST), came(SECOND), ClientQuiet(conn=FIRST, user="amos", seconds=1))
    assert machine.said == (WAKE_SECONDS, FIRST, False)
    machine.happens(logged_in(SECOND))
    assert machine.said == (WAKE_SECONDS, FIRST, True)
    machine.happens(went(SECOND))
    assert machine.said == (WAKE_SECONDS, FIRST, True)


def test_somebody_who_left_during_the_start_has_woken_it(machine: Machine) -> None:
    """Protects the bill from scanners that do not wait for the start: nobody is waited for after them."""
    machine.happens(ConnectionRefused(peer=FIRST, peer_port=4000, reason="it has gone before its turn"))
    assert machine.said == (0, FIRST, False)
    assert machine.wake.login_due(0) == machine.steady
    machine.happens(came(SECOND))
    assert machine.wake.login_due(0) == machine.steady + SILENT_SECONDS
    machine.wake.spoke(SECOND)
    assert machine.wake.login_due(0) is None
    machine.passes(1)
    machine.happens(went(SECOND))
    assert (machine.said, machine.wake.login_due(0)) == ((1, FIRST, False), machine.steady)


def test_somebody_who_comes_late_has_not_woken_it(machine: Machine) -> None:
    """Protects a visitor from being named for a machine that has been up for hours, which something else started."""
    machine.passes(WAKE_SECONDS + 1)
    machine.happens(came(), logged_in())
    assert machine.said == (WAKE_SECONDS + 1, "", True)


# -- crashed -------------------------------------------------------------------------------------------------------


def test_a_crash_changes_nothing(machine: Machine) -> None:
    """Protects the figures from a crash of ours: the next server process continues with the stored values."""
    machine.happens(came(), logged_in())
    machine.passes(HOUR)
    machine.crashes()
    machine.happens(GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=1), came(SECOND))
    assert machine.said == (HOUR, FIRST, True)


def test_a_crash_after_a_resume_keeps_the_resume(machine: Machine) -> None:
    """Protects the history: after a resume and a crash, the time counts from the resume, not from the start."""
    machine.passes(HOUR)
    machine.happens(machine.sleeps(2 * HOUR), came())
    machine.passes(60)
    machine.crashes()
    assert machine.said == (60, FIRST, False)


def test_what_another_start_has_kept_is_over(machine: Machine) -> None:
    """Protects a start from the values that an earlier start has stored."""
    machine.happens(came())
    machine.passes(HOUR)
    machine.crashes(started=machine.wall)
    assert machine.said == (0, "", False)


def test_a_server_that_comes_late_counts_from_the_start(machine: Machine) -> None:
    """After a crash before anything was stored, the time counts from the start, and a later client is not named."""
    machine.passes(HOUR)
    machine.wake = Wake(NOW, machine.clocks)
    machine.happens(came())
    assert machine.said == (HOUR, "", False)


def test_a_clock_before_the_start_is_no_time_awake() -> None:
    """Protects a start whose clock was set back later: the time awake is never negative."""
    wake = Wake(NOW, Clocks(100.0, NOW - HOUR), Kept(NOW, NOW, FIRST))
    assert wake.seconds(100.0) == 0
    assert wake.seconds(99.0) == 0


# -- suspended by a stop of ours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [HOUR, 0.0])
def test_the_first_since_the_stop_has_woken_it(machine: Machine, seconds: float) -> None:
    """Protects a client that came before the resume was noticed, also if a snapshot's clocks hide the resume."""
    machine.happens(came(SECOND), logged_in(SECOND), went(SECOND))
    machine.passes(HOUR)
    machine.happens(STOPPING, ASKED)
    told = machine.sleeps(seconds)
    machine.happens(came(FIRST), came(SECOND))
    assert machine.wake.woken_by == SECOND  # the resume has not been noticed yet
    machine.happens(told)
    assert machine.said == (0, FIRST, False)


def test_somebody_may_come_after_it_was_noticed(machine: Machine) -> None:
    """Protects a client whose connection is accepted after the resume was noticed: it is named."""
    machine.happens(STOPPING, ASKED, machine.sleeps(HOUR))
    assert machine.said == (0, "", False)
    machine.happens(came())
    assert machine.said == (0, FIRST, False)


def test_a_machine_that_wakes_by_itself_is_woken_by_nobody(machine: Machine) -> None:
    """Protects `why`: if the platform woke the machine, no client that came later is named."""
    machine.happens(came(), STOPPING, ASKED, machine.sleeps(HOUR))
    machine.passes(WAKE_SECONDS + 1)
    machine.happens(came(SECOND))
    assert machine.said == (WAKE_SECONDS + 1, "", False)


def test_a_login_before_the_resume_was_noticed_counts(machine: Machine) -> None:
    """Protects a person who logged in and out before the resume was noticed: the login counts."""
    machine.happens(STOPPING, ASKED)
    told = machine.sleeps(HOUR)
    machine.happens(came(), logged_in(), went(), told)
    assert machine.said == (0, FIRST, True)


def test_a_stop_that_was_called_off_changes_nothing(machine: Machine) -> None:
    """Protects the figure: a stop that was called off changes neither the time awake nor who woke the machine."""
    machine.happens(came(), logged_in())
    machine.passes(HOUR)
    machine.happens(STOPPING, CALLED_OFF, came(SECOND))
    assert machine.said == (HOUR, FIRST, True)
    machine.happens(StopStep(step="hook 1 (true)", outcome="ok", result="done", seconds=0))
    assert machine.said == (HOUR, FIRST, True)


def test_a_client_on_probation_before_the_resume_was_noticed_has_not_logged_in(machine: Machine) -> None:
    """Protects the bill: an editor that is back before the resume was noticed counts as no login, until it is used."""
    machine.happens(STOPPING, ASKED)
    told = machine.sleeps(HOUR)
    machine.happens(came(), logged_in(probation=60.0), told)
    assert machine.said == (0, FIRST, False)
    machine.happens(ClientUsed(conn=FIRST, user="amos"))
    assert machine.said == (0, FIRST, True)
    machine.happens(machine.sleeps(2 * HOUR))
    assert machine.said == (0, "", True)


def test_a_scanner_before_the_resume_was_noticed_is_waited_for(machine: Machine) -> None:
    """Protects a person whose first connection woke the machine and failed: the wait begins when it has gone."""
    machine.passes(HOUR)
    machine.happens(STOPPING, ASKED)
    told = machine.sleeps(HOUR)
    before = machine.wake.woke
    machine.happens(came(), stranger_went(), told)
    assert machine.wake.woke > before
    assert machine.wake.login_due(0) == machine.steady


# -- suspended by somebody else ------------------------------------------------------------------------------------


def test_whoever_is_on_over_a_resume_has_not_woken_it(machine: Machine) -> None:
    """Protects `why`: users who were connected before the suspend did not wake it, yet there is no boot grace."""
    machine.happens(came(), logged_in())
    machine.passes(HOUR)
    machine.happens(machine.sleeps(2 * HOUR))
    assert machine.said == (0, "", True)
    machine.happens(went())
    machine.passes(HOUR)
    machine.happens(machine.sleeps(2 * HOUR))
    assert machine.said == (0, "", False)


def test_whoever_came_before_it_was_noticed_has_woken_it(machine: Machine) -> None:
    """Protects the client that woke the machine just before the resume was noticed; earlier clients are not named."""
    machine.happens(came("192.0.2.1"))
    machine.passes(HOUR)
    told = machine.sleeps(2 * HOUR)
    machine.happens(came(FIRST))
    machine.passes(0.1)
    machine.happens(came(SECOND), told)
    assert machine.said == (0, FIRST, False)


def test_of_connections_the_latest_are_remembered(machine: Machine) -> None:
    """Protects memory on a server that runs for months: only the latest connections are remembered."""
    told = machine.sleeps(HOUR)
    machine.happens(*(came(f"192.0.2.{number}") for number in range(REMEMBERED + 1)), told)
    assert machine.said == (0, "192.0.2.1", False)


def test_a_clock_that_is_set_back_moves_the_start_with_it(machine: Machine) -> None:
    """Protects the figure: when the clock is set back, the time awake and who woke the machine stay the same."""
    machine.happens(came(), logged_in())
    machine.passes(2 * HOUR)
    machine.happens(machine.sleeps(-HOUR))
    assert machine.said == (2 * HOUR, FIRST, True)
    assert machine.wake.kept == Kept(NOW, NOW - HOUR, FIRST)


Steps = st.one_of(
    st.floats(0, 200).map(lambda seconds: ("passes", seconds)),
    st.floats(-600, 600).map(lambda seconds: ("sleeps", seconds)),
    st.sampled_from([came(FIRST), came(SECOND), logged_in(), went(), STOPPING, ASKED, CALLED_OFF]),
    st.just("crash"),
)


@given(steps=st.lists(Steps, max_size=30))
def test_both_clocks_agree_whatever_happens(steps: list[AnyEvent | str | tuple[str, float]]) -> None:
    """Protects the figures: both clocks give the same time awake, and never a negative one."""
    machine = Machine()
    for step in steps:
        match step:
            case ("passes", float(seconds)):
                machine.passes(seconds)
            case ("sleeps", float(seconds)):
                machine.happens(machine.sleeps(seconds))
            case "crash":
                machine.crashes()
            case ConnectionOpened() | ConnectionAuthenticated() | ConnectionClosed() | ServerStopping() | StopStep():
                machine.happens(step)
        seconds, woken_by, _ = machine.said
        assert seconds >= -ROUNDING
        assert woken_by in {"", FIRST, SECOND}


def test_a_server_that_was_started_by_hand_is_caused_by_nobody_else() -> None:
    """Protects a person who tries the server out: it waits for them, though something else connects first."""
    wake = Wake(NOW, Clocks(100.0, NOW), by_hand=True)
    wake.observe(came(), Clocks(101.0, NOW + 1))
    wake.observe(stranger_went(), Clocks(101.0, NOW + 1))
    assert (wake.woken_by, wake.login_due(2)) == (FIRST, None)
    for event in (STOPPING, ASKED, came(SECOND), MachineResumed(seconds=HOUR)):
        wake.observe(event, Clocks(102.0, NOW + HOUR))
    wake.observe(went(SECOND), Clocks(103.0, NOW + HOUR))
    assert wake.login_due(2) == 105.0
