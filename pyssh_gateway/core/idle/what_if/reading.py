"""Makes a history of the lines of the log. Anything that is no event of ours is passed over and counted.

The lines are data from outside: a damaged one, or one with times that can't be, costs only itself.
"""

from collections.abc import Iterable

import msgspec

from pyssh_gateway.core.idle.background import INTERVAL_SECONDS, QUIET_INTERVALS, interval
from pyssh_gateway.core.idle.what_if import log_lines
from pyssh_gateway.core.idle.what_if.history import Awake, Connection, End, History, Kept, Span
from pyssh_gateway.core.idle.what_if.numbering import Numbering

MOST_CONNECTIONS = 500_000
"""How many connections are kept, at most: a scanner's every five seconds for a month. Each takes some 200 bytes, so
the reader stays below 150 MB."""

MOST_SPANS = 200_000
"""How many spans of use are kept, at most: years of a busy team."""

SOON_INTERVALS = 3
"""If work is seen within so many intervals after the last client has gone, or has become unused, it is taken to have
run since that client was used last. The server does not look at work before that."""

SAME_WORK_SECONDS = 300.0
"""Work that is seen again after less than this is the same: with clients on, it is looked at every five minutes."""

FUTURE_SECONDS = 86400.0
"""An event that is later than now by more than this is one of a clock that was wrong."""


def read(
    lines: Iterable[bytes], *, since: float, now: float, heads: log_lines.Heads | None = None, running: bool = False
) -> History:
    """The history from `since` to `now`, which are Unix times, in `lines` of the log in their order.

    `heads` is what another reader of the same lines uses, too. `running`: a server runs now, so what is not over by the
    log lasts until `now`.
    """
    builder = _Builder(since)
    decoder = log_lines.Lines(log_lines.KINDS, heads)
    for line in lines:
        builder.lines += 1
        try:
            at, seq, event = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError):
            builder.damaged += 1
            continue
        if at > now + FUTURE_SECONDS:
            builder.damaged += 1
        else:
            builder.see(at, seq, event)
    return builder.history(until=now if running else 0.0)


class _Open:
    """A connection that has not ended yet."""

    def __init__(self, opened: float, peer: str) -> None:
        self.opened = opened
        self.peer = peer
        self.login: float | None = None
        self.user = ""
        self.person = ""
        self.by_person = False
        self.uses: list[Span] | None = None
        self.unused: list[Span] = []
        self._unused_since: float | None = None

    def rest(self, at: float) -> None:
        """It does not keep the machine up from now on."""
        if self._unused_since is None:
            self._unused_since = at

    def count(self, at: float) -> bool:
        """It keeps the machine up, or is no more; returns whether that ends a span in which it did not."""
        since, self._unused_since = self._unused_since, None
        if since is not None:
            self.unused.append((since, max(since, at)))
        return since is not None

    def closed(self, at: float, *, goodbye: bool, cut: bool) -> Connection:
        self.count(at)
        uses = None if self.uses is None else _clipped(self.uses, self.login or self.opened, at)
        return Connection(
            self.opened,
            at,
            self.peer,
            self.login,
            self.user,
            self.person,
            by_person=self.by_person,
            goodbye=goodbye,
            cut=cut,
            uses=uses,
            unused=tuple(self.unused),
        )


