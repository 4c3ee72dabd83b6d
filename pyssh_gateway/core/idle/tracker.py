"""Whether the machine is needed: the reasons for which it stays up, each with its end, and when it may stop.

Decided from events and a clock. A reason is something that a person would name: an open connection, a hold, a build in
the background, hours in which the machine stays up. While there is a reason, the machine is not idle; when the last one
has ended, the idle time begins. Four things are no reasons and only delay the stop: a client whose connection was lost
without a goodbye, or was cut off by a crash of the server, may come back; a client that has come back by itself may
have a person (`probation`); and a machine that has just been started waits for the login of the person who started it.
Whether it has just been started, and by whom, is decided in `wake`.
"""

from typing import Literal

import msgspec

from pyssh_gateway.config.types import Idle
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundWork,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    GatewayCrashed,
    HoldEnded,
    HoldStarted,
    MachineResumed,
    ScheduleEntered,
    TerminalQuiet,
    TerminalUsed,
)

TICK_SECONDS = 5
"""Seconds between two reports that the machine is idle."""

WARNINGS = (60, 10)
"""Seconds before a stop at which clients that are connected but not used are warned."""

CRASHED = "crashed"
"""The name under which clients cut off by a crash are awaited. A lost client's name differs: it has a space."""

Kind = Literal["connection", "hold", "terminal", "background", "schedule", "lost", "boot", "probation"]


class IdlePolicy(msgspec.Struct, frozen=True):
    """The rules, in seconds. `timeout` None: never stop.

    `boot_grace` is how long a machine waits for its first login, None for the same as `timeout`; and `wake_grace`, if
    it was woken by a connection, how long from when the last connection without a login has gone, None for no less.
    `lost_grace` is how long the machine waits for a client that was lost without a goodbye.
    """

    timeout: float | None
    boot_grace: float | None = None
    lost_grace: float = 0.0
    wake_grace: float | None = None


def policy_of(settings: Idle) -> IdlePolicy:
    """The tracker's rules, as configured."""
    return IdlePolicy(
        timeout=None if settings.timeout is None else float(settings.timeout),
        boot_grace=None if settings.boot_grace is None else float(settings.boot_grace),
        wake_grace=float(settings.wake_grace),
        lost_grace=float(settings.lost_client_grace),
    )


class Reason(msgspec.Struct, frozen=True):
    """A reason why the machine is up. `until` is on the tracker's clock, None: until an event ends the reason."""

    kind: Kind
    text: str
    until: float | None


class Stay(msgspec.Struct, frozen=True):
    """Nothing to do before `until`, or before the next event if that is None."""

    until: float | None


class Tick(msgspec.Struct, frozen=True):
    """Time to say how long the machine has been idle and how long is left, in whole seconds."""

    idle: int
    remaining: int


class Warn(msgspec.Struct, frozen=True):
    """The machine stops in `seconds`, and unused clients are still connected."""

    seconds: float


class Stop(msgspec.Struct, frozen=True):
    """The machine has not been needed for `idle` seconds, so its time is up. `why` is for people."""

    idle: float
    why: str


