"""Since when the machine is awake, which client woke it, and whether a login followed. The only owner of these facts.

The login banner, `why`, the history of stops, the metrics and the idle tracker all ask here. Decided from events and
both clocks, by these rules:

| what has happened | awake since | woken by |
| --- | --- | --- |
| the machine was started | the server's start | the first connection, within `WAKE_SECONDS` of that |
| the server has crashed | as before: the machine has been up | as before |
| a stop was announced | as before | as before |
| the stop was called off | as before | as before: a client that came meanwhile found it awake |
| it was suspended by that stop, and is back | the resume | the first connection since the announcement, or later |
| it was suspended by somebody else, and is back | the resume | the first connection since it is back, or later |
| its clock was set back | the same moment, on the clock as it is now | as before |

"Or later" means within `WAKE_SECONDS` of the resume. A machine that its platform resumes by itself, for example from a
snapshot, was woken by nobody, even if clients are connected: they were connected when it was suspended, so they did not
wake it. Their logins count, though, so the machine does not wait for a login as after a start. A connection need not
log in to wake a machine. A clock that is set forward looks like a resume, and is treated as one.

A machine that a connection has *caused* to run, by coming within `CAUSE_SECONDS`, need not be waited for once that
connection has gone without a login. A server that a person has started by hand was caused by nobody else. A client on
probation (`core.idle.probation`) has not logged in until it is used.

The time of a resume is the time when it was noticed, since nothing tells the real one. A connection may be seen before.
"""

import math
from collections import deque

import msgspec

from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.events import (
    AnyEvent,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    GatewayCrashed,
    MachineResumed,
    ServerStopping,
    StopStep,
)

WAKE_SECONDS = 64.0
"""How long after a start or a resume the connection that caused it may arrive: the longest time between two tries of a
TCP client (Linux's tcp_syn_retries of 6 sends at 1, 3, 7, 15, 31 and 63 seconds). A later connection would have found
the machine awake anyway."""

CAUSE_SECONDS = 10.0
"""How long after a start or a resume a connection counts as its cause. It is there when the server begins to listen,
or its proxy has tried again every second or so until then. A machine that was started by hand and is found by a scanner
a little later is to wait for the person who started it."""

SILENT_SECONDS = 5.0
"""For how long a connection that sends nothing may keep a machine up that it has woken. SSH's clients identify
themselves at once (RFC 4253 section 4.2), and this leaves time for two retransmissions; a scanner that only listens
stays until the login grace is over."""

REMEMBERED = 16
"""How many of the latest connections are remembered, in case one came before the resume was noticed. The event loop
notices a resume one turn after the first event, so more of them are not needed."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the next server process has to know. Times are Unix time.

    `started` is when the server was started: state with another start time is from an earlier run and does not count.
    """

    started: float
    since: float
    woken_by: str


