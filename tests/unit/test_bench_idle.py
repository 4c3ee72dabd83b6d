"""The simulation of idle rules: its traces are as described, and a reduced run stays within bounds."""

from itertools import pairwise
from random import Random

import pytest

from bench.idle import __main__ as command
from bench.idle import oracle, table, traces
from bench.idle.agents import Editor, Robot, Terminal, Tunnel
from bench.idle.peers import PEERS, Peer
from bench.idle.runs import NIGHTLY, Figures, Run, mean, night, scanned, simulate
from bench.idle.settings import Settings, parse
from pyssh_gateway.config.source import ConfigError
from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.machine import Hardware, Machine
from pyssh_gateway.core.idle.replay.server import Rules
from pyssh_gateway.core.idle.replay.spans import total
from pyssh_gateway.core.idle.tracker import IdlePolicy

OURS = parse("")
"""Our defaults."""

SEEDS = range(2)


def figures(trace: str, action: str, manner: str = "", subject: Settings | Peer = OURS) -> Figures:
    """The means of a few simulated months with a scanner every half hour."""
    runs = [
        Run(
            subject,
            trace,
            "exit" if action == "exit" else "suspend",
            "never" if manner == "never" else "gives up",
            1800.0,
            seed,
        )
        for seed in SEEDS
    ]
    return mean([simulate(run) for run in runs])


def test_an_editor_is_used_on_weekdays_and_left_open_on_some_evenings() -> None:
    """Protects the figures: a window is used as often, and left open as often, as is said."""
    windows = [window for seed in range(20) for window in traces.editor(Random(seed))]
    assert len(windows) == 20 * 20
    used = total(windows[0].uses)
    assert used == pytest.approx(0.7 * (185 + 275) * 60, rel=0.25)
    overnight = [window for window in windows if window.closed - window.uses[-1][1] > 3600]
    asleep = [window for window in overnight if window.sleeps]
    assert len(overnight) / len(windows) == pytest.approx(0.4, abs=0.08)
    assert len(asleep) / len(overnight) == pytest.approx(0.4, abs=0.1)
    assert all(before.closed < after.opened for before, after in pairwise(windows[:20]))


def test_terminals_robots_and_scanners_come_as_often_as_is_said() -> None:
    """Protects the figures: builds, forgotten terminals, visits of robots and scanners are as frequent as described."""
    visits = [visit for seed in range(20) for visit in traces.terminal(Random(seed))]
    assert sum(visit.build > 0 for visit in visits) / len(visits) == pytest.approx(0.35, abs=0.05)
    assert sum(visit.closed > visit.end for visit in visits) / len(visits) == pytest.approx(0.1, abs=0.03)
    assert sum(visit.end - visit.begin for visit in visits) / len(visits) == pytest.approx(1500, rel=0.1)
    assert len(traces.robot(Random(1))) == pytest.approx(28 * 9, rel=0.2)
    assert len(traces.scanner(Random(1), 1800)) == pytest.approx(traces.END / 1800, rel=0.1)
    assert traces.scanner(Random(1), 0) == []


def test_the_oracle_knows_when_work_and_use_overlap() -> None:
    """The oracle's hours count once, and its tail is shorter where a stop suspends."""
    assert oracle.seconds([(0, 100), (200, 300)], [(800, 1000)], "exit") == 1000
    assert oracle.seconds([(0, 100), (200, 300)], [(800, 1000)], "suspend") == 800


@pytest.mark.parametrize(
    ("trace", "action", "manner", "most"),
    [
        ("editor", "exit", "gives up", 1.09),
        ("editor", "suspend", "never", 1.21),
        ("laptop", "suspend", "gives up", 1.17),
        ("wifi", "exit", "never", 1.11),
        ("terminal", "exit", "", 0.97),
        ("terminal", "suspend", "", 1.03),
        ("robot", "exit", "", 0.35),
        ("robot", "suspend", "", 0.6),
    ],
)
def test_a_month_costs_little_more_than_is_needed(trace: str, action: str, manner: str, most: float) -> None:
    """Protects the bill, the builds and the people: no change of a rule may cost more than this unnoticed."""
    found = figures(trace, action, manner)
    assert 0.2 < found.ratio < most
    assert found.killed == 0
    assert found.hands <= 1
    assert found.locked <= 0.5
    assert found.soon <= 6
    assert found.nobody < 4 * 0.6 * 3600
    assert found.returns < 4 * 1.0 * 3600


@pytest.mark.parametrize("action", ["exit", "suspend"])
@pytest.mark.parametrize("client", ["gives up", "never"])
def test_a_window_that_is_left_open_costs_minutes_at_night(action: str, client: str) -> None:
    """An editor that connects again for three hours wakes the machine for some seconds each time at most."""
    found = night(OURS, "exit" if action == "exit" else "suspend", client)
    assert 20 <= found.first <= 24
    assert found.after <= 13


