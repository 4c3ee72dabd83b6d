"""Whether a connected client is used: by a person at a terminal, or by a program that does some work.

An editor that is left open sends a heartbeat every few seconds; that is not use. Heartbeats go through a forward or a
running command, so traffic there counts only above a threshold (`TRICKLE_BYTES`). Typing, SFTP requests and new
sessions are never heartbeats, so all of them count.

Output to a terminal counts like other output, but only while the programs at the terminal work, and only in the
terminal's line mode, in which builds and the like run. A monitor such as htop, an editor or a pager reads single keys
and redraws the screen, which is not use, however long it goes on. Pure: it is given counters, and their change in a
window of time says whether there was use.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from pyssh_gateway.config.types import Idle

WINDOW_SECONDS = 15.0
"""The longest window: three heartbeats of VS Code, which sends one every 5 s."""

WINDOWS_IN_IDLE = 4
"""A client's idle time has at least so many windows, so that it is measured with a precision of a quarter."""

TRICKLE_BYTES = 4096
"""Bytes through programs and forwards, both ways, up to which a window does not count as use. VS Code's heartbeats are
some hundred; a keystroke in a file that a language server looks at is a few thousand in a second."""


class Counters(msgspec.Struct, frozen=True):
    """What a client has done since it connected.

    `typed` is bytes typed into terminals or sent by SFTP clients (which only send requests); `worked` is bytes through
    everything else; `opened` counts requests for a shell, command or subsystem; `shown` is bytes that programs have
    written to terminals in line mode.
    """

    typed: int = 0
    worked: int = 0
    opened: int = 0
    shown: int = 0


class Usage:
    """Follows the counters of all clients and says which became quiet and which are used again."""

    def __init__(self, client_idle: float) -> None:
        self._client_idle = client_idle
        self._last: dict[str, Counters] = {}
        self._used_at: dict[str, float] = {}
        self._quiet: set[str] = set()

    @property
    def window(self) -> float:
        """Seconds from one look to the next."""
        return min(WINDOW_SECONDS, self._client_idle / WINDOWS_IN_IDLE)

    def shows(self, clients: Mapping[str, Counters]) -> frozenset[str]:
        """The clients with output to terminals since the last look; it counts as use if the programs there work."""
        return frozenset(conn for conn, counters in clients.items() if _is_shown(self._last.get(conn), counters))

    def look(
        self, clients: Mapping[str, Counters], now: float, at_work: AbstractSet[str] = frozenset()
    ) -> tuple[list[tuple[str, float]], list[str]]:
        """The clients that have become quiet (with the seconds since their last use), and those that are used again.

        `at_work` are the clients with working programs at their terminals.
        """
        quiet, used = [], []
        for conn, counters in clients.items():
            before = self._last.get(conn)
            is_working = conn in at_work and _is_shown(before, counters)
            if before is None or is_working or _is_use(before, counters):
                self._used_at[conn] = now
                if conn in self._quiet:
                    self._quiet.discard(conn)
                    used.append(conn)
            elif conn not in self._quiet and now - self._used_at[conn] >= self._client_idle:
                self._quiet.add(conn)
                quiet.append((conn, now - self._used_at[conn]))
        gone = self._last.keys() - clients.keys()
        self._last = dict(clients)
        self._quiet -= gone
        for conn in gone:
            del self._used_at[conn]
        return quiet, used

    def quiet_in(self, conn: str, now: float) -> float | None:
        """Seconds until the client counts as quiet if nothing happens; None if it is quiet already or not known yet."""
        if conn in self._quiet or conn not in self._used_at:
            return None
        return max(0.0, self._used_at[conn] + self._client_idle - now)


def _is_shown(before: Counters | None, after: Counters) -> bool:
    return before is not None and after.shown - before.shown > TRICKLE_BYTES


def _is_use(before: Counters, after: Counters) -> bool:
    """Whether the client was used in the window that began with `before` and ended with `after`."""
    asked = after.typed > before.typed or after.opened > before.opened
    return asked or after.worked - before.worked > TRICKLE_BYTES


def quiet_after(idle: Idle) -> float | None:
    """For how many seconds a client has to be unused to be no reason to stay up; None: it always is one.

    Use within `recent_use` counts whatever `client_idle` is, so that no stop comes under somebody's hands.
    """
    return None if idle.client_idle is None else float(max(idle.client_idle, idle.recent_use))
