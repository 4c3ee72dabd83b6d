"""Simulations: which clients there are in each, and what came of it in figures."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean
from typing import NamedTuple

from bench.idle import oracle, traces
from bench.idle.agents import Editor, Manner, Robot, Terminal, Tunnel, scan
from bench.idle.peers import Peer
from bench.idle.settings import Action, Settings
from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.machine import Hardware, Machine
from pyssh_gateway.core.idle.replay.outcome import Outcome
from pyssh_gateway.core.idle.replay.server import Rules
from pyssh_gateway.core.idle.replay.spans import Span, merged, total, within
from pyssh_gateway.core.idle.tracker import IdlePolicy

WEEKS = traces.DAYS / 7

START_SECONDS = {"exit": 2.0, "suspend": 0.5}
"""How long a start and a resume take: a small machine at a provider of such machines."""


class Wanted(NamedTuple):
    """What people and programs want: when they use the machine, and what work of theirs runs."""

    uses: list[Span]
    work: list[Span]


Populate = Callable[[Machine, Random, Manner, bool], Wanted]
"""Puts the clients on a machine; `bool` says whether an editor connects again by itself."""


def _editor(drops: float = 0.0, *, sleeping: bool = False) -> Populate:
    def populate(machine: Machine, random: Random, manner: Manner, returns: bool) -> Wanted:
        windows = traces.editor(random, drops_a_day=drops, sleeping=sleeping)
        Editor(machine, windows, manner, returns=returns)
        return Wanted([use for window in windows for use in window.uses], [])

    return populate


def _terminal(machine: Machine, random: Random, _manner: Manner, _returns: bool) -> Wanted:
    visits = traces.terminal(random)
    for visit in visits:
        Terminal(machine, visit)
    work = [(visit.end, visit.end + visit.build) for visit in visits]
    return Wanted([(visit.begin, visit.end) for visit in visits], work)


def _robot(machine: Machine, random: Random, _manner: Manner, _returns: bool) -> Wanted:
    spans = traces.robot(random)
    for span in spans:
        Robot(machine, span)
    return Wanted(spans, [])


TRACES: dict[str, Populate] = {
    "editor": _editor(),
    "laptop": _editor(sleeping=True),
    "wifi": _editor(drops=12),
    "terminal": _terminal,
    "robot": _robot,
}
"""Editors on a computer that stays awake, on a laptop that sleeps, and with a network that changes 12 times a day."""


class Run(NamedTuple):
    """One simulation of four weeks: whose rules, which clients, and which seed. `every`: seconds between scanners."""

    subject: Settings | Peer
    trace: str
    action: Action
    manner: Manner
    every: float
    seed: int


class Figures(NamedTuple):
    """What came of a simulation, or the means of several; see docs/idle-simulation.md. Times are in seconds."""

    ratio: float
    starts: float
    killed: float
    soon: float
    hands: float
    locked: float
    nobody: float
    returns: float


def simulate(run: Run) -> Figures:
    """Run one simulation."""
    random = Random(f"{run.trace} {run.seed}")
    machine = new_machine(run.subject, run.action)
    returns = isinstance(run.subject, Settings) or run.subject.returns
    wanted = TRACES[run.trace](machine, random, run.manner, returns)
    if isinstance(run.subject, Settings) or run.subject.strangers:
        scan(machine, traces.scanner(Random(f"scanner {run.seed}"), run.every))
    machine.clock.run(traces.END)
    machine.finish()
    outcome = machine.outcome
    return Figures(
        ratio=outcome.seconds / oracle.seconds(wanted.uses, wanted.work, run.action),
        starts=outcome.starts,
        killed=outcome.killed,
        soon=outcome.came_back_soon,
        hands=outcome.under_hands,
        locked=outcome.locked_out,
        nobody=outcome.for_nobody,
        returns=_returns(outcome, wanted),
    )


def new_machine(subject: Settings | Peer, action: Action) -> Machine:
    """A machine with these rules, asleep."""
    hardware = Hardware(action, start=START_SECONDS[action])
    if isinstance(subject, Peer):
        return Machine(Clock(), Rules(IdlePolicy(None)), hardware, subject.new_server)
    return Machine(Clock(), subject.rules, hardware)


def _returns(outcome: Outcome, wanted: Wanted) -> float:
    """For how long the machine was awake only for clients that had come back by themselves."""
    needed = merged(wanted.uses + wanted.work)
    ends = [end for _, end in needed]
    unused = 0.0
    for awake in outcome.awake:
        following = bisect_right(ends, awake.begin)
        is_needed = following < len(needed) and needed[following][0] < awake.end
        if awake.logins and not is_needed:
            unused += awake.end - awake.begin
    return unused


def mean(figures: Sequence[Figures]) -> Figures:
    """The mean of each figure."""
    return Figures(*map(fmean, zip(*figures, strict=True)))


class Night(NamedTuple):
    """A window left open from the evening until morning. In minutes.

    `first`: from the last use to the first stop; `after`: how long the machine was awake from then on until 9:00.
    """

    first: float
    after: float


NIGHTLY = ("gives up", "never", "ssh -N loop")
"""What is left on at night: an editor in both manners, or a tunnel."""


def night(subject: Settings | Peer, action: Action, client: str) -> Night:
    """What it costs if an editor that has been used all day, or a tunnel beside it, stays on; `client`: `NIGHTLY`."""
    machine = new_machine(subject, action)
    windows = traces.night()
    manner: Manner = "never" if client == "never" else "gives up"
    if client == "ssh -N loop":
        Tunnel(machine, windows[0].opened)
        windows = [windows[0]._replace(closed=windows[0].uses[-1][1])]
    Editor(machine, windows, manner, returns=not isinstance(subject, Peer) or subject.returns)
    machine.clock.run(traces.DAY + traces.MORNING)
    machine.finish()
    left = windows[0].uses[-1][1]
    stopped = next((span[1] for span in machine.outcome.spans if span[1] > left), machine.clock.now)
    after = total(within(machine.outcome.spans, stopped, machine.clock.now))
    return Night((stopped - left) / 60, after / 60)


def scanned(subject: Settings | Peer, action: Action, every: float) -> float:
    """For how many seconds of four weeks scanners alone keep a machine awake, one each `every` seconds on average."""
    machine = new_machine(subject, action)
    if isinstance(subject, Settings) or subject.strangers:
        scan(machine, traces.scanner(Random("scanners"), every))
    machine.clock.run(traces.END)
    machine.finish()
    return machine.outcome.seconds