class IdleTracker:
    """Follows the event stream and says whether the machine is needed, why, and for how long it has not been.

    `now` is any clock that does not jump, and begins the first idle period: nobody is connected at boot. The caller
    passes every event to `wake` first, and then to the tracker.
    """

    def __init__(self, policy: IdlePolicy, wake: Wake, now: float) -> None:
        self._policy = policy
        self._wake = wake
        self._needed: dict[str, Reason] = {}
        self._quiet: dict[str, Reason] = {}
        self._waiting: dict[str, Reason] = {}
        self._idle_since = now
        self._was_needed = False
        self._returned = ""
        self._ticks = 0
        self._warned: set[int] = set()

    # -- what happened ------------------------------------------------------------------------------------------

    def observe(self, event: AnyEvent, now: float) -> None:
        """Take note of `event`, which happened at `now`."""
        self._observe_client(event, now)
        self._observe_left_behind(event, now)
        self._observe_machine(event, now)

    def wait_longer(self, conn: str, until: float) -> None:
        """Wait at least so long for a person on this connection, which is on probation."""
        if conn in self._quiet:
            until = max(until, self._waiting[conn].until or 0.0) if conn in self._waiting else until
            self._waiting[conn] = Reason("probation", self._quiet[conn].text, until)

    def fall_behind(self, seconds: float, now: float) -> None:
        """The clock has fallen behind the time of day, so reasons end earlier on it. Idle time starts anew.

        Events that are observed later have their ends on the corrected clock already.
        """
        for name, reason in self._needed.items():
            if reason.until is not None:
                self._needed[name] = msgspec.structs.replace(reason, until=reason.until - seconds)
        self._expire(now)
        self._begin_idle(now)

    def follow(self, policy: IdlePolicy, *, usage: bool, schedule: bool, background: bool, now: float) -> None:
        """Apply other rules from now on. Reasons whose flag is false are void, because their rules have changed.

        `usage`: which clients are unused; `schedule`: the hours in which the machine stays up; `background`: background
        work.
        """
        self._policy = policy
        if not usage:
            for conn in tuple(self._quiet):
                self._need(conn, self._quiet.pop(conn), now)
        if not schedule:
            self._need_no_more("schedule", now)
        if not background:
            self._need_no_more("background", now)

    def _observe_client(self, event: AnyEvent, now: float) -> None:
        match event:
            case ConnectionAuthenticated(conn=conn, user=user, peer=peer, identity=identity, probation=probation):
                reason = Reason("connection", f"{identity.person} is on as {user} from {peer}", None)
                if probation is None:
                    self._waiting.pop(_lost(user, identity.fingerprint), None)
                    self._need(conn, reason, now)
                else:
                    self._expire(now)
                    self._quiet[conn] = reason
                    self._returned = f"{identity.person} from {peer} came back by itself"
                    self._waiting[conn] = Reason("probation", self._returned, now + probation)
            case ConnectionClosed(conn=conn, user=user, identity=identity) if user:
                was_needed = conn in self._needed
                self._quiet.pop(conn, None)
                self._waiting.pop(conn, None)
                self._need_no_more(conn, now)
                if was_needed and not event.goodbye and identity is not None and self._policy.lost_grace:
                    text = f"{identity.person} was lost without a goodbye and may come back"
                    until = now + self._policy.lost_grace
                    self._waiting[_lost(user, identity.fingerprint)] = Reason("lost", text, until)
            case ClientQuiet(conn=conn) if conn in self._needed:
                self._quiet[conn] = self._needed[conn]
                self._need_no_more(conn, now)
            case ClientUsed(conn=conn, user=user, identity=identity) if conn in self._quiet:
                self._waiting.pop(conn, None)
                if identity is not None:
                    self._waiting.pop(_lost(user, identity.fingerprint), None)
                self._need(conn, self._quiet.pop(conn), now)
            case ClientUsed() if not self._needed:  # by a client that has gone already: it was here until now
                self._begin_idle(now)
            case _:
                pass

    def _observe_left_behind(self, event: AnyEvent, now: float) -> None:
        match event:
            case TerminalUsed(what=what):
                self._need("terminal", Reason("terminal", what, None), now)
            case TerminalQuiet():
                self._need_no_more("terminal", now)
            case BackgroundWork(is_over=True):
                self._need_no_more("background", now)
            case BackgroundWork(seconds=seconds, what=what):
                self._need("background", Reason("background", what, now + seconds), now)
            case _:
                pass

    def _observe_machine(self, event: AnyEvent, now: float) -> None:
        match event:
            case HoldStarted(hold=hold, seconds=seconds, user=user, reason=reason):
                self._need(hold, Reason("hold", f"{user} holds it: {reason}", now + seconds), now)
            case MachineResumed():
                self._expire(now)
                self._begin_idle(now)
                self._was_needed, self._returned = bool(self._needed), ""
            case HoldEnded(hold=hold):
                self._need_no_more(hold, now)
            case GatewayCrashed() if self._policy.lost_grace:
                text = "whoever was logging in when the server crashed may come back"
                self._waiting[CRASHED] = Reason("lost", text, now + self._policy.lost_grace)
            case ScheduleEntered(seconds=seconds, what=what):
                self._need("schedule", Reason("schedule", what, now + seconds), now)
            case _:
                pass

    def _need(self, name: str, reason: Reason, now: float) -> None:
        self._expire(now)
        self._needed[name] = reason
        self._was_needed = True

    def _need_no_more(self, name: str, now: float) -> None:
        self._expire(now)
        if self._needed.pop(name, None) is not None and not self._needed:
            self._begin_idle(now)

    def _expire(self, now: float) -> None:
        """Remove reasons that have ended by themselves. The idle time begins with the end of the last one, not now."""
        ended = {name: reason for name, reason in self._needed.items() if _is_over(reason, now)}
        for name in ended:
            del self._needed[name]
        if ended and not self._needed:
            self._begin_idle(max(reason.until or now for reason in ended.values()))
        self._waiting = {name: reason for name, reason in self._waiting.items() if not _is_over(reason, now)}

    def _begin_idle(self, since: float) -> None:
        self._idle_since = since
        self._ticks = 0
        self._warned.clear()

    # -- what follows -------------------------------------------------------------------------------------------

    @property
    def in_use(self) -> bool:
        """Whether there was a reason when reasons were last updated."""
        return bool(self._needed)

    @property
    def quiet(self) -> tuple[str, ...]:
        """The clients that are connected but, for lack of use, no reason to stay up, in the order of that."""
        return tuple(reason.text for reason in self._quiet.values())

    @property
    def quiet_connections(self) -> frozenset[str]:
        """The connections of these clients."""
        return frozenset(self._quiet)

    def poll(self, now: float) -> Stay | Tick | Warn | Stop:
        """What to do at `now`. A `Tick` or `Warn` is given once for each step; ask again after it."""
        self._expire(now)
        if self._policy.timeout is None:
            return Stay(None)
        if self._needed:
            return Stay(min((one.until for one in self._needed.values() if one.until is not None), default=None))
        idle = now - self._idle_since
        deadline = self._deadline()
        if now >= deadline:
            return Stop(idle, self._why(idle))
        steps = int(idle // TICK_SECONDS)
        if steps > self._ticks:
            self._ticks = steps
            return Tick(steps * TICK_SECONDS, max(0, round(deadline - now)))
        next_look = min(self._idle_since + (steps + 1) * TICK_SECONDS, deadline)
        if self._quiet:
            for warning in sorted(WARNINGS):
                if warning not in self._warned and deadline - now <= warning:
                    self._warned |= {later for later in WARNINGS if later >= warning}
                    return Warn(deadline - now)
                if warning not in self._warned:
                    next_look = min(next_look, deadline - warning)
        return Stay(next_look)

    def reasons(self, now: float) -> tuple[Reason, ...]:
        """Why the machine is up at `now`, in the order in which the reasons began; without any it is about to stop."""
        self._expire(now)
        if self._needed or self._policy.timeout is None:
            return tuple(self._needed.values())
        waiting = list(self._waiting.values())
        if not self._wake.logged_in and not (self._returned and waiting):
            who = f"woken by {self._wake.woken_by}" if self._wake.woken_by else "just started"
            waiting.append(Reason("boot", f"{who}, nobody has logged in yet", self._deadline()))
        return tuple(waiting)

    def stops_in(self, now: float) -> float | None:
        """Seconds until the machine stops if nothing happens; None while no stop is foreseeable, or if it never stops.

        If all reasons end by themselves, it is the end of the last one, plus the idle time.
        """
        self._expire(now)
        timeout = self._policy.timeout
        ends = [reason.until for reason in self._needed.values()]
        if timeout is None or None in ends:
            return None
        if not ends:
            return max(0.0, self._deadline() - now)
        return max(end for end in ends if end is not None) + timeout - now

    def _deadline(self) -> float:
        """When the machine stops if nothing happens. Only called with a timeout and without a reason."""
        timeout = self._policy.timeout or 0.0
        if not self._wake.logged_in and self._policy.boot_grace is not None:
            timeout = self._policy.boot_grace
        deadline = self._idle_since + timeout
        grace = self._policy.wake_grace
        if grace is not None and not self._wake.logged_in and not self._was_needed:
            due = self._wake.login_due(grace)
            deadline = deadline if due is None else min(deadline, due)
        waiting = (reason.until or 0.0 for reason in self._waiting.values())
        return max(deadline, *waiting, 0.0)

    def _why(self, idle: float) -> str:
        if self._wake.logged_in:
            return f"idle for {idle:.0f} s"
        if self._returned:
            return f"{self._returned}, and was not used"
        if self._wake.woken_by:
            return f"woken by {self._wake.woken_by}, no login"
        return f"nobody has logged in for {idle:.0f} s"


def _is_over(reason: Reason, now: float) -> bool:
    return reason.until is not None and reason.until <= now


def _lost(user: str, fingerprint: str) -> str:
    """The name under which a lost client is awaited: a client with the same key counts as the same one."""
    return f"{user} {fingerprint}"
