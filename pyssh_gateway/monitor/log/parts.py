"""The parts of the monitor that are about the log, made in the order in which they depend on others."""

import asyncio
import time
from collections.abc import Callable

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.monitor.log.checkpoints.schedule import Checkpoints
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.monitor.log.keeping import LogKeeper
from pyssh_gateway.monitor.log.progress import LogProgress
from pyssh_gateway.monitor.log.required import RequiredLog
from pyssh_gateway.monitor.log.shares import Shares
from pyssh_gateway.monitor.log.writing import LogWriting


class TheLog:
    """`writing` hands events to `audit`, and `last` is the number of the last event before this monitor's.

    `shares` bounds what an account adds to it. `required` keeps people out while the log can't be written.
    `checkpoints` signs it, and `keeper` closes its files.
    `descriptor` is the memory file that is passed on to the next monitor.
    """

    checkpoints: Checkpoints
    keeper: LogKeeper

    def __init__(
        self,
        audit: AuditLog,
        descriptor: int,
        registry: Registry,
        in_force: InForce,
        complain: Callable[[str], None],
    ) -> None:
        progress = LogProgress(descriptor)
        progress.settle(audit.written)
        self.last = max(progress.line, audit.seq)
        self.writing = LogWriting(audit, progress)
        self.shares = Shares(lambda: in_force.config.audit.keep_size)
        self.required = RequiredLog(audit, in_force, registry, complain)
        self._audit = audit
        self._in_force = in_force
        self._complain = complain

    def subscribe(self, bus: EventBus) -> None:
        """Get all events, before every other part does."""
        bus.subscribe(self.writing)
        bus.subscribe(self.required.observe)

    def keep(
        self,
        spawner: MonitorSpawnerClient,
        signer: Signer,
        bus: EventBus,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Make the parts that need the spawner, which opens and closes the files."""
        self.checkpoints = Checkpoints(self._audit, signer, complain=self._complain, clock=time.time, loop=loop)
        self.keeper = LogKeeper(
            self._audit,
            self.checkpoints,
            spawner=spawner,
            settings=lambda: self._in_force.config.audit,
            publish=bus.publish,
            complain=self._complain,
            clock=time.time,
            loop=loop,
            on_look=self.required.check,
        )

    def begin(self, bus: EventBus) -> None:
        """Write the events that have waited, and from now on each as it comes."""
        self.writing.begin()
        bus.subscribe(self.keeper.observe)
