"""Processes that get their assignment after the fork; a spare one is kept for the next login or command.

The fork, with the copying of the spawner's memory pages after it, is the slowest part of starting a login or a command
here. So while a request is likely, a spare process is forked ahead and waits for its assignment. Without a spare, a new
process is forked with the message waiting for it, and runs the same code.
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
"""How long a spare is kept after a request was last expected. It takes 3 to 8 MiB of memory, which an idle server need
not use."""

Start = Callable[[socket.socket, LastWords], int]
"""Forks a process that reads its assignment from the socket and has the last words as its standard error -> pid."""


class Forked(msgspec.Struct, frozen=True):
    """A forked process. It reads its assignment from the other end of `link`, and ends if `link` closes before."""

    pid: int
    words: LastWords
    link: socket.socket


class ForkedAhead:
    """Forks such processes, and keeps a spare one. Times are `time.monotonic()`'s; `start` raises OSError.

    Those without an assignment are in `pids`; report their end to `ended`.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._spare: Forked | None = None
        self._untold: dict[int, Forked] = {}
        self._fork_at: float | None = None
        self._drop_at: float | None = None

    # -- for logins and sessions --------------------------------------------------------------------------------------

    def expect(self, now: float, after: float = 0.0) -> None:
        """A request is likely: have a spare in `after` seconds."""
        self._drop_at = now + SPARE_SECONDS
        if self._spare is None and self._fork_at is None:
            self._fork_at = now + after

    def tell(self, packet: bytes, descriptors: list[int]) -> Forked:
        """A process that is sent `packet` and copies of `descriptors`. The caller has to reap it. Raises OSError."""
        spare, self._spare = self._spare, None
        self._fork_at = None  # a fork now would take a processor from this process
        if spare is not None and _told(spare.link, packet, descriptors):
            del self._untold[spare.pid]
            return spare
        link, theirs = protocol.socket_pair()
        with theirs:
            try:
                socket.send_fds(link, [packet], descriptors)  # before the fork, so that it sees that a user waits
                return self._fork(link, theirs)
            except BaseException:
                link.close()
                raise

    def drop(self) -> None:
        """No request is expected any more: end the spare."""
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
        """The processes without an assignment."""
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
        with suppress(OSError):  # if it is needed, `tell` will fail as well, and that is reported
            link, theirs = protocol.socket_pair()
            with theirs:
                try:
                    self._spare = self._fork(link, theirs)
                except BaseException:
                    link.close()
                    raise
            self._untold[self._spare.pid] = self._spare

    def ended(self, pid: int) -> LastWords | None:
        """The process `pid` was reaped; returns its last words, if it was one of `pids`."""
        forked = self._untold.pop(pid, None)
        if forked is None:
            return None
        if self._spare is forked:
            self._spare = None
        forked.link.close()
        return forked.words

    def kill(self) -> None:
        """Kill all of `pids`."""
        self.drop()
        for pid in self._untold:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def give_up(self) -> None:
        """Forget all of `pids`: they hang in the kernel."""
        for forked in self._untold.values():
            forked.words.close()
        self._untold.clear()


def _told(link: socket.socket, packet: bytes, descriptors: list[int]) -> bool:
    """Send the assignment to a process that was forked ahead; False: it has ended, or does not read."""
    try:
        socket.send_fds(link, [packet], descriptors, socket.MSG_DONTWAIT)
    except OSError:
        link.close()
        return False
    return True
