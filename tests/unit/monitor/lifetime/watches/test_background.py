"""monitor.lifetime.watches.background: when processes are sampled, and which events are published."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundWork,
    ConnectionAuthenticated,
    ConnectionClosed,
    HoldStarted,
    Identity,
)
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.watches.background import BackgroundWatch
from tests.support.waiting import PATIENCE

TIMEOUT = 0.06
INTERVAL = TIMEOUT / 3
WHO = Identity("github:example", None, "SHA256:x")

Scenario = Callable[["Watched"], Awaitable[None]]


class Watched:
    """A watch with its tracker; its processes work if `working` is set. `looks` counts the samples."""

    def __init__(self, maximum: float) -> None:
        self.working = True
        self.refused = False
        self.looks = 0
        self.looked = asyncio.Event()
        self.published: list[BackgroundWork] = []
        self._cpu = 0.0
        loop = asyncio.get_running_loop()
        self.tracker = IdleTracker(IdlePolicy(TIMEOUT), Wake(0.0, Clocks(loop.time(), 0.0)), loop.time())
        self.watch = BackgroundWatch(
            config.Idle(background_max=Duration(maximum)),
            TIMEOUT,
            tracker=self.tracker,
            sample=self._sample,
            publish=self.publish,
            now=loop.time,
        )

    async def _sample(self) -> Sample:
        self.looks += 1
        self.looked.set()
        if self.refused:
            raise SpawnRefused("busy")
        self._cpu += 1.0 if self.working else 0.0
        return Sample(float(self.looks), (Process(7, 1, 0.0, 2**31, "make", self._cpu, 0),))

    def publish(self, event: AnyEvent) -> None:
        """Pass the event to the tracker and the watch, as the monitor does."""
        if isinstance(event, BackgroundWork):
            self.published.append(event)
        self.tracker.observe(event, asyncio.get_running_loop().time())
        self.watch.observe()

    async def until_looked(self, times: int) -> None:
        """Wait until the processes have been sampled so many times more."""
        target = self.looks + times
        async with asyncio.timeout(PATIENCE):
            while self.looks < target:
                self.looked.clear()
                await self.looked.wait()

    async def until_published(self, seconds: bool) -> BackgroundWork:
        """Wait until the last published event says that there is work (`seconds`), or that there is none."""
        async with asyncio.timeout(PATIENCE):
            while not (self.published and bool(self.published[-1].seconds) == seconds):
                await self.until_looked(1)
        return self.published[-1]

    def come(self) -> None:
        """Log a client in."""
        self.publish(
            ConnectionAuthenticated(
                conn="c",
                peer="",
                user="dev",
                fingerprint="",
                source="",
                client="",
                cipher="",
                seconds=0.0,
                identity=WHO,
            )
        )

    def go(self) -> None:
        """Disconnect the client."""
        self.publish(
            ConnectionClosed(
                conn="c",
                peer="",
                user="dev",
                reason="",
                seconds=0.0,
                bytes_in=0,
                bytes_out=0,
                goodbye=True,
                identity=WHO,
            )
        )


def run(scenario: Scenario, maximum: float = 1000.0) -> None:
    """Run `scenario` with the watch."""

    async def play() -> None:
        watched = Watched(maximum)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched.watch.run())
            await scenario(watched)
            watching.cancel()

    asyncio.run(play())


def test_work_is_a_reason_until_it_has_stopped() -> None:
    """Work keeps the machine up, `why` names it, and the idle time begins when the work ends."""

    async def scenario(watched: Watched) -> None:
        told = await watched.until_published(seconds=True)
        assert told.what == f"make of uid {2**31}"
        assert [reason.kind for reason in watched.tracker.reasons(asyncio.get_running_loop().time())] == ["background"]
        watched.working = False
        assert await watched.until_published(seconds=False) == BackgroundWork(seconds=0, what=told.what)
        assert not watched.tracker.in_use

    run(scenario)


def test_a_night_s_work_makes_few_events() -> None:
    """Long work makes few events: the log does not get one at every look."""

    async def scenario(watched: Watched) -> None:
        await watched.until_looked(20)
        assert 1 <= len(watched.published) <= 4

    run(scenario)


def test_nobody_looks_while_somebody_is_on() -> None:
    """With a client connected, processes are not sampled: the machine is up anyway, and samples cost time."""

    async def scenario(watched: Watched) -> None:
        watched.come()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5 * INTERVAL):
                await watched.until_looked(1)
        watched.go()
        await watched.until_published(seconds=True)
        watched.come()
        looks = watched.looks
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5 * INTERVAL):
                await watched.until_looked(1)
        assert watched.looks <= looks + 1  # one may have been in progress

    run(scenario)


def test_a_hold_that_ends_by_itself_is_followed_by_a_look() -> None:
    """When a hold expires, which publishes nothing, processes are sampled for work again."""

    async def scenario(watched: Watched) -> None:
        watched.publish(HoldStarted(hold="h", user="dev", seconds=3 * INTERVAL, reason="", pid=0))
        began = asyncio.get_running_loop().time()
        await watched.until_looked(2)
        assert asyncio.get_running_loop().time() - began > 3 * INTERVAL

    run(scenario)


def test_the_limit_ends_it_until_somebody_has_come_and_gone() -> None:
    """Endless work keeps the machine up until the limit, and is then not sampled until a client has come and gone."""

    async def scenario(watched: Watched) -> None:
        await watched.until_published(seconds=True)
        told = await watched.until_published(seconds=False)
        assert told.what.startswith("what idle.background_max allows to make")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5 * INTERVAL):
                await watched.until_looked(1)
        watched.come()
        watched.go()
        await watched.until_published(seconds=True)

    run(scenario, maximum=4 * INTERVAL)


def test_a_look_that_fails_is_no_judgement() -> None:
    """A sample that fails, as when the spawner is busy, changes nothing; the next one counts."""

    async def scenario(watched: Watched) -> None:
        watched.refused = True
        await watched.until_looked(3)
        assert not watched.published
        watched.refused = False
        await watched.until_published(seconds=True)

    run(scenario)


def test_a_resume_gives_work_no_more_time() -> None:
    """Protects the bill: after a suspend the watch runs anew, and endless work that has had its time is left alone."""

    async def scenario(watched: Watched) -> None:
        await watched.until_published(seconds=True)
        await watched.until_published(seconds=False)
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(watched.watch.run())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5 * INTERVAL):
                    await watched.until_looked(2)
            again.cancel()

    run(scenario, maximum=4 * INTERVAL)
