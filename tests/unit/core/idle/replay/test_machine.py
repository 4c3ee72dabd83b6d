"""The simulated machine: what it does with connections and jobs while it sleeps, starts and stops."""

from typing import Literal

import pytest

from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.job import Job, Phase
from pyssh_gateway.core.idle.replay.machine import NO_SERVER, Connection, Hardware, Login, Machine
from pyssh_gateway.core.idle.replay.outcome import Awake
from pyssh_gateway.core.idle.replay.recorded import Recorded, Visit
from pyssh_gateway.core.idle.replay.server import Rules
from pyssh_gateway.core.idle.replay.spans import merged, total, within
from pyssh_gateway.core.idle.replay.traffic import Use
from pyssh_gateway.core.idle.tracker import IdlePolicy
from pyssh_gateway.events import Identity, TerminalQuiet, TerminalUsed

RULES = Rules(IdlePolicy(60.0, lost_grace=300.0, wake_grace=5.0))

PERSON = Login("github:example", "SHA256:x")

PEER = "198.51.100.7"


def visit(begin: float, end: float, *uses: tuple[float, float], goodbye: bool = True) -> Visit:
    """A connection in which keys were typed."""
    return Visit(PERSON, PEER, begin, end, tuple(Use(first, last, "typed") for first, last in uses), goodbye)


def test_spans_are_merged_cut_and_added_up() -> None:
    """Time that is covered twice counts once, and empty spans not at all."""
    spans = [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (4.0, 4.0)]
    assert merged(spans) == [(0.0, 3.0), (5.0, 6.0)]
    assert total(spans) == 4.0
    assert within(spans, 1.5, 5.5) == [(5.0, 5.5), (1.5, 2.0), (1.5, 3.0)]


def test_the_time_of_a_start_and_of_a_stop_is_paid_for() -> None:
    """The hours of a replay are those of the bill."""
    machine = Machine(Clock(), RULES, Hardware(start=3.0, stop=2.0))
    Recorded(machine, visit(100, 200))
    machine.clock.run(1000)
    machine.finish()
    assert machine.outcome.awake == [Awake(100, 262, PEER, 1)]
    assert machine.outcome.spans == [(100, 262)]
    assert machine.outcome.starts == 1
    assert machine.outcome.for_nobody == 0


def test_a_scanner_that_leaves_while_the_machine_starts_is_seen_to_have_gone() -> None:
    """A stranger costs a start, a stop and the wake grace, and the machine was awake for nobody."""
    machine = Machine(Clock(), RULES, Hardware(start=3.0, stop=2.0))
    stranger = machine.connect("203.0.113.9")
    machine.clock.after(1, stranger.close)
    machine.clock.run(1000)
    assert machine.outcome.seconds == machine.outcome.for_nobody == 10


def test_a_connection_that_comes_during_a_stop_starts_the_machine_again() -> None:
    """Nobody is lost between awake and asleep, also if the next start ends while others wait."""
    rules = Rules(IdlePolicy(0.0))
    machine = Machine(Clock(), rules, Hardware(start=3.0, stop=2.0))
    machine.start()
    machine.clock.run(4)
    machine.connect("203.0.113.9")
    machine.connect("203.0.113.10")
    machine.clock.run(12)
    assert [stop.at for stop in machine.outcome.stops] == [3.0, 8.0]
    assert machine.state == "starting"


@pytest.mark.parametrize(("action", "killed"), [("exit", 1), ("suspend", 0)])
def test_a_stop_by_exit_kills_a_build_and_a_suspend_lets_it_wait(
    action: Literal["exit", "suspend"], killed: int
) -> None:
    """Only wanted work that can't go on counts as a loss."""
    machine = Machine(Clock(), RULES, Hardware(action, start=0.0, stop=0.0))
    build = Job("build", [Phase(100), Phase(200, cpu=0.5)])
    Recorded(machine, visit(0, 10))
    Recorded(machine, visit(200, 600))
    machine.clock.at(5, lambda: machine.run_job(build))
    machine.clock.at(5, lambda: machine.run_job(Job("left behind", [Phase(1e6, cpu=0.01)], wanted=False)))
    machine.clock.at(150, lambda: machine.run_job(Job("never", [Phase(1)])))
    machine.clock.run(3000)
    machine.finish()
    assert machine.outcome.killed == killed
    assert build.over == (action == "suspend")
    assert merged(build.ran) == ([(5, 70), (200, 435)] if action == "suspend" else [(5, 70)])


def test_a_vanished_client_is_missed_after_the_keepalives() -> None:
    """A closed laptop keeps the machine up until the server notices it, and then for the lost client's grace."""
    machine = Machine(Clock(), RULES, Hardware(start=0.0, keepalive=300.0))
    connection = machine.connect(PEER, PERSON)
    machine.clock.run(100)
    connection.vanish()
    machine.clock.run(1000)
    assert [stop.at for stop in machine.outcome.stops] == [700.0]


