"""What a stop says elsewhere than on the terminals of sessions: by commands and webhooks, and on other terminals."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.warnings import StopWarning
from pyssh_gateway.events import AnyEvent
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.lifetime.left_terminals import LeftTerminals
from pyssh_gateway.monitor.lifetime.stop_jobs import SpawnerJobs
from pyssh_gateway.monitor.lifetime.warnings import Warnings


class Elsewhere(Protocol):
    """Reaches people who may not see a session's terminal."""

    async def warn(self, text: str, seconds: float, people: tuple[str, ...]) -> None:
        """The machine stops in `seconds`: show `text`, and run `stop.warn`. `people` are on, but use no client."""

    async def announce(self, text: str) -> None:
        """Show `text` on other terminals; takes half a second at most."""


class SpokenElsewhere:
    """The parts, put together. `start` begins a task that somebody else owns."""

    def __init__(
        self,
        config: Config,
        spawner: MonitorSpawnerClient,
        registry: Registry,
        *,
        publish: Callable[[AnyEvent], None],
        start: Callable[[Coroutine[Any, Any, None], str], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._terminals = LeftTerminals(
            spawner.sample_activity,
            ours=lambda: [session.tty for session in registry.sessions],
            show=registry.show_on,
            now=loop.time,
        )
        self._warnings = Warnings(config, SpawnerJobs(spawner, loop), publish=publish, start=start, now=loop.time)

    def reconfigure(self, config: Config) -> None:
        """Use other settings from the next warning on."""
        self._warnings.reconfigure(config)

    async def sample(self) -> Sample:
        """What the processes of sessions have used so far; remembered for `announce`. Raises `SpawnRefused`."""
        return await self._terminals.sample()

    async def warn(self, text: str, seconds: float, people: tuple[str, ...]) -> None:
        """As in `Elsewhere`."""
        self._warnings.warn(StopWarning(os.uname().nodename, round(seconds), people))
        await self._terminals.announce(text)

    async def announce(self, text: str) -> None:
        """As in `Elsewhere`."""
        await self._terminals.announce(text)
