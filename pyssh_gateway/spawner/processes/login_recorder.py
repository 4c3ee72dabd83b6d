"""Keeps the machine's login records (who, last) for the spawner, without waiting for a lock.

Every account may read these files, and so can hold a lock on them for as long as it likes. If a file is locked, the
record is tried again a few times, while the spawner does other things, and then written as far as that is possible.
"""

import os
import time
from collections import deque
from collections.abc import Callable

from pyssh_gateway.spawner.processes import login_records
from pyssh_gateway.spawner.processes.login_records import Files
from pyssh_gateway.spawner.processes.process import Child

ATTEMPTS = 5
PAUSE_SECONDS = 0.002
"""Programs that read or write these files hold their locks for microseconds."""

MAX_WAITING = 64
"""How many records may wait for a lock. With more, the files seem locked for good, and each record is tried once."""


class LoginRecorder:
    """Writes records in their order, if the server is root. `say` is told each problem once."""

    def __init__(self, say: Callable[[str], None], files: Files | None = None) -> None:
        self._say = say
        self._files = files or Files()
        self._waiting: deque[Callable[[], tuple[str, ...]]] = deque()
        self._attempts = 0
        self._due: float | None = None
        self._told: set[str] = set()

    def login(self, child: Child, peer: str) -> None:
        """Record that a user from the address `peer` has the terminal of `child`."""
        when = time.time()
        self._add(
            lambda: login_records.record_login(
                user=child.user, uid=child.uid, pid=child.pid, tty=child.tty, peer=peer, when=when, files=self._files
            )
        )

    def logout(self, child: Child) -> None:
        """Record that the session of `child` has ended."""
        when = time.time()
        self._add(lambda: login_records.record_logout(pid=child.pid, tty=child.tty, when=when, files=self._files))

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return self._due

    def tick(self, now: float) -> None:
        """Write what can be written at `now`, on the clock of `time.monotonic()`."""
        if self._due is not None and now < self._due and len(self._waiting) <= MAX_WAITING:
            return
        self._due = None
        while self._waiting:
            self._attempts += 1
            locked = login_records.are_locked(self._files)
            if locked and self._attempts < ATTEMPTS and len(self._waiting) <= MAX_WAITING:
                self._due = now + PAUSE_SECONDS
                return
            self._write()

    def finish(self) -> None:
        """Write all waiting records, as far as that is possible."""
        while self._waiting:
            self._write()

    def _write(self) -> None:
        self._attempts = 0
        for problem in self._waiting.popleft()():
            if problem not in self._told:
                self._told.add(problem)
                self._say(problem)

    def _add(self, record: Callable[[], tuple[str, ...]]) -> None:
        if os.geteuid() == 0:
            self._waiting.append(record)
            self.tick(time.monotonic())
