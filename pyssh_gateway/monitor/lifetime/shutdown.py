"""Stops the server, or has the machine suspended: tells clients, ends sessions, runs hooks, and then does it.

The order matters: connections are refused before anybody is told; clients are told why before their connection closes;
every line of the log is in the file before the machine may be gone.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Stop
from pyssh_gateway.core.idle.stopping import Clocks, Farewell, farewell, hook_seconds, session_seconds
from pyssh_gateway.events import ConnectionOpened, HoldStarted, Record, ServerStopped, ServerStopping, StopStep
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.machine import history
from pyssh_gateway.machine.stop import Starter, Steps
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.lifetime.door import Door
from pyssh_gateway.monitor.lifetime.elsewhere import Elsewhere
from pyssh_gateway.monitor.lifetime.for_nobody import ForNobody
from pyssh_gateway.system.threads import in_daemon_thread

FLUSH_SECONDS = 0.5
"""How long the last bytes (disconnect messages) may take to leave once everything has been closed."""

DISK_SECONDS = 1.0
"""How long the disk may take to store why we stop, and what was written before the machine may be gone. After that it
is not waited for."""


class StopReason(msgspec.Struct, frozen=True):
    """Why the monitor leaves: "idle", or "signal"."""

    name: str
    detail: str


class Leaving:
    """Carries out a stop. `awake` knows since when the machine is awake, `for_nobody` counts whether that was in vain.

    `needed` says whether there is a reason to stay up after all; `resumed` is told for how many seconds the machine was
    suspended. `stop_services` returns when the services have ended, within a time limit of their own; a suspended
    machine keeps them. `sign_log` signs the log, within so many seconds.
    """

    def __init__(
        self,
        settings: Stop,
        starter: Starter,
        *,
        registry: Clients,
        door: Door,
        bus: EventBus,
        clocks: Callable[[], Clocks],
        awake: Awake,
        for_nobody: ForNobody,
        needed: Callable[[], bool],
        resumed: Callable[[float], None],
        stop_services: Callable[[], Awaitable[None]],
        sign_log: Callable[[float], Awaitable[object]],
        elsewhere: Elsewhere,
    ) -> None:
        self._settings = self._next_settings = settings
        self._registry = registry
        self._door = door
        self._bus = bus
        self._clocks = clocks
        self._awake = awake
        self._for_nobody = for_nobody
        self._needed = needed
        self._resumed = resumed
        self._stop_services = stop_services
        self._sign_log = sign_log
        self._elsewhere = elsewhere
        self._came = False
        self._going = False
        bus.subscribe(self._observe)
        self._steps = Steps(settings, starter, publish=bus.publish, clocks=clocks)

    def reconfigure(self, settings: Stop) -> None:
        """Use other settings from the next stop on."""
        self._next_settings = settings

    def hurry(self) -> None:
        """A signal has come: the rest of a stop may take as long as a whole stop after a signal."""
        self._steps.hurry(self._settings.drain + FLUSH_SECONDS)

    async def leave(self, reason: StopReason) -> None:
        """Do everything up to the last line of the log."""
        await self._see_off(reason)
        await self._stop_services()
        if reason.name == "idle" and self._settings.action == "command":
            await self._sync()  # the command may leave us no time
            await self._steps.run_command()
        self._finish(reason)

    async def suspend(self, reason: StopReason, interrupted: "asyncio.Future[StopReason]") -> bool:
        """Have the machine suspended. True: it is back, and clients are let in again. False: we have to leave.

        `interrupted` is done if we have to leave meanwhile, and says why.
        """
        await self._see_off(reason)
        await self._sync()
        self._came = False
        if self._needed() and not interrupted.done():  # for example a hold, which was confirmed to its asker
            why = "not asked for: the machine is needed again"
            self._bus.publish(StopStep(step="suspend", outcome=why, result="called_off", seconds=0))
            self.open()
            return True
        self._going = True
        gone = None if interrupted.done() else await self._steps.suspend(self, interrupted)
        if gone is not None and not interrupted.done():
            self._resumed(gone)
            return True
        self._going = True
        self._door.stop()
        left = interrupted.result() if interrupted.done() else reason
        await self._part_with_clients(farewell(left.name, "exit", left.detail), 0.0)
        await self._stop_services()
        self._finish(left)
        return False

    # -- what suspending needs ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Let clients in again, and grant holds again."""
        self._going = False
        self._door.resume()

    @property
    def wanted(self) -> bool:
        """Whether a client has connected, and may have left again, or a hold was granted, since the suspend began."""
        return self._came

    @property
    def going(self) -> bool:
        """Whether it is too late to keep the machine up: the last check is over, and connections are refused."""
        return self._going

    def _observe(self, record: Record) -> None:
        self._came = self._came or isinstance(record.event, ConnectionOpened | HoldStarted)

    # -- in order -----------------------------------------------------------------------------------------------

    async def _see_off(self, reason: StopReason) -> None:
        """Refuse new connections, let clients finish within their time, say goodbye, run the hooks."""
        self._settings = settings = self._next_settings
        self._steps.reconfigure(settings)
        began = self._clocks().steady
        self._door.stop()
        action = settings.action if reason.name == "idle" else "exit"
        self._bus.publish(
            ServerStopping(
                reason=reason.name,
                detail=reason.detail,
                connections=len(self._registry.clients) + len(self._registry.strangers),
                sessions=len(self._registry.sessions),
                action=action,
            )
        )
        drain, hook_timeout, hooks = float(settings.drain), float(settings.hook_timeout), len(settings.hooks)
        seconds = session_seconds(reason.name, drain, hook_timeout, hooks)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._remember(reason, action))
            await self._part_with_clients(farewell(reason.name, action, reason.detail), seconds)
        spent = self._clocks().steady - began
        await self._steps.run_hooks(hook_seconds(reason.name, drain, hook_timeout, spent))

    async def _part_with_clients(self, words: Farewell, seconds: float) -> None:
        """Tell the clients, end their sessions, and close what is left after `seconds`."""
        registry = self._registry
        for stranger in registry.strangers:
            stranger.disconnect(words.message)
        registry.announce(words.screen)
        if registry.clients:
            await self._elsewhere.announce(words.screen)
        registry.hang_up()
        await self._until_gone(lambda: not registry.sessions, seconds)
        registry.disconnect(words.message)
        await self._until_gone(lambda: not registry.clients and not registry.strangers, FLUSH_SECONDS)

    async def _until_gone(self, gone: Callable[[], bool], seconds: float) -> None:
        """Wait until `gone()`, looking again whenever a session or connection closes, for `seconds` at most."""
        changed = asyncio.Event()
        unsubscribe = self._bus.subscribe(lambda _record: changed.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not gone():
                    await changed.wait()
                    changed.clear()
        unsubscribe()

    async def _remember(self, reason: StopReason, action: str) -> None:
        """Write down why we stop and whether the machine was up for nobody, for people who ask after the next start."""
        is_idle = reason.name == "idle"
        stop = history.StopRecord(
            time=self._clocks().wall,
            since=self._awake.since,
            reason=reason.name,
            detail=reason.detail,
            action=action,
            woken_by=self._awake.woken_by,
            for_nobody=is_idle and self._for_nobody.source() is not None,
        )
        count = self._for_nobody.note() if is_idle else None

        def write() -> None:
            try:
                history.append(Path(), stop)  # the working directory is the one that the monitor may write to
            finally:
                if count is not None:
                    count()

        await self._on_disk("remember why", write)

    async def _sync(self) -> None:
        """Sync what has been written to the disk, the log above all: the machine's memory may not come back."""
        await self._sign_log(DISK_SECONDS)
        await self._on_disk("sync", os.sync)

    async def _on_disk(self, step: str, work: Callable[[], None]) -> None:
        began = self._clocks().steady
        try:
            async with asyncio.timeout(DISK_SECONDS):
                await in_daemon_thread(work, name="stop-disk")
        except OSError as error:  # TimeoutError is one
            seconds = round(self._clocks().steady - began, 3)
            why = error.strerror or "the disk is slow"
            self._bus.publish(StopStep(step=step, outcome=why, result="failed", seconds=seconds))

    def _finish(self, reason: StopReason) -> None:
        self._bus.publish(ServerStopped(reason=reason.name, exit_code=0))