class Wake:
    """Follows the events. `started`: the Unix time of the server's start; `kept`: the state of an earlier process.

    `by_hand`: a person has started the server, at a terminal.
    """

    def __init__(self, started: float, clocks: Clocks, kept: Kept | None = None, *, by_hand: bool = False) -> None:
        self._by_hand = by_hand
        self._started = started
        self.since = started
        self.woken_by = ""
        self.logged_in = False
        if kept is not None and kept.started == started:
            self.since, self.woken_by = kept.since, kept.woken_by
        self._woke = clocks.steady - max(0.0, clocks.wall - self.since)
        self._on: set[str] = set()
        self._came: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)
        self._stopping = False
        self._first_since = ""
        self._logged_in_since = False
        self._strangers: set[str] = set()
        self._silent: dict[str, float] = {}
        self._on_probation: set[str] = set()
        self._left_at = -math.inf
        self._is_caused = False

    @property
    def kept(self) -> Kept:
        """The state to store whenever it changes."""
        return Kept(self._started, self.since, self.woken_by)

    @property
    def woke(self) -> float:
        """When the machine woke, on the clock that never jumps. Another value means that it has woken again."""
        return self._woke

    def seconds(self, steady: float) -> float:
        """For how long the machine has been awake at `steady`, on the clock that never jumps."""
        return max(0.0, steady - self._woke)

    def login_due(self, grace: float) -> float | None:
        """Until when to wait for a login on a machine that a connection has caused to run, on the steady clock.

        That is `grace` seconds after the last connection without a login has gone, or a little longer for one that has
        sent nothing so far. None: no connection has caused it to run, or there is one that may still log in. If all
        were clients on probation, it is long ago: they have been answered.
        """
        if not self._is_caused or self._strangers - self._silent.keys():
            return None
        return max(self._left_at + grace, *(came + SILENT_SECONDS for came in self._silent.values()), -math.inf)

    def spoke(self, conn: str) -> None:
        """The first bytes of a connection have come."""
        self._silent.pop(conn, None)

    def observe(self, event: AnyEvent, clocks: Clocks) -> None:
        """Take note of `event`, which happens now."""
        self._observe_client(event, clocks)
        self._observe_machine(event, clocks)

    def _observe_client(self, event: AnyEvent, clocks: Clocks) -> None:
        match event:
            case ConnectionOpened(conn=conn, peer=peer):
                self._strangers.add(conn)
                self._silent[conn] = clocks.steady
                self._arrive(peer, clocks)
            case ConnectionRefused(peer=peer):
                # Such as a scanner's that has gone while the machine was starting.
                self._left_at = clocks.steady
                self._arrive(peer, clocks)
            case ConnectionAuthenticated(conn=conn, probation=probation):
                self._strangers.discard(conn)
                self.spoke(conn)
                if probation is None:
                    self._on.add(conn)
                    self.logged_in = self._logged_in_since = True
                else:
                    self._on_probation.add(conn)
            case ClientUsed(conn=conn):
                if conn in self._on_probation:
                    self._on_probation.discard(conn)
                    self._on.add(conn)
                self.logged_in = self._logged_in_since = True
            case ConnectionClosed(conn=conn):
                self._on.discard(conn)
                self._on_probation.discard(conn)
                self.spoke(conn)
                if conn in self._strangers:
                    self._strangers.discard(conn)
                    self._left_at = clocks.steady
            case _:
                pass

    def _arrive(self, peer: str, clocks: Clocks) -> None:
        self._came.append((clocks.wall, peer))
        self._first_since = self._first_since or peer
        awake = self.seconds(clocks.steady)
        if not self.woken_by and awake <= WAKE_SECONDS:
            self.woken_by = peer
            self._is_caused = awake <= CAUSE_SECONDS and not self._by_hand

    def _observe_machine(self, event: AnyEvent, clocks: Clocks) -> None:
        match event:
            case GatewayCrashed():
                self.logged_in = True  # who was logged in is lost; assume that somebody was, not only scanners
            case ServerStopping():
                self._stopping, self._first_since, self._logged_in_since = True, "", False
            case StopStep(step="suspend", result="failed" | "called_off"):
                self._stopping = False  # it was called off, or nothing comes after it
            case MachineResumed() if self._stopping:
                self._stopping = False
                self._wake(clocks, self._first_since, logged_in=self._logged_in_since)
            case MachineResumed(seconds=seconds) if seconds > 0:
                # No event occurs during a suspend, so connections after its beginning came after the resume.
                asleep = clocks.wall - seconds
                self._wake(clocks, next((peer for at, peer in self._came if at > asleep), ""), logged_in=False)
            case MachineResumed(seconds=seconds):
                self.since += seconds
            case _:
                pass

    def _wake(self, clocks: Clocks, peer: str, *, logged_in: bool) -> None:
        self.since, self._woke, self.woken_by = clocks.wall, clocks.steady, peer
        self.logged_in = logged_in or bool(self._on)
        self._is_caused, self._by_hand = bool(peer), False
