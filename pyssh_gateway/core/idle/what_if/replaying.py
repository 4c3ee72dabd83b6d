"""Replays a recorded history under other settings: everybody comes, uses and goes as they did.

The rules are the real ones, on the simulated machine of `core.idle.replay`. Where it has stopped although the recorded
one had not, its clients are cut off, and come back at their next recorded use. Where it is up although the recorded one
had stopped, the clients that the recorded stop has cut off stay connected, unused, until their person comes again.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Literal

import msgspec

from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.job import Job, Phase
from pyssh_gateway.core.idle.replay.machine import Connection as Connected
from pyssh_gateway.core.idle.replay.machine import Hardware, Login, Machine
from pyssh_gateway.core.idle.replay.outcome import SOON
from pyssh_gateway.core.idle.replay.recorded import RETRY_SECONDS
from pyssh_gateway.core.idle.replay.server import Rules
from pyssh_gateway.core.idle.what_if.history import Awake, Connection, History, Kept
from pyssh_gateway.events import HoldEnded, HoldStarted, TerminalQuiet, TerminalUsed

TOLD = "told to stop"
"""Why the machine stops where its server was told to, or ended without a word; no setting changes that."""


class Figures(msgspec.Struct, frozen=True):
    """The time awake in seconds, and how often the machine started (a resume counts).

    `found_asleep` counts people who came back within five minutes of leaving, and had to wait for a start; `killed`
    counts the work in the background that a stop ended. Both are None where they are not known.
    """

    awake: float
    starts: int
    found_asleep: int | None = None
    killed: int | None = None


def recorded(history: History) -> Figures:
    """What the log says."""
    return Figures(sum(one.ended - one.begun for one in history.awake), len(history.awake))


def replayed(history: History, rules: Rules, *, suspends: bool) -> Figures:
    """What `rules` would have done. `suspends`: a stop for want of use suspends the machine, which kills no work."""
    return _Replay(history, rules, suspends=suspends).figures()


class _Replay:
    """Feeds a machine with what happened, in its order. Only what is going on is in the clock's queue."""

    def __init__(self, history: History, rules: Rules, *, suspends: bool) -> None:
        self._history = history
        self._clock = Clock(history.begun)
        # A start and a stop take no time here: the log knows nothing of it.
        hardware = Hardware(action="suspend" if suspends else "exit", start=0.0, stop=0.0)
        self._machine = Machine(self._clock, rules, hardware)
        self._suspends = suspends
        self._people = _People(self._machine)
        self._died = 0
        self._names = count(1)
        connections = zip(history.connections, _ends(history), strict=True)
        self._feed((one.begun, partial(self._wake, one)) for one in history.awake)
        self._feed((one.opened, partial(self._come, one, end)) for one, end in connections)
        self._feed((one.begun, partial(self._keep, one)) for one in history.kept)

    def figures(self) -> Figures:
        """Run to the end."""
        self._clock.run(self._history.ended)
        self._machine.finish()
        outcome = self._machine.outcome
        died = sum(len(stop.killed) for stop in outcome.stops if stop.why != TOLD)
        return Figures(outcome.seconds, outcome.starts, self._people.found_asleep, self._died + died)

    def _feed(self, inputs: Iterable[tuple[float, Callable[[], None]]]) -> None:
        """Make the calls at their times; one at a time is in the queue."""
        rest: Iterator[tuple[float, Callable[[], None]]] = iter(inputs)

        def step(call: Callable[[], None] | None) -> None:
            if call is not None:
                call()
            following = next(rest, None)
            if following is not None:
                self._clock.at(following[0], lambda: step(following[1]))

        step(None)

    # -- the machine --------------------------------------------------------------------------------------------

    def _wake(self, awake: Awake) -> None:
        self._machine.start()
        if awake.end in ("signal", "lost"):
            self._clock.at(awake.ended, self._be_told)

    def _be_told(self) -> None:
        if self._machine.state == "awake":
            self._machine.stop(TOLD)
            self._machine.jobs.clear()  # nothing is suspended then

    # -- clients ------------------------------------------------------------------------------------------------

    def _come(self, connection: Connection, end: float) -> None:
        if connection.login is None:
            stranger = self._machine.connect(connection.peer)
            self._clock.at(connection.closed, lambda: stranger.close(goodbye=False))
        elif connection.uses != () or self._is_absent(connection):
            _Client(self._machine, self._people, connection, end)

    def _is_absent(self, one: Connection) -> bool:
        """Whether this client, which came back by itself then, would do so here: the machine has stopped under it."""
        client = one.user, one.person
        return any((absent.user, absent.fingerprint) == client for absent in self._machine.probation.absent)

    # -- what keeps it up ---------------------------------------------------------------------------------------

    def _keep(self, kept: Kept) -> None:
        machine, seconds = self._machine, kept.ended - kept.begun
        if kept.kind == "work":
            if machine.state == "awake":
                machine.run_job(Job("work", (Phase(seconds),)))
            elif not self._suspends:
                self._died += 1  # it began in a session, before the machine stopped
        elif kept.kind == "hold":
            name = f"h{next(self._names)}"
            machine.tell(HoldStarted(hold=name, user="", seconds=seconds, reason="", pid=0))
            self._clock.at(kept.ended, lambda: machine.tell(HoldEnded(hold=name, user="", why="")))
        elif kept.kind == "terminal":
            machine.tell(TerminalUsed(what=""))
            self._clock.at(kept.ended, lambda: machine.tell(TerminalQuiet(what="")))