def test_scanners_cost_seconds() -> None:
    """A machine that nobody uses is awake for some seconds for each scanner."""
    assert scanned(OURS, "suspend", 86400.0) < 29 * 60
    assert scanned(OURS, "exit", 1800.0) < 0.6 * 3600 * 4


def test_the_peers_do_what_they_document() -> None:
    """A connection counter waits for a window that is open, and Codespaces for nothing but use."""
    counter, fly, codespaces, coder = (figures("editor", "exit", subject=peer) for peer in PEERS)
    assert counter.ratio > 1.4
    assert fly.ratio > counter.ratio
    assert codespaces.ratio < 1.3
    assert coder.ratio > 1.4
    assert codespaces.nobody == coder.nobody == 0
    killed = [figures("terminal", "exit", subject=peer).killed for peer in PEERS]
    assert min(killed) > 5
    assert night(PEERS[0], "exit", NIGHTLY[2]).first > 800


def test_settings_are_those_of_the_configuration() -> None:
    """A line of settings has the configuration's keys and forms, and wrong ones are errors."""
    settings = parse("timeout=2m client_idle=off background=cpu background_cpu=20 action=suspend")
    assert settings.name == "timeout=2m client_idle=off background=cpu background_cpu=20"
    assert settings.rules.policy.timeout == 120
    assert settings.rules.client_idle is None
    assert settings.rules.background_cpu == 20
    assert settings.actions == ("suspend",)
    assert parse("").actions == ("exit", "suspend")
    for wrong in ("timeout", "action=reboot"):
        with pytest.raises(ValueError, match=wrong.partition("=")[0]):
            parse(wrong)
    with pytest.raises(ConfigError):
        parse("timeout=soon")


def test_wrong_settings_end_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m bench.idle` says what is wrong with a line before it simulates anything."""
    assert command.main(["timeout=soon"]) == 2
    assert "timeout" in capsys.readouterr().err


def test_tables_are_aligned() -> None:
    """Texts are left-aligned and figures right-aligned."""
    assert table.text(("a", "n"), [("long", "1.00"), ("x", "10.00")], left=1) == "a         n\nlong   1.00\nx     10.00"


RULES = Rules(IdlePolicy(60.0, wake_grace=5.0), client_idle=300.0)


def editor(manner: str, action: str = "suspend") -> Machine:
    """A machine with an editor that is used twice, at 100 and at 40000 s, and left open in between."""
    machine = Machine(Clock(), RULES, Hardware("exit" if action == "exit" else "suspend", start=1.0, stop=0.0))
    window = traces.Window(100, 50000, ((100, 200), (40000, 40600)))
    Editor(machine, [window], "never" if manner == "never" else "gives up")
    return machine


def test_an_editor_that_gives_up_at_a_refusal_is_loaded_anew_by_its_person() -> None:
    """The first manner: one refusal ends the attempts, and the person connects when they come back."""
    machine = editor("gives up")
    machine.clock.run(39999)
    assert machine.outcome.starts == 2
    machine.clock.run(41500)
    machine.finish()
    assert machine.outcome.locked_out == 0
    assert machine.outcome.starts == 4  # and a refusal of the attempt after the next stop
    assert [one.was_open for one in machine.outcome.found] == [True]


def test_an_editor_that_never_gives_up_ends_after_three_hours() -> None:
    """The second manner: attempts by VS Code's schedule until they are used up, and no longer."""
    machine = editor("never")
    machine.clock.run(39999)
    assert 340 < machine.outcome.starts < 400
    last = machine.outcome.awake[-1].end
    assert 3 * 3600 < last < 4 * 3600
    machine.clock.run(40300)
    assert machine.state == "awake"


def test_after_an_exit_an_editor_asks_whether_to_load_its_window_anew() -> None:
    """By exit, an attempt that is let in is the last: the editor's server is gone."""
    machine = editor("never", "exit")
    machine.clock.run(39999)
    assert machine.outcome.starts == 3  # the first, a refusal, and the attempt that is let in


def test_a_person_in_front_of_a_loop_is_let_in() -> None:
    """A person whose own window loops all night is refused once at most, and works on in the window."""
    machine = Machine(Clock(), RULES, Hardware("suspend", start=1.0, stop=0.0))
    Editor(machine, [traces.Window(100, 9000, ((100, 200), (3600, 4500)))], "never")
    machine.clock.run(3660)
    assert machine.outcome.locked_out == 0
    assert machine.state == "awake"
    machine.clock.run(4500)
    assert len(machine.traffic) == 1


def test_terminals_robots_and_tunnels_come_back_if_they_are_refused_or_lost() -> None:
    """What a client does that loses its connection: a person comes back, a tunnel tries again, a robot does not."""
    machine = Machine(Clock(), RULES, Hardware("suspend", start=1.0, stop=0.0))
    Terminal(machine, traces.Visit(10, 100, 100, 0))
    Robot(machine, (10, 500))
    Tunnel(machine, 10)
    machine.clock.run(50)
    machine.stop("told to")
    machine.clock.run(60)
    assert len(machine.traffic) == 2
    assert machine.outcome.starts == 1