def test_a_hold_keeps_it_up_and_a_release_ends_that() -> None:
    """What a person does beside connections has its effect, and none on a machine that sleeps."""
    machine = Machine(Clock(), RULES, Hardware(start=0.0, stop=0.0))
    machine.hold(100)
    machine.start()
    machine.clock.run(1)
    hold = machine.hold(1000)
    machine.clock.run(500)
    machine.release(hold)
    machine.clock.run(559)
    assert machine.state == "awake"
    machine.tell(TerminalUsed(what="mosh"))
    machine.clock.run(700)
    machine.tell(TerminalQuiet(what="mosh"))
    machine.clock.run(760)
    assert [stop.at for stop in machine.outcome.stops] == [760.0]
    assert not machine.outcome.under_hands


def test_a_person_who_comes_back_to_a_machine_that_has_stopped_is_counted() -> None:
    """Both counts: under an open connection, and soon after the last use."""
    rules = Rules(IdlePolicy(10.0), client_idle=60.0)
    machine = Machine(Clock(), rules, Hardware(start=0.0, stop=0.0))
    Recorded(machine, visit(0, 5000, (0, 100), (250, 260), (2000, 2100)))
    machine.clock.run(5000)
    found = machine.outcome.found
    assert [(one.at, one.left, one.was_open) for one in found] == [(250, 100, True), (2000, 260, True)]
    assert machine.outcome.came_back_soon == machine.outcome.left_shortly == 1
    assert machine.outcome.under_hands == 0


def test_a_client_that_is_used_when_the_machine_stops_connects_again_at_once() -> None:
    """A stop under the hands is counted, and the use goes on."""
    machine = Machine(Clock(), RULES, Hardware(start=0.0, stop=1.0))
    Recorded(machine, visit(0, 500, (0, 10), (20, 400)))
    Recorded(machine, visit(30, 35))
    machine.clock.at(100, lambda: machine.stop("told to"))
    machine.clock.at(101.5, lambda: machine.stop("told to"))
    machine.clock.run(150)
    assert machine.outcome.under_hands == 2
    assert machine.traffic
    machine.clock.run(600)
    assert machine.outcome.starts == 3


def test_a_recorded_client_that_is_refused_tries_again_only_if_somebody_is_there() -> None:
    """A visit whose use goes on is not lost by a refusal."""
    rules = Rules(IdlePolicy(10.0), client_idle=60.0)
    machine = Machine(Clock(), rules, Hardware("suspend", start=0.0, stop=0.0))
    Recorded(machine, visit(0, 1000, (0, 10)))
    Recorded(machine, visit(100, 500, (100, 300)))
    machine.clock.run(104)
    assert not machine.traffic
    machine.clock.run(106)
    assert machine.traffic
    machine.clock.run(299)
    assert machine.state == "awake"


def test_a_recorded_client_that_nobody_uses_is_refused_in_vain() -> None:
    """A visit that was an editor's own return does not count as a person's."""
    rules = Rules(IdlePolicy(10.0), client_idle=60.0)
    machine = Machine(Clock(), rules, Hardware("suspend", start=0.0, stop=0.0))
    Recorded(machine, visit(0, 1000, (0, 10)))
    Recorded(machine, visit(100, 500))
    machine.connect("203.0.113.9")
    machine.clock.run(600)
    assert machine.outcome.starts == 2


class Leaves:
    """A client that leaves when it hears that the machine stops."""

    def logged_in(self, connection: Connection) -> None:
        """Stay."""

    def refused(self, connection: Connection) -> None:
        """Leave."""

    def closed(self, connection: Connection) -> None:
        """Leave: nothing is left to close."""
        connection.close()


def test_a_client_without_an_agent_is_served_and_refused_like_any_other() -> None:
    """Nobody need listen."""
    rules = Rules(IdlePolicy(10.0), client_idle=60.0)
    machine = Machine(Clock(), rules, Hardware("suspend", start=0.0, stop=0.0))
    machine.connect(PEER, PERSON)
    machine.clock.run(100)
    machine.connect(PEER, PERSON)
    machine.clock.run(101)
    assert not machine.traffic
    machine.clock.run(200)
    assert machine.outcome.starts == 2


def test_nobody_is_received_while_there_is_no_server() -> None:
    """The place of the server is empty while the machine is off."""
    assert NO_SERVER.receive("dev", Identity("github:example", None, "SHA256:x")) is None


def test_a_refused_client_may_leave_before_it_is_told() -> None:
    """A tunnel whose client ends in the moments that it has is closed once."""
    rules = Rules(IdlePolicy(10.0, wake_grace=5.0), client_idle=60.0)
    machine = Machine(Clock(), rules, Hardware("suspend", start=0.0, stop=0.0))
    login = Login("github:example", "SHA256:x", wants="nothing")
    machine.connect(PEER, login, Leaves())
    machine.clock.run(100)
    assert machine.state == "asleep"
    again = machine.connect(PEER, login, Leaves())
    machine.clock.run(101)
    again.close()
    machine.clock.run(200)
    assert [stop.at for stop in machine.outcome.stops] == [85.0, 101.0]
