"""Whether a connected client is used: by a person at a terminal, or by a program that does some work.

An editor that is left open sends a heartbeat every few seconds; that is not use. Heartbeats go through a forward or a
running command, so traffic there counts only above a threshold (`TRICKLE_BYTES`). Typing, SFTP requests and new
sessions are never heartbeats, so all of them count.

Output to a terminal counts like other output, but only while the programs at the terminal work, and only in the
terminal's line mode, in which builds and the like run. A monitor such as htop, an editor or a pager reads single keys
and redraws the screen, which is not use, however long it goes on.

A client on probation (`core.idle.probation`) may have come back by itself, and an editor that does so opens sessions
and transfers its state. So it counts as unused from the beginning, until a terminal is opened, a key typed there, files
are transferred by SFTP, or the traffic goes on for longer than that. Pure: it is given counters, and their change in a
window of time says whether there was use.
"""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from pyssh_gateway.config.types import Idle

WINDOW_SECONDS = 15.0
"""The longest window: three heartbeats of VS Code, which sends one every 5 s."""

WINDOWS_IN_IDLE = 4
"""A client's idle time has at least so many windows, so that it is measured with a precision of a quarter."""

PROBATION_WINDOW_SECONDS = 5.0
"""The longest window while a client is on probation: one heartbeat of VS Code. The machine waits for it a minute at
most, so it has to be judged soon."""

SETTLING_SECONDS = 5.0
PROOF_WINDOWS = 2
"""The beginning of a probation that is passed over, because an editor that comes back by itself transfers its state
then; and how many windows in a row after it have to have more than a trickle. So a person who edits a file is noticed
within 20 s. It is not counted in looks: a warning looks, too, and with a short leash it comes at the very beginning."""

STIRRING_SECONDS = 60.0
"""For how long the machine waits for a client on probation after a window with more than a trickle, which is no proof
yet: no stop comes within a minute of use (`idle.recent_use`), and perhaps it was a person."""

TRICKLE_BYTES = 4096
"""Bytes through programs and forwards, both ways, up to which a window does not count as use. VS Code's heartbeats are
some hundred; a keystroke in a file that a language server looks at is a few thousand in a second."""


PROBATION_TRICKLE_BYTES = 2048
"""The same for one window of a client on probation."""