class _People:
    """When each person left, by the end of their last use or connection, and how many came back to a stop."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._left: dict[str, float] = {}
        self.found_asleep = 0

    def come(self, person: str) -> None:
        """They want to use the machine now."""
        left, stops = self._left.get(person), self._machine.outcome.stops
        if left is None or self._machine.state == "awake" or not stops or stops[-1].why == TOLD:
            return
        if self._machine.clock.now - left <= SOON:
            self.found_asleep += 1

    def leave(self, person: str, at: float) -> None:
        """They have used it up to `at`."""
        self._left[person] = max(at, self._left.get(person, at))


class _Client:
    """The client of a recorded connection. If the machine stops meanwhile, it connects again at its next use."""

    def __init__(self, machine: Machine, people: _People, recorded: Connection, end: float) -> None:
        self._machine = machine
        self._people = people
        self._recorded = recorded
        wants: Literal["terminal", "command"] = "terminal" if recorded.by_person else "command"
        self._login = Login(recorded.person, recorded.person, recorded.user, wants)
        # At a recorded use somebody is there: they open a terminal, and are not taken for a program that comes back.
        self._again = msgspec.structs.replace(self._login, wants="terminal")
        self._connected: Connected | None = None
        self._until = recorded.opened
        uses = recorded.uses
        if uses is None:  # not recorded: as if it was used all the time
            uses = ((recorded.opened, recorded.closed),)
        self._uses = iter(uses)
        self._connect(self._login)
        self._plan_use()
        machine.clock.at(end, self._go)

    def _connect(self, login: Login) -> None:
        if self._recorded.uses != ():
            self._people.come(self._login.person)
        self._connected = self._machine.connect(self._recorded.peer, login, self)

    def _plan_use(self) -> None:
        following = next(self._uses, None)
        if following is not None:
            self._machine.clock.at(following[0], lambda: self._use(following[1]))

    def _use(self, until: float) -> None:
        self._until = until
        if self._connected is None:
            self._connect(self._again)
        else:
            self._go_on(self._connected)
        self._people.leave(self._login.person, until)
        self._plan_use()

    def _go_on(self, connected: Connected) -> None:
        """Use it, if it is time for that."""
        now = self._machine.clock.now
        if self._until > now:
            connected.use(self._until - now, "typed")

    def _go(self) -> None:
        recorded = self._recorded
        if not recorded.cut and recorded.uses != ():
            self._people.leave(self._login.person, recorded.closed)
        if self._connected is not None:
            connected, self._connected = self._connected, None
            connected.close(goodbye=recorded.goodbye or recorded.cut)

    # -- the agent of its connection ----------------------------------------------------------------------------

    def logged_in(self, connection: Connected) -> None:
        """Go on with what is being done at this time."""
        self._go_on(connection)

    def refused(self, _connection: Connected) -> None:
        """It was taken for a program that comes back by itself: if somebody is there, they try again."""
        self._connected = None
        self._machine.clock.after(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        if self._connected is None and self._until > self._machine.clock.now:
            self._connect(self._again)

    def closed(self, _connection: Connected) -> None:
        """The machine stops."""
        self._connected = None


def _ends(history: History) -> list[float]:
    """When each connection would have ended: one that a stop cut off stays until its person comes again.

    But no longer than until the machine was told to stop, or ended without a word.
    """
    told = [one.ended for one in history.awake if one.end in ("signal", "lost")]
    comes: defaultdict[str, list[float]] = defaultdict(list)
    for one in history.connections:
        if one.login is not None and one.uses != ():
            comes[one.person].append(one.opened)
    return [
        min(_first(told, one.closed, history.ended), _first(comes[one.person], one.closed, history.ended))
        if one.cut and one.login is not None
        else one.closed
        for one in history.connections
    ]


def _first(moments: Sequence[float], earliest: float, otherwise: float) -> float:
    """The first of the moments, which are in order, that is not before `earliest`."""
    place = bisect_left(moments, earliest)
    return moments[place] if place < len(moments) else otherwise
