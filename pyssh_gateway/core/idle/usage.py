"""Whether a client that is on is used: by a person at a terminal, or by a program that gets something done.

An editor that is left open sends a heartbeat every few seconds for as long as it lives; that is no use. It goes
through a forward, or through a command that runs already: of these only more than a trickle counts. No heartbeat is
typed, asks for files over SFTP, or opens a session: of those everything counts.

What a program writes to a terminal counts like what it writes without one, but only while the programs there work, and
only in the terminal's line mode, in which a build and its like run. A monitor such as htop, an editor or a pager takes
the terminal key by key and paints it anew, which is no use however long it goes on. Pure: it is given counters, and how
much they have moved in a window of time says whether there was use in it.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

WINDOW_SECONDS = 15.0
"""How long a window is at most: three heartbeats of VS Code, which sends one every 5 s."""

WINDOWS_IN_IDLE = 4
"""A client's idle time has at least so many windows, so that it is told from use with a quarter's precision."""

TRICKLE_BYTES = 4096
"""Bytes through programs and forwards, both ways, that are no use in one window. VS Code's heartbeats are some hundred;
a keystroke in a file that a language server looks at is a few thousand in a second."""


class Counters(msgspec.Struct, frozen=True):
    """What a client has done since it came.

    `typed` is bytes that were typed into terminals, or sent by SFTP clients, whose every byte asks for something;
    `worked` is bytes through everything else; `opened` is how often a shell, command or subsystem was asked for;
    `shown` is bytes that programs have written to terminals in line mode.
    """

    typed: int = 0
    worked: int = 0
    opened: int = 0
    shown: int = 0


class Usage:
    """Follows the counters of all clients and says who became quiet and who is used again."""

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
        """The clients whose terminals were written to since the last look: that counts if the programs there work."""
        return frozenset(conn for conn, counters in clients.items() if _is_shown(self._last.get(conn), counters))

    def look(
        self, clients: Mapping[str, Counters], now: float, at_work: AbstractSet[str] = frozenset()
    ) -> tuple[list[tuple[str, float]], list[str]]:
        """The clients that have become quiet (with the seconds since their last use), and those that are used again.

        The programs at the terminals of `at_work` have worked.
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
        """Seconds until the client counts as quiet if nothing happens; None if it does, or has not been looked at."""
        if conn in self._quiet or conn not in self._used_at:
            return None
        return max(0.0, self._used_at[conn] + self._client_idle - now)


def _is_shown(before: Counters | None, after: Counters) -> bool:
    return before is not None and after.shown - before.shown > TRICKLE_BYTES


def _is_use(before: Counters, after: Counters) -> bool:
    """Whether somebody did something in the window that began with `before` and ended with `after`."""
    asked = after.typed > before.typed or after.opened > before.opened
    return asked or after.worked - before.worked > TRICKLE_BYTES
