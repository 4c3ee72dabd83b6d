"""When checkpoints are signed: soon after a line, but at most once a minute; and before the log may be gone.

A checkpoint covers only what is on the disk: after a power failure the log must not have fewer lines than were signed.
"""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.events import Record
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.system.threads import in_daemon_thread

SETTLE_SECONDS = 5.0
"""How long after a line the checkpoint comes, so that it covers the lines that follow at once, as those of a login."""

PERIOD_SECONDS = 60.0
"""The time from one checkpoint to the next, at least."""

SYNC_SECONDS = 10.0
"""How long the disk may take. After that there is no checkpoint this time."""


class Checkpoints:
    """Signs checkpoints of `audit`. `complain` says something that can't go into the log."""

    def __init__(
        self,
        audit: AuditLog,
        signer: Signer,
        *,
        complain: Callable[[str], None],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._audit = audit
        self._signer = signer
        self._complain = complain
        self._clock = clock
        self._loop = loop
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._has_failed = False
        self._nobody_syncs = asyncio.Event()
        self._nobody_syncs.set()

    def observe(self, _record: Record) -> None:
        """A line has been written: have it signed soon."""
        self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._loop.time() + SETTLE_SECONDS, self._next_at), self._due.set)

    async def run(self) -> None:
        """Sign until cancelled."""
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                self._timer = None
                self._next_at = self._loop.time() + PERIOD_SECONDS
                if not await self.sign():
                    self._arm()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def sign(self, within: float = SYNC_SECONDS) -> bool:
        """Sign what is in the log now, if the disk has it within so many seconds; returns whether that was possible."""
        async with self._one_at_a_time:
            if not self._audit.is_counted:  # after a start; it is soon
                return False
            claim = self._signer.claim(self._audit.tree)
            if claim is None:
                return True
            try:
                await self._sync(within)
            except OSError as error:  # TimeoutError is one
                if not self._has_failed:
                    self._has_failed = True
                    self._complain(f"the log can't be signed: {error.strerror or 'the disk is slow'}")
                return False
            self._has_failed = False
            note = self._signer.sign(claim)
            if note is not None:
                self._audit.add_checkpoint(self._clock(), note)
            return True

    async def _sync(self, within: float) -> None:
        """Sync the log. Raises OSError.

        A thread that is stuck in the kernel can't be ended: while there is one, no other is started.
        """
        async with asyncio.timeout(within):
            await self._nobody_syncs.wait()
            sync = self._audit.syncer()
            self._nobody_syncs.clear()
            try:
                await in_daemon_thread(partial(self._sync_now, sync), name="log-sync")
            except OSError as error:
                if error.errno == errno.EAGAIN:  # no thread could be started
                    sync.close()
                    self._nobody_syncs.set()
                raise

    def _sync_now(self, sync: Callable[[], None]) -> None:
        """Sync, in the thread."""
        try:
            sync()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._nobody_syncs.set)
