"""The idle rules of a server on the simulated machine: what `IdleWatch` and `BackgroundWatch` do, on a fake clock.

The rules are looked at only where their answer can change; so a simulated day takes milliseconds. Looks at use are on
the grid of windows that `IdleWatch` has, but only in the windows around the beginning and the end of use, and where a
client may become quiet; besides, as there, before a warning and before a stop. Samples of the processes are taken only
while there are any. That leaving the others out changes nothing is tested against a loop that makes them all.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from functools import partial
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from pyssh_gateway.config.types import Idle
from pyssh_gateway.core.idle.background import Hold, Over, Vigil, interval, work_between
from pyssh_gateway.core.idle.probation import Probation, Return
from pyssh_gateway.core.idle.replay.clock import Clock, Timer
from pyssh_gateway.core.idle.replay.job import Job, sample
from pyssh_gateway.core.idle.replay.traffic import Traffic, Use
from pyssh_gateway.core.idle.schedule import Hours, next_start, parse_hours, up_until
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import WARNINGS, IdlePolicy, IdleTracker, Kind, Stay, Tick, Warn, policy_of
from pyssh_gateway.core.idle.usage import STIRRING_SECONDS, Usage, quiet_after
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundWork,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    Identity,
    ScheduleEntered,
)

OTHERS: frozenset[Kind] = frozenset({"connection", "hold", "schedule", "terminal"})
"""Reasons beside which background work is not looked at, as in `BackgroundWatch`."""

ROUNDING = 1e-6
"""By how much of a window sums of times may be wrong."""


class Rules(msgspec.Struct, frozen=True):
    """The settings of a server. Times are in seconds.

    `client_idle` None: connected clients always count as used. `background`: whether background work counts, from
    `background_cpu` percent of a processor on, for at most `background_max`. `hours`, in `zone`, are the schedule; with
    one, the simulation's clock has to be Unix time.
    """

    policy: IdlePolicy
    client_idle: float | None = None
    background: bool = False
    background_cpu: float = 10.0
    background_max: float = 12 * 3600.0
    hours: tuple[Hours, ...] = ()
    zone: tzinfo | None = None


def rules_of(idle: Idle) -> Rules:
    """The rules that these settings make."""
    return Rules(
        policy=policy_of(idle),
        client_idle=quiet_after(idle),
        background=idle.background == "cpu",
        background_cpu=float(idle.background_cpu),
        background_max=float(idle.background_max),
        hours=tuple(filter(None, map(parse_hours, idle.schedule))),
        zone=ZoneInfo(idle.timezone),
    )


class Machine(Protocol):
    """The part of the machine that its server sees. `stop` is called when the machine may stop."""

    @property
    def clock(self) -> Clock:
        """The simulation's clock."""

    @property
    def traffic(self) -> Mapping[str, Traffic]:
        """The clients that are logged in, by their connections."""

    @property
    def probation(self) -> Probation:
        """The clients that may come back by themselves; their state survives a start."""

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that have been left behind, by their pids."""

    def stop(self, why: str) -> None:
        """Stop the machine."""


class Server(Protocol):
    """Decides when an awake machine stops; other products' rules may take the place of ours."""

    def begin(self) -> None:
        """The machine has started, or is back from a suspend: serve from now on."""

    def end(self) -> None:
        """The machine stops: do nothing more. After a suspend, `begin` is called again."""

    def receive(self, user: str, identity: Identity, /) -> Return | None:
        """A client is being let in: how it is received; None: like any other."""

    def observe(self, event: AnyEvent, /) -> None:
        """Something has happened."""

    def use_added(self, use: Use, /) -> None:
        """A client begins to be used."""

    def job_added(self) -> None:
        """A job has begun."""


class NoServer:
    """The place of the server while there is none."""

    def begin(self) -> None:
        """Nothing begins."""

    def end(self) -> None:
        """Nothing ends."""

    def receive(self, _user: str, _identity: Identity) -> Return | None:
        """Nobody is let in."""
        return None

    def observe(self, _event: AnyEvent) -> None:
        """Nobody takes note."""

    def use_added(self, _use: Use) -> None:
        """Nobody sees it."""

    def job_added(self) -> None:
        """Nobody sees it."""


