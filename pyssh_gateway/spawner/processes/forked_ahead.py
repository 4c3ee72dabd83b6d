"""The process that is forked before it is known for which account: the first login of one finds it there.

A fork and what the kernel copies after it take longer than all else that a first login waits for. It is done while the
client and a stranger's process are still exchanging keys. One process at a time, and for a minute: scanners come, too.
"""

import socket
from collections.abc import Callable

import msgspec

from pyssh_gateway.spawner.processes.server_process import LastWords

SPARE_SECONDS = 60.0
"""How long it waits after the last stranger. It has 8 MiB of its own, which a server that nobody comes to need not
have."""

AGAIN_SECONDS = 0.1
"""How long after one has been taken the next one is forked: a login, whose processors it would share, takes about as
long."""


class Forked(msgspec.Struct, frozen=True):
    """A process without an account. `link` is where it is told whose it is; when that closes, it ends."""

    pid: int
    words: LastWords
    link: socket.socket


class ForkedAhead:
    """Keeps one at hand. Times are `time.monotonic()`'s; `fork` raises OSError."""

    def __init__(self, fork: Callable[[], Forked]) -> None:
        self._fork = fork
        self._spare: Forked | None = None
        self._fork_at: float | None = None
        self._drop_at: float | None = None

    def expect(self, now: float, after: float = 0.0) -> None:
        """A login may come that needs one: have it `after` so many seconds."""
        self._drop_at = now + SPARE_SECONDS
        if self._spare is None and self._fork_at is None:
            self._fork_at = now + after

    def take(self) -> Forked | None:
        """The one that is there, for the caller to own; None if there is none, and then none is forked beside it."""
        spare, self._spare = self._spare, None
        self._fork_at = None
        return spare

    def next_at(self) -> float | None:
        """When to call `tick`."""
        return min((at for at in (self._fork_at, self._drop_at) if at is not None), default=None)

    def tick(self, now: float) -> Forked | None:
        """Do what is due at `now`; returns what was forked, which is to be reaped by the caller."""
        if self._drop_at is not None and now >= self._drop_at:
            self.drop()
        if self._fork_at is None or now < self._fork_at:
            return None
        self._fork_at = None
        try:
            self._spare = self._fork()
        except OSError:  # the next login tries again, and says why it can't be
            return None
        return self._spare

    def drop(self) -> None:
        """Nobody is expected any more."""
        self._fork_at = self._drop_at = None
        if self._spare is not None:
            self._spare.link.close()
            self._spare = None

    def ended(self, pid: int) -> None:
        """The process `pid` has ended; if it was at hand, it is not any more."""
        if self._spare is not None and self._spare.pid == pid:
            self._spare.link.close()
            self._spare = None
