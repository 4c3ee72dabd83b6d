"""Since when the machine is awake, who woke it, and whether somebody has logged in since: the only owner of that.

The login banner, `why`, the history of stops, the figures and the idle tracker all ask here. Decided from events and
both clocks. What is said has to hold for somebody who reads it in `why`:

| what has happened | awake since | woken by |
| --- | --- | --- |
| the machine was started | the server's start | the first connection, within `WAKE_SECONDS` of that |
| the server has crashed | as before: the machine has been up | as before |
| a stop was announced | as before | as before |
| the stop was called off | as before | as before: whoever came meanwhile found it awake |
| it was suspended by that stop, and is back | the resume | the first connection since the announcement, or later |
| it was suspended by somebody else, and is back | the resume | the first connection since it is back, or later |
| its clock was set back | the same moment, on the clock as it is now | as before |

Later is within `WAKE_SECONDS` of the resume. A machine that its platform resumes by itself, from a snapshot say, is
woken by nobody, even if somebody is on: they were on when it fell asleep, so they did not wake it. But somebody has
logged in there, so it is not waited for a login as after a start. A connection need not log in to wake a machine. A
clock that is set forward looks like a resume, and is taken for one.

Nothing tells when a resume was, only when it was noticed; that counts. A connection may be seen before that.
"""

from collections import deque

import msgspec

from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    GatewayCrashed,
    MachineResumed,
    ServerStopping,
    StopStep,
)

WAKE_SECONDS = 64.0
"""How long after a start or a resume a connection may come that caused it: the longest time between two tries of a TCP
client (Linux's tcp_syn_retries of 6 sends at 1, 3, 7, 15, 31 and 63 seconds). Somebody who comes later than that would
have found the machine awake anyway."""

REMEMBERED = 16
"""Latest connections that are remembered, in case one came before its machine's resume was noticed. The event loop
notices that a turn after the first event, so more of them say nothing new."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the next server process has to know. Times are Unix time.

    `started` is when the server was started, and tells its life from earlier ones, of which nothing holds any more.
    """

    started: float
    since: float
    woken_by: str


class Wake:
    """Follows the events. `started`: the Unix time of the server's start; `kept`: what an earlier process has kept."""

    def __init__(self, started: float, clocks: Clocks, kept: Kept | None = None) -> None:
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

    @property
    def kept(self) -> Kept:
        """What has to be written down when it changes."""
        return Kept(self._started, self.since, self.woken_by)

    def seconds(self, steady: float) -> float:
        """For how long the machine has been awake at `steady`, on the clock that never jumps."""
        return max(0.0, steady - self._woke)

    def observe(self, event: AnyEvent, clocks: Clocks) -> None:
        """Take note of `event`, which happens now."""
        match event:
            case ConnectionOpened(peer=peer):
                self._came.append((clocks.wall, peer))
                self._first_since = self._first_since or peer
                if not self.woken_by and self.seconds(clocks.steady) <= WAKE_SECONDS:
                    self.woken_by = peer
            case ConnectionAuthenticated(conn=conn):
                self._on.add(conn)
                self.logged_in = self._logged_in_since = True
            case ConnectionClosed(conn=conn):
                self._on.discard(conn)
            case GatewayCrashed():
                self.logged_in = True  # nobody knows who was on; whom it cut off is not to be taken for a scanner
            case ServerStopping():
                self._stopping, self._first_since, self._logged_in_since = True, "", False
            case StopStep(step="suspend", result="failed" | "called_off"):
                self._stopping = False  # it was called off, or nothing comes after it
            case MachineResumed() if self._stopping:
                self._stopping = False
                self._wake(clocks, self._first_since, logged_in=self._logged_in_since)
            case MachineResumed(seconds=seconds) if seconds > 0:
                # Nothing happened while it slept, so what was later than that moment came after it.
                asleep = clocks.wall - seconds
                self._wake(clocks, next((peer for at, peer in self._came if at > asleep), ""), logged_in=False)
            case MachineResumed(seconds=seconds):
                self.since += seconds
            case _:
                pass

    def _wake(self, clocks: Clocks, peer: str, *, logged_in: bool) -> None:
        self.since, self._woke, self.woken_by = clocks.wall, clocks.steady, peer
        self.logged_in = logged_in or bool(self._on)
