"""What the log has for `pyssh-gateway idle what-if`: when clients were used, and what worked beside them."""

import asyncio
from collections.abc import Awaitable, Callable

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.tracker import IdleTracker
from pyssh_gateway.core.idle.usage import Usage
from pyssh_gateway.events import AnyEvent, Record
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime.use_watch import UseWatch
from pyssh_gateway.monitor.lifetime.work_watch import WorkWatch


class Recording:
    """Puts the two watches together; the parameters are those of `IdleWatch`, which owns it."""

    def __init__(
        self,
        settings: config.Idle,
        *,
        registry: Clients,
        tracker: IdleTracker,
        sample: Callable[[], Awaitable[Sample]],
        publish: Callable[[AnyEvent], None],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        def held() -> bool:
            return any(reason.kind == "connection" for reason in tracker.reasons(now()))

        self._work = WorkWatch(settings, held=held, sample=sample, publish=publish, soon=_soon, clock=clock)
        self._uses = UseWatch(
            settings, registry=registry, publish=publish, clock=clock, now=now, soon=_soon, also=self._work.looked
        )

    def reconfigure(self, settings: config.Idle) -> None:
        """Use other settings from now on."""
        self._uses.reconfigure(settings)
        self._work.reconfigure(settings)

    def observe(self, record: Record) -> None:
        """Something has happened; the tracker knows it already."""
        self._uses.observe(record)
        self._work.observe(record)

    def looked(self, usage: Usage) -> None:
        """The idle watch has looked at the clients."""
        self._uses.looked(usage)

    async def run(self) -> None:
        """Look at the clients while the idle watch does not, and at what works, until cancelled."""
        async with asyncio.TaskGroup() as watches:
            watches.create_task(self._uses.run(), name="uses")
            watches.create_task(self._work.run(), name="work")


def _soon(call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(call)