class _Builder:
    """Follows the events in their order. A clock that is set back does not turn time back here.

    The first line of a start is `server.started`. Older servers wrote some lines in front of it, among them the
    connection that woke the machine, but began again to number their lines with every start, which newer ones don't.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self.lines = 0
        self.damaged = 0
        self._begun: float | None = None
        self._last = 0.0
        self._numbering = Numbering()
        self._has_started = False
        self._up: float | None = None
        self._stopping: log_lines.Stopping | None = None
        self._stopping_at = 0.0
        self._open: dict[str, _Open] = {}
        self._awake: list[Awake] = []
        self._ended: dict[str, int] = {}
        self._connections: list[Connection] = []
        self._left_out = 0
        self._spans = 0
        self._held: dict[str, tuple[float, float]] = {}
        self._interval = INTERVAL_SECONDS
        self._left: tuple[float, float] | None = None
        self._work: tuple[float, float] | None = None
        self._seen: list[Span] = []
        self._terminal: float | None = None
        self._schedule: Span | None = None
        self._kept: list[Kept] = []

    # -- events -------------------------------------------------------------------------------------------------

    def see(self, at: float, seq: int, event: log_lines.Known | None) -> None:
        """Take note of an event; None: one that says nothing but that the machine was up."""
        if at < self._since:
            return
        before = self._last
        at = self._advance(at, seq, first=isinstance(event, log_lines.Started) and event.generation == 1)
        if self._numbering.is_late:  # of an older server, whose clients and stop are over with the start of this one
            return
        match event:
            case None:
                pass
            case (
                log_lines.Opened()
                | log_lines.Session()
                | log_lines.Authenticated()
                | log_lines.Closed()
                | log_lines.Use()
            ):
                self._see_client(at, event)
            case log_lines.Stopping():
                self._stopping, self._stopping_at = event, at
            case log_lines.StopStep(step="suspend", result="failed" | "called_off"):
                self._stopping = None
            case log_lines.Stopped(reason=reason):
                self._stop(at, "idle" if reason == "idle" else "signal")
            case log_lines.Resumed(seconds=seconds):
                self._resume(at, before, seconds)
            case log_lines.Started(idle_timeout=float() as timeout):
                self._interval = interval(timeout)
            case _:
                self._see_kept(at, event)

    def _advance(self, at: float, seq: int, *, first: bool) -> float:
        """The server runs at `at`; returns that time, which is never before that of an earlier event.

        `first`: it is the first process of a server that says that it has started.
        """
        before, at = self._last, max(self._last, at)
        if self._begun is None:
            self._begun = before = at
        if self._numbering.see(seq, first=first) or (first and self._has_started):
            self._stop(before, "lost" if self._stopping is None else _end_of(self._stopping))
        if self._up is None:
            self._up, self._has_started = at, False
        self._last, self._has_started = at, self._has_started or first
        return at

    def _see_kept(self, at: float, event: log_lines.Known | None) -> None:
        match event:
            case log_lines.Quiet(conn=conn, seconds=seconds):
                self._left = at, at - seconds
                if (one := self._open.get(conn)) is not None and self._spans <= MOST_SPANS:
                    one.rest(at)
            case log_lines.Used(conn=conn):
                self._count(conn, at)
            case log_lines.HoldStarted(hold=hold, seconds=seconds):
                self._end_hold(hold, at)
                self._held[hold] = at, at + seconds
            case log_lines.HoldEnded(hold=hold):
                self._end_hold(hold, at)
            case log_lines.Work(seconds=seconds):
                self._see_work(at, seconds)
            case log_lines.Seen(spans=spans):
                self._seen += ((max(at - begin, self._up or at), min(at - end, at)) for begin, end in spans)
            case log_lines.TerminalUsed():
                self._terminal = at if self._terminal is None else self._terminal
            case log_lines.TerminalQuiet():
                self._end_terminal(at)
            case log_lines.Schedule(seconds=seconds):
                self._end_schedule(at)
                self._schedule = at, at + seconds
            case _:
                pass

    def _see_client(
        self,
        at: float,
        event: log_lines.Opened | log_lines.Session | log_lines.Authenticated | log_lines.Closed | log_lines.Use,
    ) -> None:
        match event:
            case log_lines.Opened(conn=conn, peer=peer):
                self._ended.pop(conn, None)
                self._enter(conn, _Open(at, peer))
                self._left_out += conn not in self._open
            case log_lines.Authenticated(conn=conn):
                one = self._open.get(conn) or self._enter(conn, _Open(at - event.seconds, event.peer))
                one.login, one.user, one.person = at, event.user, event.identity.known_by
                if event.probation is not None:
                    one.uses = []  # it counts as unused from the beginning, so only use is recorded
                    one.rest(at)
            case log_lines.Session(conn=conn, kind=kind, tty=tty):
                if (one_open := self._open.get(conn)) is not None and (tty or kind == "subsystem"):
                    one_open.by_person = True
                    one_open.uses = one_open.uses or None  # that has ended its probation, if it was on one
                    self._count(conn, at)
            case log_lines.Closed(conn=conn, goodbye=goodbye):
                one_closed = self._open.pop(conn, None)
                if one_closed is not None:
                    if one_closed.login is not None:
                        self._left = at, at
                    self._ended[conn] = len(self._connections)
                    cut = self._stopping is not None
                    self._connections.append(one_closed.closed(at, goodbye=goodbye, cut=cut))
            case _:
                self._see_use(event.conn, event.spans)

    def _count(self, conn: str, at: float) -> None:
        """The client keeps the machine up from now on."""
        if (one := self._open.get(conn)) is not None:
            self._spans += one.count(at)

    def _see_use(self, conn: str, spans: tuple[tuple[float, float], ...]) -> None:
        """Spans of a connection that is open, or has just ended."""
        self._spans += len(spans)
        if self._spans > MOST_SPANS:
            return
        if (one := self._open.get(conn)) is not None:
            one.uses = (one.uses or []) + [(one.opened + begin, one.opened + end) for begin, end in spans]
        elif (place := self._ended.pop(conn, None)) is not None:
            ended = self._connections[place]
            found = [(ended.opened + begin, ended.opened + end) for begin, end in spans]
            uses = (*(ended.uses or ()), *_clipped(found, ended.login or ended.opened, ended.closed))
            self._connections[place] = msgspec.structs.replace(ended, uses=uses)

    def _enter(self, conn: str, one: _Open) -> _Open:
        if len(self._connections) + len(self._open) < MOST_CONNECTIONS:
            self._open[conn] = one
        return one

    # -- the machine --------------------------------------------------------------------------------------------

    def _stop(self, at: float, end: End) -> None:
        """The machine is down from `at` on; everything that was open there was cut off."""
        if self._up is not None:
            self._awake.append(Awake(self._up, max(self._up, at), end))
        self._up = self._stopping = None
        self._cut(at)

    def _resume(self, at: float, before: float, seconds: float) -> None:
        if seconds <= 0 or self._up is None:  # the clock was set back
            return
        ours = self._stopping is not None
        asleep = max(at - seconds, self._stopping_at if ours else before, self._up)
        self._awake.append(Awake(self._up, asleep, "suspend" if ours else "lost"))
        self._up, self._stopping = at, None
        if ours:  # its clients were sent away
            self._cut(asleep)

    def _cut(self, at: float) -> None:
        for one in self._open.values():
            self._connections.append(one.closed(max(at, one.opened), goodbye=False, cut=True))
        self._open.clear()
        self._ended.clear()
        for hold in tuple(self._held):
            self._end_hold(hold, at)
        self._end_terminal(at)
        self._end_work(at)
        self._end_schedule(at)

    # -- what keeps it up ---------------------------------------------------------------------------------------

    def _end_hold(self, hold: str, at: float) -> None:
        if (held := self._held.pop(hold, None)) is not None:
            self._kept.append(Kept("hold", held[0], min(held[1], at)))

    def _end_terminal(self, at: float) -> None:
        if self._terminal is not None:
            self._kept.append(Kept("terminal", self._terminal, at))
        self._terminal = None

    def _end_schedule(self, at: float) -> None:
        if self._schedule is not None:
            self._kept.append(Kept("schedule", self._schedule[0], min(self._schedule[1], at)))
        self._schedule = None

    def _see_work(self, at: float, seconds: float) -> None:
        if seconds == 0:
            if self._work is not None:  # its end is noticed late
                self._end_work(max(self._work[0], at - QUIET_INTERVALS * self._interval))
        elif self._work is None or at > self._work[1]:
            self._end_work(at)
            begun = at - self._interval
            if self._left is not None and at - self._left[0] <= SOON_INTERVALS * self._interval:
                begun = min(begun, self._left[1])
            self._work = begun, at + seconds
        else:
            self._work = self._work[0], at + seconds

    def _end_work(self, at: float) -> None:
        if self._work is not None:
            self._seen.append((self._work[0], min(self._work[1], at)))
        self._work = None

    def _worked(self) -> list[Kept]:
        """The work, seen in one way or the other. What is interrupted for less than a look is the same work."""
        whole: list[Kept] = []
        for begun, ended in sorted(span for span in self._seen if span[0] < span[1]):
            if whole and begun - whole[-1].ended <= SAME_WORK_SECONDS:
                whole[-1] = Kept("work", whole[-1].begun, max(ended, whole[-1].ended))
            else:
                whole.append(Kept("work", begun, ended))
        return whole

    # -- the end ------------------------------------------------------------------------------------------------

    def history(self, until: float) -> History:
        """All of it, up to the last event; if the machine is up then, up to `until` if that is later."""
        if self._up is not None:
            self._last = max(self._last, until)
            end: End = "open" if self._stopping is None else _end_of(self._stopping)
            self._awake.append(Awake(self._up, self._last, end))
        self._cut(self._last)
        return History(
            self._begun or 0.0,
            self._last,
            tuple(self._awake),
            tuple(sorted(self._connections, key=lambda one: one.opened)),
            tuple(sorted([*self._kept, *self._worked()], key=lambda one: one.begun)),
            self.lines,
            self.damaged,
            self._left_out,
        )


def _end_of(stopping: log_lines.Stopping) -> End:
    """How the time awake ended if the last thing that the server said of its stop is that it has begun."""
    if stopping.reason != "idle":
        return "signal"
    return "suspend" if stopping.action == "suspend" else "idle"


def _clipped(spans: Iterable[Span], begin: float, end: float) -> tuple[Span, ...]:
    """The spans from `begin` to `end`; whole seconds, and a clock that was set, may put them beyond."""
    clipped = ((min(max(one, begin), end), min(max(other, begin), end)) for one, other in spans)
    return tuple((one, other) for one, other in clipped if one <= other)
