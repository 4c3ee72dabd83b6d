"""Keeps the log where people look for it: opens it anew when it was moved or deleted, or when that is asked for.

This process can't open files any more: the spawner does, and passes the descriptor.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.events import AnyEvent, AuditLost, AuditReopened, Record
from pyssh_gateway.ipc.spawner_client import SpawnRefused

LOOK_SECONDS = 1.0
"""How often we check whether the file is in its place, and only when something is written. Lines written in between are
not lost: a file that was moved has them, and from a file that was deleted they are copied. Lines that wait to be shown
together with a later event are shown as often as that."""

RETRY_SECONDS = 30.0
"""How long not to try again after the log could not be opened: each try is a request to the spawner."""

FINISH_SECONDS = 1.0
"""How long a stop may take to reopen the log: as long as for everything else that it writes down."""


class LogKeeper:
    """Has `audit` write to a new file when that is due. `open_log` gives its descriptor, or raises SpawnRefused.

    `complain` says something that can't go into the log.
    """

    def __init__(
        self,
        audit: AuditLog,
        *,
        open_log: Callable[[], Awaitable[int]],
        publish: Callable[[AnyEvent], None],
        complain: Callable[[str], None],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._audit = audit
        self._open_log = open_log
        self._publish = publish
        self._complain = complain
        self._clock = clock
        self._loop = loop
        self._look_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._moved = asyncio.Event()
        self._is_lost = False

    def observe(self, _record: Record) -> None:
        """A line has been written: check the file's place now, or soon if that was done just before."""
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._look_at, self._loop.time()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._look_at = self._loop.time() + LOOK_SECONDS
        if self._audit.show_overdue(self._clock()):
            self._timer = self._loop.call_at(self._look_at, self._look)
        if not self._audit.is_in_place:
            self._moved.set()

    async def run(self) -> None:
        """Follow the file until cancelled."""
        try:
            while True:
                await self._moved.wait()
                self._moved.clear()
                await self.reopen()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def finish(self) -> None:
        """After the last line: if the file was deleted just before, bring its lines to where they can be read."""
        if not self._audit.is_in_place:
            with suppress(SpawnRefused, TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    self._audit.reopen(await self._open_log())

    async def reopen(self) -> None:
        """Open the log where the configuration has it, and write there from now on."""
        try:
            descriptor = await self._open_log()
        except SpawnRefused as error:
            self._look_at = self._loop.time() + RETRY_SECONDS
            if not self._is_lost:
                self._is_lost = True
                self._complain(f"the log can't be opened anew, and goes on where it was: {error}")
                self._publish(AuditLost(reason=str(error)))
            return
        if self._audit.reopen(descriptor):
            self._publish(AuditReopened())
        self._is_lost = False
