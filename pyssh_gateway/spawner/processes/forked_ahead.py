"""Processes that are told after their fork what they are for, one of which is kept at hand for whoever needs it next.

A fork, and what the kernel copies of the spawner's memory after it, takes longer than all else that a login or a
command waits for here. So one is forked while somebody may come, and waits to be told. Everybody else gets one that is
forked with the message waiting for it, and goes the same way.
"""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes.server_process import LastWords

SPARE_SECONDS = 60.0
"""How long one waits after somebody was last expected. It has 3 to 8 MiB of its own, which a server that nobody comes
to need not have."""

Start = Callable[[socket.socket, LastWords], int]
"""Forks a process that hears at the socket what it is for, and whose standard error are the last words; its pid."""


class Forked(msgspec.Struct, frozen=True):
    """A process. It hears at the other end of `link` what it is for; when that closes before, it ends."""

    pid: int
    words: LastWords
    link: socket.socket


class ForkedAhead:
    """Forks them, and keeps one at hand. Times are `time.monotonic()`'s; `start` raises OSError.

    Those that have not been told yet are `pids`, and to be reaped by `ended`.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._spare: Forked | None = None
        self._untold: dict[int, Forked] = {}
        self._fork_at: float | None = None
        self._drop_at: float | None = None

    # -- for whoever needs one ----------------------------------------------------------------------------------------

    def expect(self, now: float, after: float = 0.0) -> None:
        """Somebody may need one: have it `after` so many seconds."""
        self._drop_at = now + SPARE_SECONDS
        if self._spare is None and self._fork_at is None:
            self._fork_at = now + after

    def tell(self, packet: bytes, descriptors: list[int]) -> Forked:
        """A process that is told `packet`, with copies of `descriptors`; the caller's from here on. Raises OSError."""
        spare, self._spare = self._spare, None
        self._fork_at = None  # beside this one it would take a processor from it
        if spare is not None and _told(spare.link, packet, descriptors):
            del self._untold[spare.pid]
            return spare
        link, theirs = protocol.socket_pair()
        with theirs:
            try:
                socket.send_fds(link, [packet], descriptors)  # before the fork: so it knows that somebody waits
                return self._fork(link, theirs)
            except BaseException:
                link.close()
                raise

    def drop(self) -> None:
        """Nobody is expected any more."""
        self._fork_at = self._drop_at = None
        if self._spare is not None:
            self._spare.link.close()
            self._spare = None

    def _fork(self, link: socket.socket, theirs: socket.socket) -> Forked:
        words = LastWords()
        try:
            return Forked(self._start(theirs, words), words, link)
        except BaseException:
            words.close()
            raise

    # -- for the loop -------------------------------------------------------------------------------------------------

    @property
    def pids(self) -> set[int]:
        """Those that nobody has told yet what they are for."""
        return set(self._untold)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return min((at for at in (self._fork_at, self._drop_at) if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        if self._drop_at is not None and now >= self._drop_at:
            self.drop()
        if self._fork_at is None or now < self._fork_at:
            return
        self._fork_at = None
        with suppress(OSError):  # the next one that is needed can't be forked either, and that is said
            link, theirs = protocol.socket_pair()
            with theirs:
                try:
                    self._spare = self._fork(link, theirs)
                except BaseException:
                    link.close()
                    raise
            self._untold[self._spare.pid] = self._spare

    def ended(self, pid: int) -> LastWords | None:
        """The process `pid` was reaped; what it said, if it was one of `pids`."""
        forked = self._untold.pop(pid, None)
        if forked is None:
            return None
        if self._spare is forked:
            self._spare = None
        forked.link.close()
        return forked.words

    def kill(self) -> None:
        """End those that are there, whatever they do."""
        self.drop()
        for pid in self._untold:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def give_up(self) -> None:
        """Those that are there hang in the kernel: forget them."""
        for forked in self._untold.values():
            forked.words.close()
        self._untold.clear()


def _told(link: socket.socket, packet: bytes, descriptors: list[int]) -> bool:
    """Tell a process that was forked ahead; False: it has ended, or does not read."""
    try:
        socket.send_fds(link, [packet], descriptors, socket.MSG_DONTWAIT)
    except OSError:
        link.close()
        return False
    return True
