"""The watch: ends that are times of day, on a clock that stands still or runs on while the machine sleeps."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import AnyEvent, HoldStarted, MachineResumed, Record, ScheduleEntered
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime.door import Door
from pyssh_gateway.monitor.lifetime.idle_watch import IdleWatch
from tests.support.waiting import PATIENCE

HOUR = 3600.0
NOW = 1_795_000_000.0

TURNS = 100
"""Turns of the loop in which watches that are cancelled have ended, and others begun: each takes a few."""


class Watched:
    """A watch with both clocks, which the test turns: `steady` by how far the loop's is ahead, `wall` the other one."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.steady = 0.0
        self.wall = 0.0
        self.resumed: list[float] = []
        self.told = asyncio.Event()
        self.now: Callable[[], float] = lambda: loop.time() + self.steady
        self.bus = EventBus(lambda: NOW, pytest.fail)
        self.watch = IdleWatch(
            Idle(timeout=Duration(60)),
            wake=Wake(NOW, Clocks(self.now(), NOW)),
            registry=cast(Clients, None),  # nobody comes
            door=cast(Door, None),
            publish=self.bus.publish,
            leave=lambda _why: None,
            sample=self._no_sample,
            now=self.now,
            clock=lambda: NOW + loop.time() + self.wall,
        )
        self.bus.subscribe(self.watch.observe)
        self.bus.subscribe(self._observe)

    def hold(self, seconds: float) -> None:
        """A hold begins."""
        self.bus.publish(HoldStarted(hold="h", user="amos", seconds=seconds, reason="a build", pid=0))

    @property
    def left(self) -> float | None:
        """For how long the hold lasts, as the tracker has it; None if it has none."""
        reasons = self.watch.tracker.reasons(self.now())
        ends = [one.until for one in reasons if one.kind == "hold" and one.until is not None]
        return ends[0] - self.now() if ends else None

    def _observe(self, record: Record) -> None:
        event: AnyEvent = record.event
        if isinstance(event, MachineResumed):
            self.resumed.append(event.seconds)
            self.told.set()

    async def _no_sample(self) -> Sample:
        raise AssertionError


def run(test: Callable[[Watched], Awaitable[None]]) -> None:
    """Play a test in a loop."""

    async def play() -> None:
        async with asyncio.timeout(PATIENCE):
            await test(Watched())

    asyncio.run(play())


@pytest.mark.parametrize(("steady", "wall"), [(0.0, HOUR), (HOUR, HOUR)])
def test_a_hold_ends_at_its_time_of_day(steady: float, wall: float) -> None:
    """Protects a build over a suspend: whichever clock stood still, the hour away is taken from its hold once."""

    async def test(watched: Watched) -> None:
        watched.hold(2 * HOUR)
        watched.steady += steady
        watched.wall += wall
        watched.watch.resumed(HOUR)
        assert watched.left == pytest.approx(HOUR, abs=PATIENCE)
        assert watched.resumed == [HOUR]

    run(test)


def test_a_hold_that_began_after_the_suspend_lasts_as_long_as_it_says() -> None:
    """Protects who asks just after the machine is back: the time away, which nobody has told of yet, is not theirs."""

    async def test(watched: Watched) -> None:
        watched.wall += HOUR
        watched.hold(HOUR)
        watched.watch.resumed(HOUR)
        assert watched.left == pytest.approx(HOUR, abs=PATIENCE)

    run(test)


def test_a_jump_of_the_clock_is_told_once() -> None:
    """Protects the same where the machine was suspended by somebody else: an event shows it, and that is told."""

    async def test(watched: Watched) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched.watch.run())
            await asyncio.sleep(0)
            watched.wall += HOUR
            watched.hold(2 * HOUR)
            await watched.told.wait()
            watching.cancel()
        assert watched.resumed == [pytest.approx(HOUR, abs=1)]
        assert watched.left == pytest.approx(2 * HOUR, abs=PATIENCE)

    run(test)


def test_other_settings_are_watched_by_from_now_on() -> None:
    """Protects a reload: hours that are added hold the machine at once, those that are taken away do not any more."""
    always = "mon-sun 00:00-24:00"

    async def test(watched: Watched) -> None:
        entered = asyncio.Event()
        watched.bus.subscribe(lambda record: entered.set() if isinstance(record.event, ScheduleEntered) else None)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched.watch.run())
            await asyncio.sleep(0)
            watched.watch.reconfigure(Idle(timeout=Duration(60), schedule=(always,)))
            await entered.wait()
            assert [one.kind for one in watched.watch.tracker.reasons(watched.now())] == ["schedule"]
            watched.watch.reconfigure(Idle(timeout=Duration(60), client_idle=Duration(60)))
            watched.watch.reconfigure(Idle(timeout=Duration(120)))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert watched.watch.tracker.stops_in(watched.now()) == pytest.approx(120, abs=PATIENCE)
            watching.cancel()

    run(test)
