"""The watch: deadlines at a time of day, with clocks that stand still or run on while the machine is suspended."""

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
"""Turns of the loop in which cancelled watches end and others begin: each needs a few."""


class Watched:
    """A watch with two clocks that the test moves: `steady` is how far the loop's is ahead, `wall` the other one."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.steady = 0.0
        self.wall = 0.0
        self.resumed: list[float] = []
        self.told = asyncio.Event()
        self.now: Callable[[], float] = lambda: loop.time() + self.steady
        self.bus = EventBus(lambda: NOW, pytest.fail)
        self.watch = IdleWatch(
            Idle(background="ignore", timeout=Duration(60)),
            wake=Wake(NOW, Clocks(self.now(), NOW)),
            registry=cast(Clients, None),  # there are no clients
            door=cast(Door, None),
            publish=self.bus.publish,
            leave=lambda _why: None,
            sample=self._no_sample,
            hold=lambda _wish: None,
            now=self.now,
            clock=lambda: NOW + loop.time() + self.wall,
        )
        self.bus.subscribe(self.watch.observe)
        self.bus.subscribe(self._observe)

    def hold(self, seconds: float) -> None:
        """Start a hold."""
        self.bus.publish(HoldStarted(hold="h", user="amos", seconds=seconds, reason="a build", pid=0))

    @property
    def left(self) -> float | None:
        """How long the hold lasts according to the tracker; None without a hold."""
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
    """Run a test in a loop."""

    async def play() -> None:
        async with asyncio.timeout(PATIENCE):
            await test(Watched())

    asyncio.run(play())


@pytest.mark.parametrize(("steady", "wall"), [(0.0, HOUR), (HOUR, HOUR)])
def test_a_hold_ends_at_its_time_of_day(steady: float, wall: float) -> None:
    """Protects a build across a suspend: whichever clock stood still, the time away is taken from its hold once."""

    async def test(watched: Watched) -> None:
        watched.hold(2 * HOUR)
        watched.steady += steady
        watched.wall += wall
        watched.watch.resumed(HOUR)
        assert watched.left == pytest.approx(HOUR, abs=PATIENCE)
        assert watched.resumed == [HOUR]

    run(test)


def test_a_hold_that_began_after_the_suspend_lasts_as_long_as_it_says() -> None:
    """Protects a hold that begins just after a resume, before that is reported: the time away is not taken from it."""

    async def test(watched: Watched) -> None:
        watched.wall += HOUR
        watched.hold(HOUR)
        watched.watch.resumed(HOUR)
        assert watched.left == pytest.approx(HOUR, abs=PATIENCE)

    run(test)


def test_a_jump_of_the_clock_is_told_once() -> None:
    """Protects the same if another party suspended the machine: an event shows the jump, and it is reported once."""

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
    """Protects a reload: added hours keep the machine up at once, and removed hours do not any more."""
    always = "mon-sun 00:00-24:00"

    async def test(watched: Watched) -> None:
        entered = asyncio.Event()
        watched.bus.subscribe(lambda record: entered.set() if isinstance(record.event, ScheduleEntered) else None)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched.watch.run())
            await asyncio.sleep(0)
            watched.watch.reconfigure(Idle(background="ignore", timeout=Duration(60), schedule=(always,)))
            await entered.wait()
            assert [one.kind for one in watched.watch.tracker.reasons(watched.now())] == ["schedule"]
            watched.watch.reconfigure(Idle(background="ignore", timeout=Duration(60), client_idle=Duration(60)))
            watched.watch.reconfigure(Idle(background="ignore", timeout=Duration(120)))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert watched.watch.tracker.stops_in(watched.now()) == pytest.approx(120, abs=PATIENCE)
            watching.cancel()

    run(test)
