"""Keeps the log's files: closes the current one when it is large or old enough, and opens it anew if it has gone.

This process can't open files any more: the spawner does, and passes the descriptors.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config.types import Audit
from pyssh_gateway.events import AnyEvent, AuditLost, AuditReopened, Record
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.log.checkpoints.schedule import Checkpoints

LOOK_SECONDS = 1.0
"""How often we check whether the file is in its place, and only when something is written. Lines written in between are
not lost: a file that was moved has them, and from a file that was deleted they are copied. Lines that wait to be shown
together with a later event are shown as often as that."""

RETRY_SECONDS = 30.0
"""How long at most not to try again after the log could not be opened: each try is a request to the spawner. The first
time it is `LOOK_SECONDS`, then twice as long each time: perhaps nobody gets in meanwhile (`audit.required`)."""

TIDY_AFTER_SECONDS = 2.0
"""How long after the start old files are compressed and deleted: nobody who waits for the start is to wait for that."""

COUNT_PAUSE_SECONDS = 0.02
"""The pause between two steps in which lines of a large file are counted that have no state of their own: an old log's,
which has one file, or those of a server that was killed. Each step takes a few milliseconds."""

FINISH_SECONDS = 1.0
"""How long a stop may take to reopen the log: as long as for everything else that it writes down."""


class Spawner(Protocol):
    """Opens files for this process; all raise SpawnRefused."""

    async def open_log(self) -> list[int]:
        """The descriptors of the log, and perhaps of its state."""

    async def seal_log(self, first: int, inode: int) -> list[int]:
        """The same of a new file, after the present one was closed."""

    def tidy_log(self) -> None:
        """Have closed files compressed, and old ones deleted."""


class LogKeeper:
    """Has `audit` write to a new file when that is due.

    `checkpoints` signs what is in a file before it is closed. `settings` are those in force. `complain` says something
    that can't go into the log. `on_look` is called when it may be possible again to write what could not be written.
    """

    def __init__(
        self,
        audit: AuditLog,
        checkpoints: Checkpoints,
        *,
        spawner: Spawner,
        settings: Callable[[], Audit],
        publish: Callable[[AnyEvent], None],
        complain: Callable[[str], None],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self._audit = audit
        self._checkpoints = checkpoints
        self._spawner = spawner
        self._settings = settings
        self._publish = publish
        self._complain = complain
        self._clock = clock
        self._loop = loop
        self._on_look = on_look
        self._look_at = 0.0
        self._seal_at = 0.0
        self._tidy_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = asyncio.Event()
        self._is_lost = False
        self._retry = LOOK_SECONDS
        self._is_unsealed = False

    def observe(self, record: Record) -> None:
        """A line has been written: check the file's place now, or soon if that was done just before."""
        self._checkpoints.observe(record)
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._look_at, self._loop.time()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._look_at = self._loop.time() + LOOK_SECONDS
        waits = self._audit.show_overdue(self._clock())
        if not self._audit.write_waiting() or waits:
            self._timer = self._loop.call_at(self._look_at, self._look)
        if not self._audit.is_in_place or not self._audit.is_counted or self._is_due:
            self._wanted.set()
        self._on_look()

    @property
    def _is_due(self) -> bool:
        """Whether the file is to be closed."""
        if self._loop.time() < self._seal_at:
            return False
        settings = self._settings()
        return self._audit.is_due(self._clock(), size=settings.segment_size, age=settings.segment_age)

    async def run(self) -> None:
        """Follow the file until cancelled."""
        self._tidy_at = self._loop.time() + TIDY_AFTER_SECONDS
        tidy = self._loop.call_at(self._tidy_at, self._spawner.tidy_log)
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if not self._audit.is_in_place:
                    await self.reopen()
                if not self._audit.is_counted and not self._audit.catch_up():
                    self._loop.call_later(COUNT_PAUSE_SECONDS, self._wanted.set)
                elif self._is_due:
                    await self._seal()
        finally:
            tidy.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def finish(self) -> None:
        """After the last line: if the file is gone, bring its last lines to where they can be read."""
        if not self._audit.is_in_place:
            with suppress(SpawnRefused, TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    self._audit.reopen(*await self._spawner.open_log())

    async def reopen(self) -> None:
        """Open the log where the configuration has it, and write there from now on."""
        try:
            descriptors = await self._spawner.open_log()
        except SpawnRefused as error:
            self._look_at = self._loop.time() + self._retry
            self._retry = min(2 * self._retry, RETRY_SECONDS)
            if self._timer is None:  # also if nothing is written meanwhile
                self._timer = self._loop.call_at(self._look_at, self._look)
            self._audit.misplaced(str(error), self._clock())
            if not self._is_lost:
                self._is_lost = True
                self._complain(f"the log can't be opened anew, and goes on where it was: {error}")
                self._publish(AuditLost(reason=str(error)))
            return
        if self._audit.reopen(*descriptors):
            self._publish(AuditReopened())
        self._is_lost = False
        self._retry = LOOK_SECONDS
        self._on_look()

    async def _seal(self) -> None:
        """Have the file closed, and write to a new one. Until that is open, lines go to the old one."""
        await self._checkpoints.sign()
        try:
            descriptors = await self._spawner.seal_log(self._audit.first, self._audit.inode)
        except SpawnRefused as error:
            self._seal_at = self._loop.time() + RETRY_SECONDS
            if not self._is_unsealed:
                self._is_unsealed = True
                self._complain(f"the log's file can't be closed, and grows: {error}")
            return
        self._is_unsealed = False
        self._audit.reopen(*descriptors)
        # Not before the file is written to no more.
        self._loop.call_at(max(self._tidy_at, self._loop.time()), self._spawner.tidy_log)