class IdleServer:
    """Our rules."""

    def __init__(self, rules: Rules, machine: Machine) -> None:
        self._rules = rules
        self._machine = machine
        self._clock = clock = machine.clock
        self.wake = Wake(clock.now, Clocks(clock.now, clock.now))
        self.tracker = IdleTracker(rules.policy, self.wake, clock.now)
        self._usage = Usage(rules.client_idle) if rules.client_idle is not None else None
        self._vigil: Vigil | None = None
        if rules.background and rules.policy.timeout is not None:
            self._interval = interval(rules.policy.timeout)
            self._vigil = Vigil(self._interval, rules.background_max)
        self._timers: dict[str, Timer] = {}
        self._looks: dict[int, Timer] = {}
        self._look_base = 0.0
        self._looks_at_all = False
        self._vigil_base: float | None = None
        self._samples = 0
        self._held = False
        self._serves = False
        self.warnings = 0
        """How often clients have been warned of a stop."""

    # -- the machine's side -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Serve from now on."""
        self._serves = True
        self._looks_at_all = False
        self._look_base = self._clock.now
        self._vigil_base = None
        self._look_at_schedule()
        self._settle()

    def end(self) -> None:
        """Do nothing more; events are only noted."""
        self._serves = False
        for timer in (*self._timers.values(), *self._looks.values()):
            timer.cancel()
        self._timers.clear()
        self._looks.clear()

    def receive(self, user: str, identity: Identity) -> Return | None:
        """How a client that logs in is received: `Probation` knows whether it may have come back by itself."""
        client_idle = self._rules.client_idle
        if client_idle is None:
            return None
        in_use = self.tracker.in_use
        return self._machine.probation.receive(user, identity, now=self._clock.now, longest=client_idle, in_use=in_use)

    def observe(self, event: AnyEvent) -> None:
        """Note it, and do what follows. A client that has logged in is looked at in its first window."""
        self._publish(event)
        if not self._serves:
            return
        if isinstance(event, ConnectionAuthenticated) and event.probation is not None:
            self._look_at_all()
        self._need_look(self._clock.now)
        self._settle()

    def use_added(self, use: Use) -> None:
        """See the use in its first windows, and in the last one that has enough of it."""
        for moment in (use.begin, use.begin + self._window, use.end - self._window, use.end):
            self._need_look(moment)

    def job_added(self) -> None:
        """See the job's work at the next sample."""
        self._plan_sample()

    # -- the tracker --------------------------------------------------------------------------------------------

    def _publish(self, event: AnyEvent) -> None:
        now = self._clock.now
        self.wake.observe(event, Clocks(now, now))
        self._machine.probation.observe(event, now)
        self.tracker.observe(event, now)

    def _settle(self) -> None:
        """Do all that is due now, and wake up when something is due again."""
        now = self._clock.now
        while True:
            self._follow_background()
            step = self.tracker.poll(now)
            if isinstance(step, Stay):
                return self._wake_at(step.until)
            if isinstance(step, Tick):
                continue
            self._look()
            if isinstance(step, Warn):
                self.warnings += not self.tracker.in_use
            elif not self.tracker.in_use and not self.tracker.stops_in(now):  # as `IdleWatch._is_due`
                return self._machine.stop(step.why)

    def _wake_at(self, until: float | None) -> None:
        """Settle again when the tracker's answer may change, which only says that time passes before a warning."""
        now = self._clock.now
        left = self.tracker.stops_in(now)
        if left is not None and not self.tracker.in_use:
            moments = (now + left, *(now + left - warning for warning in WARNINGS))
            until = min((moment for moment in moments if moment > now), default=until)
        self._drop("poll")
        if until is not None:
            self._set("poll", until, self._settle)

    def _set(self, name: str, when: float, call: Callable[[], None]) -> None:
        self._drop(name)
        self._timers[name] = self._clock.at(when, call)

    def _drop(self, name: str) -> None:
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()

    def _look_at_schedule(self) -> None:
        """Enter the hours in which the machine stays up, and look again when they end, or when the next ones begin."""
        rules, now = self._rules, self._clock.now
        if not rules.hours or rules.zone is None:
            return
        local = datetime.fromtimestamp(now, rules.zone)
        later = next_start(rules.hours, local)
        if (up := up_until(rules.hours, local)) is not None:
            later, text = up
            self._publish(ScheduleEntered(seconds=later.timestamp() - now, what=text))
        self._set("schedule", later.timestamp() if later else math.inf, self._schedule_due)

    def _schedule_due(self) -> None:
        self._look_at_schedule()
        self._settle()

    # -- use ----------------------------------------------------------------------------------------------------

    @property
    def _window(self) -> float:
        return self._usage.window if self._usage is not None else 0.0

    def _need_look(self, moment: float) -> None:
        """Look at the end of the window that contains `moment`, and at its beginning, if these are still to come."""
        if self._usage is None or self._looks_at_all:
            return
        now = self._clock.now
        number = math.floor((moment - self._look_base) / self._window)
        for each in (number, number + 1):
            when = self._look_base + each * self._window
            if when > now and each not in self._looks:
                self._looks[each] = self._clock.at(when, partial(self._look_due, each))

    def _look_due(self, number: int) -> None:
        del self._looks[number]
        if self._look():
            self._settle()

    def _look(self) -> bool:
        """Look at the clients' use, as `IdleWatch` does at the end of each window and before a warning or a stop.

        Returns whether anything has changed.
        """
        if self._usage is None:
            return False
        now = self._clock.now
        counters = {conn: traffic.counters(now, heartbeats=True) for conn, traffic in self._machine.traffic.items()}
        # The programs at these terminals work: that is what simulated output to a terminal means.
        on_probation = self._machine.probation.on
        quiet, used = self._usage.look(counters, now, self._usage.shows(counters), on_probation)
        for conn in self._usage.stirring:
            self.tracker.wait_longer(conn, now + STIRRING_SECONDS)
        for conn, seconds in quiet:
            self._publish(ClientQuiet(conn=conn, user="", seconds=seconds))
        for conn in used:
            self._publish(ClientUsed(conn=conn, user=""))
        left = [self._usage.quiet_in(conn, now) for conn in counters]
        soonest = min((seconds for seconds in left if seconds is not None), default=None)
        self._drop("quiet")
        if soonest is not None and not self._looks_at_all:
            # Rounding may name a moment just after the end of a window, at which the client is quiet already.
            number = math.ceil((now + soonest - self._look_base) / self._window - ROUNDING)
            when = self._look_base + number * self._window
            if when <= now:
                when = self._look_base + (number + 1) * self._window
            self._set("quiet", when, self._quiet_due)
        return bool(quiet or used)

    def _look_at_all(self) -> None:
        """Look now, and at the end of each window, which is short, while a client is on probation."""
        self._looks_at_all = True
        for timer in self._looks.values():
            timer.cancel()
        self._looks.clear()
        self._look()
        on_probation = self._machine.probation.on
        if on_probation and self._usage is not None:
            self._set("window", self._clock.now + self._usage.next_window(on_probation), self._window_over)
            return
        # From here on windows are as long as usual, and those are enough in which something can change.
        self._looks_at_all = False
        self._look_base = self._clock.now
        self._need_look(self._clock.now)
        for traffic in self._machine.traffic.values():
            for use in traffic.current(self._clock.now):
                self.use_added(use)

    def _window_over(self) -> None:
        self._look_at_all()
        self._settle()

    def _quiet_due(self) -> None:
        if self._look():
            self._settle()

    # -- background work ----------------------------------------------------------------------------------------

    @property
    def _others(self) -> bool:
        return any(reason.kind in OTHERS for reason in self.tracker.reasons(self._clock.now))

    def _follow_background(self) -> None:
        """Begin to look at background work when nothing else keeps the machine up; stop when something has come."""
        if self._vigil is None:
            return
        others = self._others
        if others:
            self._vigil_base = None
            self._drop("sample")
        if not others and self._vigil_base is None:
            self._vigil_base = self._clock.now
            self._samples = 0
            self._vigil.begin(self._clock.now)
            self._plan_sample()

    def _plan_sample(self) -> None:
        """Take the next sample on the grid, if there is anything to see or to end."""
        if self._vigil is None or self._vigil_base is None or self._vigil.is_spent(self._clock.now):
            return
        if self._held or any(job.running for job in self._machine.jobs.values()):
            number = math.floor((self._clock.now - self._vigil_base) / self._interval) + 1
            number = max(number, self._samples + 1)  # rounding must not name the last one again
            due = partial(self._sample_due, self._vigil, number)
            self._set("sample", self._vigil_base + number * self._interval, due)

    def _sample_due(self, vigil: Vigil, number: int) -> None:
        self._samples = number
        now = self._clock.now
        before, after = sample(self._machine.jobs, now - self._interval), sample(self._machine.jobs, now)
        work = work_between(before, after, self._rules.background_cpu)
        change = vigil.see(worked=work is not None, now=now)
        if isinstance(change, Hold):
            self._held = True
            self._publish(BackgroundWork(seconds=change.seconds, what=work.names[0] if work else ""))
        elif isinstance(change, Over):
            self._held = False
            self._publish(BackgroundWork(seconds=0, what=""))
        self._plan_sample()
        if change is not None:
            self._settle()
