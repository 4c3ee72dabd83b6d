"""The parts that decide whether the machine is needed, and those that stop the server: how they are put together."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.lifetime.departure import Departure
from pyssh_gateway.monitor.lifetime.door import Door
from pyssh_gateway.monitor.lifetime.elsewhere import SpokenElsewhere
from pyssh_gateway.monitor.lifetime.for_nobody import ForNobody
from pyssh_gateway.monitor.lifetime.holds import Holds
from pyssh_gateway.monitor.lifetime.idle_watch import IdleWatch
from pyssh_gateway.monitor.lifetime.returning import Returning
from pyssh_gateway.monitor.lifetime.shutdown import Leaving
from pyssh_gateway.monitor.lifetime.stop_jobs import SpawnerJobs


class Surroundings(msgspec.Struct, frozen=True):
    """The other parts of the monitor that these need.

    `start` begins a task that somebody else owns; `sign_log` signs the log, within so many seconds.
    """

    spawner: MonitorSpawnerClient
    registry: Registry
    door: Door
    departure: Departure
    awake: Awake
    returning: Returning
    start: Callable[[Coroutine[Any, Any, None], str], object]
    sign_log: Callable[[float], Awaitable[object]]
    clocks: Callable[[], Clocks]
    loop: asyncio.AbstractEventLoop


class Lifetime:
    """Made in the order in which they need each other; each is used by its name."""

    def __init__(self, facts: Facts, around: Surroundings, bus: EventBus) -> None:
        config, spawner, loop = facts.config, around.spawner, around.loop
        self.holds = Holds(
            limit=float(config.idle.hold_max),
            fresh=facts.generation == 1,
            publish=bus.publish,
            clock=time.time,
            loop=loop,
            going=lambda: self.leaving.going,
        )
        self._elsewhere = SpokenElsewhere(
            config, spawner, around.registry, publish=bus.publish, start=around.start, loop=loop
        )
        self.watch = IdleWatch(
            config.idle,
            wake=around.awake.wake,
            registry=around.registry,
            door=around.door,
            publish=bus.publish,
            leave=around.departure.idle,
            sample=self._elsewhere.sample,
            hold=self.holds.hold_process,
            on_probation=lambda: around.returning.on_probation,
            elsewhere=self._elsewhere,
            now=loop.time,
            clock=time.time,
        )
        self.for_nobody = ForNobody(around.awake, around.returning, in_use=self._in_use, clock=time.time)
        self.leaving = Leaving(
            config.stop,
            SpawnerJobs(spawner, loop),
            registry=around.registry,
            door=around.door,
            bus=bus,
            clocks=around.clocks,
            awake=around.awake,
            for_nobody=self.for_nobody,
            needed=self._in_use,
            resumed=self.watch.resumed,
            stop_services=lambda: spawner.stop_services(config.boot.service),
            sign_log=around.sign_log,
            elsewhere=self._elsewhere,
        )
        around.departure.when_signalled(self.leaving.hurry)

    def reconfigure(self, config: Config) -> None:
        """Use other settings from now on, as far as they can change while the server runs."""
        self.watch.reconfigure(config.idle)
        self.leaving.reconfigure(config.stop)
        self._elsewhere.reconfigure(config)
        self.holds.limit_to(float(config.idle.hold_max))

    def _in_use(self) -> bool:
        return self.watch.tracker.in_use