class Counters(msgspec.Struct, frozen=True):
    """What a client has done since it connected.

    `typed` is bytes typed into terminals, and `asked` bytes of SFTP clients' requests; `worked` is bytes through
    everything else; `opened` counts requests for a shell, command or subsystem, and `terminals` those among them that
    have a terminal; `shown` is bytes that programs have written to terminals in line mode.
    """

    typed: int = 0
    worked: int = 0
    opened: int = 0
    shown: int = 0
    asked: int = 0
    terminals: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        """The sum of each."""
        return Counters(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class Usage:
    """Follows the counters of all clients and says which became quiet and which are used again.

    `client_idle` is in seconds. `window` is the seconds between two looks, if it does not follow from `client_idle`.
    """

    def __init__(self, client_idle: float, window: float | None = None) -> None:
        self._client_idle = client_idle
        self._window = min(WINDOW_SECONDS, client_idle / WINDOWS_IN_IDLE) if window is None else window
        self._trickle = TRICKLE_BYTES if window is None else TRICKLE_BYTES * window / WINDOW_SECONDS
        self._last: dict[str, Counters] = {}
        self._used_at: dict[str, float] = {}
        self._looked_at = -math.inf
        self._quiet: set[str] = set()
        self._busy_windows: dict[str, int] = {}
        self.just_used: frozenset[str] = frozenset()
        """The clients that were used in the window that the last look has ended."""

    @property
    def window(self) -> float:
        """Seconds from one look to the next."""
        return self._window

    def next_window(self, on_probation: AbstractSet[str]) -> float:
        """Seconds to the next look while these clients are on probation."""
        return min(self.window, PROBATION_WINDOW_SECONDS) if on_probation else self.window

    def shows(self, clients: Mapping[str, Counters]) -> frozenset[str]:
        """The clients with output to terminals since the last look; it counts as use if the programs there work."""
        return frozenset(conn for conn, counters in clients.items() if _is_shown(self._last.get(conn), counters))

    def look(
        self,
        clients: Mapping[str, Counters],
        now: float,
        at_work: AbstractSet[str] = frozenset(),
        on_probation: AbstractSet[str] = frozenset(),
    ) -> tuple[list[tuple[str, float]], list[str]]:
        """The clients that have become quiet (with the seconds since their last use), and those that are used again.

        `at_work` are the clients with working programs at their terminals. Those `on_probation` are quiet from the
        beginning, without being reported as such.
        """
        quiet, used, just_used = [], [], []
        for conn, counters in clients.items():
            before = self._last.get(conn)
            if conn in on_probation and before is None:
                self._quiet.add(conn)
                self._used_at[conn] = now
            is_working = conn in at_work and _is_shown(before, counters)
            if conn in on_probation:
                is_used = is_working or self._is_proof(conn, before or Counters(), counters)
            else:
                self._busy_windows.pop(conn, None)  # or the last window of a probation that is over stirs for ever
                is_used = before is None or is_working or self._is_use(before, counters)
            if is_used:
                self._used_at[conn] = now
                just_used.append(conn)
                self._busy_windows.pop(conn, None)
                if conn in self._quiet:
                    self._quiet.discard(conn)
                    used.append(conn)
            elif conn not in self._quiet and now - self._used_at[conn] >= self._client_idle:
                self._quiet.add(conn)
                quiet.append((conn, now - self._used_at[conn]))
        self._looked_at = now
        gone = self._last.keys() - clients.keys()
        self._last = dict(clients)
        self._quiet -= gone
        self.just_used = frozenset(just_used)
        for conn in gone:
            del self._used_at[conn]
            self._busy_windows.pop(conn, None)
        return quiet, used

    def _is_proof(self, conn: str, before: Counters, after: Counters) -> bool:
        """Whether a client on probation is used by a person, by the window between the two, and those before it."""
        if after.terminals > before.terminals or after.typed > before.typed:
            return True
        if after.asked - before.asked > PROBATION_TRICKLE_BYTES:
            return True
        if self._looked_at < self._used_at[conn] + min(SETTLING_SECONDS, self.window):
            return False
        is_busy = after.worked - before.worked > PROBATION_TRICKLE_BYTES
        self._busy_windows[conn] = self._busy_windows.get(conn, 0) + 1 if is_busy else 0
        return self._busy_windows[conn] >= PROOF_WINDOWS

    def count_as_used(self, conn: str, now: float) -> None:
        """Somebody else has found out that the client is used."""
        if conn in self._quiet:
            self._quiet.discard(conn)
            self._used_at[conn] = now
            self._busy_windows.pop(conn, None)

    @property
    def stirring(self) -> frozenset[str]:
        """The clients on probation whose last window had more than a trickle, which alone is no proof of a person."""
        return frozenset(conn for conn, count in self._busy_windows.items() if count > 0 and conn in self._quiet)

    def quiet_in(self, conn: str, now: float) -> float | None:
        """Seconds until the client counts as quiet if nothing happens; None if it is quiet already or not known yet."""
        if conn in self._quiet or conn not in self._used_at:
            return None
        return max(0.0, self._used_at[conn] + self._client_idle - now)

    def _is_use(self, before: Counters, after: Counters) -> bool:
        """Whether the client was used in the window that began with `before` and ended with `after`."""
        acted = after.typed > before.typed or after.asked > before.asked or after.opened > before.opened
        return acted or after.worked - before.worked > self._trickle


def _is_shown(before: Counters | None, after: Counters) -> bool:
    return before is not None and after.shown - before.shown > TRICKLE_BYTES


def quiet_after(idle: Idle) -> float | None:
    """For how many seconds a client has to be unused to be no reason to stay up; None: it always is one.

    Use within `recent_use` counts whatever `client_idle` is, so that no stop comes under somebody's hands.
    """
    return None if idle.client_idle is None else float(max(idle.client_idle, idle.recent_use))
