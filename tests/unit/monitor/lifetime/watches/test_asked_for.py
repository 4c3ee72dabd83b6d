"""lifetime.watches.asked_for: when processes are asked whether they want to hold the machine, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.holds import Wish
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker
from pyssh_gateway.core.idle.variable import WHILE_IT_RUNS
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import AnyEvent, HoldEnded, HoldStarted, ScheduleEntered
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.watches.asked_for import MAX_HELD, AskedFor
from tests.support.waiting import PATIENCE

TIMEOUT = 0.06
LIMIT = 1000.0
UID = 2**31


class Watched:
    """A watch with its tracker. `asking` are the processes with PYSSH_HOLD, `wishes` what was held."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.asking: dict[int, float] = {}
        self.refused = False
        self.looks = 0
        self.wishes: list[Wish] = []
        self.changed = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self.tracker = IdleTracker(IdlePolicy(TIMEOUT), Wake(0.0, Clocks(self._now(), 0.0)), self._now())
        self.watch = AskedFor(TIMEOUT, limit, tracker=self.tracker, sample=self._sample, hold=self._hold, now=self._now)

    async def _sample(self) -> Sample:
        self.looks += 1
        self.changed.set()
        if self.refused:
            raise SpawnRefused("busy")
        processes = (Process(pid, 1, 10.0, UID, "make", 0.0, 0, "", hold) for pid, hold in self.asking.items())
        return Sample(15.0, tuple(processes))

    def _hold(self, wish: Wish) -> str:
        name = str(wish.pid)
        if wish not in self.wishes:
            self.wishes.append(wish)
            self.publish(
                HoldStarted(hold=name, user=wish.user, seconds=wish.seconds or 0, reason=wish.reason, pid=wish.pid)
            )
        return name

    def publish(self, event: AnyEvent) -> None:
        """Pass the event to the tracker and the watch, as the monitor does."""
        before = self.tracker.reasons(self._now())
        self.tracker.observe(event, self._now())
        self.watch.observe(event, changed=self.tracker.reasons(self._now()) != before)

    def end(self, pid: int, why: str) -> None:
        """End the hold of the process."""
        self.publish(HoldEnded(hold=str(pid), user="", why=why))

    async def until_looked(self, times: int = 1) -> None:
        """Wait until the processes have been looked at so many times more, and what they asked for is done."""
        target = self.looks + times
        while self.looks < target:
            self.changed.clear()
            await self.changed.wait()
        await asyncio.sleep(0)

    async def never_looks(self) -> None:
        """Check that nothing is looked at for some intervals."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * TIMEOUT):
                await self.until_looked()


def run(scenario: Callable[[Watched], Awaitable[None]], limit: float = LIMIT) -> None:
    """Run `scenario` with the watch."""

    async def play() -> None:
        watched = Watched(limit)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched.watch.run())
            await scenario(watched)
            watching.cancel()

    asyncio.run(play())


def test_a_process_that_asks_holds_until_it_ends() -> None:
    """One look finds it, and the next one comes when its hold has ended; what it left behind then holds, too."""

    async def scenario(watched: Watched) -> None:
        watched.asking = {7: WHILE_IT_RUNS}
        await watched.until_looked()
        (wish,) = watched.wishes
        assert (wish.uid, wish.user, wish.reason, wish.pid) == (UID, str(UID), "make (PYSSH_HOLD)", 7)
        assert wish.started == 1000  # in clock ticks
        assert wish.seconds == pytest.approx(LIMIT, abs=PATIENCE)
        await watched.never_looks()
        watched.asking = {8: 60}
        watched.end(7, "the command has ended")
        await watched.until_looked()
        assert [one.pid for one in watched.wishes] == [7, 8]
        assert watched.wishes[1].seconds == 55  # it was started five seconds before

    run(scenario)


def test_nothing_is_looked_at_while_somebody_is_on() -> None:
    """With another reason nothing is sampled; the limit counts from its end."""

    async def scenario(watched: Watched) -> None:
        watched.publish(ScheduleEntered(seconds=5 * TIMEOUT, what="hours"))
        await watched.never_looks()
        watched.asking = {7: WHILE_IT_RUNS}
        await watched.until_looked()
        assert watched.wishes[0].seconds == pytest.approx(LIMIT, abs=TIMEOUT)

    run(scenario)


def test_the_limit_ends_it_until_somebody_has_come_and_gone() -> None:
    """Protects the bill: processes that follow one another hold for the limit in all, however many they are."""

    async def scenario(watched: Watched) -> None:
        watched.asking = {7: WHILE_IT_RUNS}
        await watched.until_looked()
        await asyncio.sleep(4 * TIMEOUT)
        watched.asking = {8: WHILE_IT_RUNS}
        watched.end(7, "the command has ended")
        await watched.never_looks()
        await watched.watch.look()  # the last look before the stop
        assert [one.pid for one in watched.wishes] == [7]
        watched.publish(ScheduleEntered(seconds=0.01, what="hours"))
        await watched.until_looked()
        assert [one.pid for one in watched.wishes] == [7, 8]

    run(scenario, limit=3 * TIMEOUT)


def test_what_was_released_does_not_hold_again() -> None:
    """Protects a person who has released it; the same program, started anew, holds again."""

    async def scenario(watched: Watched) -> None:
        watched.asking = {7: WHILE_IT_RUNS}
        await watched.until_looked()
        watched.end(7, "released")
        await watched.until_looked()
        assert len(watched.wishes) == 1
        watched.asking = {}
        await watched.watch.look()
        watched.asking = {7: WHILE_IT_RUNS}
        watched.wishes.clear()
        await watched.watch.look()
        assert len(watched.wishes) == 1

    run(scenario)


def test_the_last_look_finds_what_came_late() -> None:
    """A process that asks for it after the first look is found before the stop; its end is followed by a look."""

    async def scenario(watched: Watched) -> None:
        await watched.until_looked()
        await watched.never_looks()
        watched.asking = {7: WHILE_IT_RUNS}
        await watched.watch.look()
        assert len(watched.wishes) == 1
        watched.end(7, "expired")
        await watched.until_looked()

    run(scenario)


def test_a_busy_spawner_changes_nothing() -> None:
    """Without a sample nothing is known, and that is no error."""

    async def scenario(watched: Watched) -> None:
        watched.refused = True
        await watched.until_looked()
        assert not watched.wishes

    run(scenario)


def test_a_resume_is_nobody_who_has_come() -> None:
    """Protects the bill: after a suspend the watch runs anew, and a scanner's wake gives no process another limit."""

    async def play() -> None:
        watched = Watched(3 * TIMEOUT)
        async with asyncio.timeout(PATIENCE):
            first = asyncio.get_running_loop().create_task(watched.watch.run())
            watched.asking = {7: WHILE_IT_RUNS}
            await watched.until_looked()
            await asyncio.sleep(4 * TIMEOUT)
            first.cancel()  # the machine is suspended
            watched.end(7, "expired")
            watched.wishes.clear()
            again = asyncio.get_running_loop().create_task(watched.watch.run())
            await asyncio.sleep(0)
            await watched.watch.look()
            again.cancel()
            assert not watched.wishes

    asyncio.run(play())


def test_many_processes_leave_room_for_people() -> None:
    """Protects people who ask for a hold from an account with many uids: its processes get half of the places."""

    async def scenario(watched: Watched) -> None:
        watched.asking = dict.fromkeys(range(2, MAX_HELD + 9), WHILE_IT_RUNS)
        await watched.until_looked()
        assert len(watched.wishes) == MAX_HELD

    run(scenario)
