"""No stop comes under the hands of a client: the watch and the registry, with processes that are slow or stopped.

The clock is virtual, so that hypothesis can try thousands of days at the keyboard.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    Record,
)
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.connected.postauth_client import SILENT_SECONDS
from pyssh_gateway.monitor.connected.registry import LOOK_SECONDS, Registry
from pyssh_gateway.monitor.lifetime.hearing import LAST_ROUNDS
from pyssh_gateway.monitor.lifetime.idle_watch import IdleWatch
from tests.support.virtual_time import run_virtually

WHO = Identity("github:example", None, "SHA256:x")
RECENT = 60.0
DUE = 135.0
"""When a machine stops whose only client came at 0, if all times are a minute: the first look, at 15, takes that for
use, so the client is quiet at 75."""

STEP = 0.125
"""Moments are multiples of this: they meet deadlines and the middle of an answer, and sums of them are exact."""


class Process:
    """A process with one client. It answers after `delay` seconds, not before `stopped_until`. `used_at` is its use."""

    def __init__(self, house: "House", conn: str) -> None:
        self.conn = conn
        self.delay = 0.0
        self.stopped_until = 0.0
        self.used_at = house.loop.time()
        self.answered_at = self.used_at
        self.counters = self.told = Counters(opened=1)
        self.clients = {conn: None}
        self._house = house
        self._answer: asyncio.Future[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def use(self) -> None:
        """Type a key."""
        self.used_at = self._house.loop.time()
        self.counters = msgspec.structs.replace(self.counters, typed=self.counters.typed + 1)

    def report(self) -> "asyncio.Future[None]":
        """As `PostauthClient.report`: one question at a time, and the process is killed if it stays silent."""
        loop = self._house.loop
        if self._answer is None:
            self._answer = loop.create_future()
            at = max(loop.time(), self.stopped_until) + self.delay
            self._timers = [loop.call_at(at, self._report), loop.call_later(SILENT_SECONDS, self._house.end, self)]
        return self._answer

    def _report(self) -> None:
        self.told, self.answered_at = self.counters, self._house.loop.time()
        self.end()

    def end(self) -> None:
        """The question is answered, or nobody will answer it."""
        for timer in self._timers:
            timer.cancel()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_result(None)


class House:
    """The watch with its clients and a listener."""

    sessions = ()
    unauthenticated = 0

    def __init__(self, idle: config.Idle) -> None:
        self.loop = asyncio.get_running_loop()
        self.processes: set[Process] = set()
        self.left_at: float | None = None
        self.is_closed = False
        self.at_look: Callable[[], None] = lambda: None
        now = self.loop.time
        self.wake = Wake(0.0, Clocks(0.0, 0.0))
        self.watch = IdleWatch(
            idle,
            wake=self.wake,
            registry=cast(Clients, self),
            door=self,
            publish=self.publish,
            leave=self._leave,
            sample=self._sample,
            hold=lambda _wish: None,
            now=now,
            clock=now,
        )

    @property
    def clients(self) -> tuple[SimpleNamespace, ...]:
        """The clients, with what their processes have told."""
        return tuple(
            SimpleNamespace(id=each.conn, user="dev", identity=WHO, counters=each.told) for each in self.processes
        )

    def come(self, conn: str) -> Process:
        """A client logs in."""
        process = Process(self, conn)
        self.processes.add(process)
        self.publish(ConnectionOpened(conn=conn, peer="203.0.113.9", peer_port=1))
        self.publish(
            ConnectionAuthenticated(
                conn=conn,
                peer="203.0.113.9",
                user="dev",
                fingerprint="",
                source="",
                client="",
                cipher="",
                seconds=0,
                identity=WHO,
            )
        )
        return process

    def end(self, process: Process) -> None:
        """The process is gone, and its client with it."""
        self.processes.discard(process)
        process.end()
        self.publish(
            ConnectionClosed(
                conn=process.conn, peer="", user="dev", reason="", seconds=0, bytes_in=0, bytes_out=0, identity=WHO
            )
        )

    def publish(self, event: AnyEvent) -> None:
        """Pass the event on, as the bus does."""
        now = self.loop.time()
        self.wake.observe(event, Clocks(now, now))
        self.watch.observe(Record(seq=0, time=now, event=event))

    def announce(self, text: str) -> None:
        """Warn."""

    async def look(self, seconds: float | None = None) -> frozenset[str]:
        """Ask the processes, as the real registry does."""
        self.at_look()
        return await Registry.look(cast(Registry, self), seconds)

    def stop(self) -> None:
        """Stop the listener."""
        self.is_closed = True

    def resume(self) -> None:
        """Start it again."""
        self.is_closed = False

    async def _sample(self) -> Sample:
        await asyncio.sleep(STEP)
        return Sample(self.loop.time(), ())

    def _leave(self, _why: str) -> None:
        self.left_at = self.loop.time()


seconds = st.integers(1, 800).map(lambda steps: steps * STEP)
durations = st.sampled_from([1, 10, 45, 60, 90])

acts = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 2), st.just(0.0)),
    st.tuples(st.just("slow"), st.integers(0, 2), st.sampled_from([0.0, 0.02, 0.125, 0.2, 0.375, 2.0])),
    st.tuples(st.just("stop"), st.integers(0, 2), st.sampled_from([0.5, 5.0, 29.0, 100.0])),
)
plans = st.lists(st.tuples(seconds, acts), max_size=12)


@given(
    timeout=durations,
    client_idle=durations,
    recent_use=st.sampled_from([RECENT, 5.0]),
    count=st.integers(1, 3),
    plan=plans,
)
def test_nobody_is_cut_off_with_the_hands_on_the_keys(
    timeout: float, client_idle: float, recent_use: float, count: int, plan: list[tuple[float, tuple[str, int, float]]]
) -> None:
    """Protects a person who types: no client that was used in the last minute is on when the machine stops.

    Of a key that arrives while the last answers are collected, only the process knows; that takes a moment at most.
    """

    async def play() -> None:
        idle = config.Idle(Duration(timeout), client_idle=Duration(client_idle), recent_use=Duration(recent_use))
        house = House(idle)
        people = [house.come(f"c{number}") for number in range(count)]

        async def live() -> None:
            for pause, (act, number, length) in plan:
                await asyncio.sleep(pause)
                process = people[number % count]
                if act == "use":
                    process.use()
                elif act == "slow":
                    process.delay = length
                else:
                    process.stopped_until = house.loop.time() + length

        longest = sum(pause for pause, _ in plan) + 600
        async with asyncio.timeout(longest), asyncio.TaskGroup() as tasks:
            living = tasks.create_task(live())
            await house.watch.run()
            living.cancel()
        left_at = house.left_at
        assert left_at is not None
        for process in house.processes:
            moment = LOOK_SECONDS if process.delay < LOOK_SECONDS else 1 + 2 * process.delay
            unknown = process.used_at > process.answered_at and left_at - process.used_at <= moment
            assert unknown or left_at - process.used_at >= recent_use, (process.conn, process.used_at, left_at)

    run_virtually(play())


def test_a_key_beside_a_process_that_is_always_slow_is_seen() -> None:
    """Protects a person from somebody else's process that never answers in time: their own answers count."""

    async def play() -> float | None:
        house = House(config.Idle(Duration(60), client_idle=Duration(60), recent_use=Duration(60)))
        slow, typing = house.come("slow"), house.come("typing")
        slow.delay = LOOK_SECONDS * 1.5
        rounds = 0

        def type_before_the_last_round() -> None:
            nonlocal rounds
            rounds += house.is_closed
            if rounds == LAST_ROUNDS + 1:
                typing.use()

        house.at_look = type_before_the_last_round
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(house.watch.run())
            await asyncio.sleep(DUE + 30)
            watching.cancel()
        assert typing.counters.typed
        return house.left_at

    assert run_virtually(play()) is None


@pytest.mark.parametrize("stopped", [5.0, 1000.0])
def test_a_stopped_process_delays_the_stop_and_does_not_prevent_it(stopped: float) -> None:
    """Protects a person whose process can't answer for a while, and the bill: a silent process is killed after 30 s."""

    async def play() -> None:
        house = House(config.Idle(Duration(60), client_idle=Duration(60), recent_use=Duration(60)))
        process = house.come("c1")
        loop = house.loop

        def stop_and_type() -> None:
            process.stopped_until = loop.time() + stopped
            process.use()

        loop.call_at(DUE - 2, stop_and_type)
        await house.watch.run()
        if stopped < SILENT_SECONDS:
            assert house.left_at is not None
            assert house.left_at >= DUE - 2 + 120
        else:
            assert not house.processes
            assert house.left_at == pytest.approx(DUE + SILENT_SECONDS, abs=5)

    run_virtually(play())


def test_a_key_during_a_slow_answer_is_seen() -> None:
    """Protects a person from somebody else's slow process: while its last answer is awaited, a key of theirs counts."""

    async def play() -> tuple[float | None, int]:
        house = House(config.Idle(Duration(60), client_idle=Duration(60), recent_use=Duration(60)))
        slow, typing = house.come("slow"), house.come("typing")
        slow.delay = 0.2

        def type_once() -> None:
            if house.is_closed and not typing.counters.typed:
                house.loop.call_later(0.1, typing.use)  # it has answered this question already

        house.at_look = type_once
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(house.watch.run())
            await asyncio.sleep(DUE + 15)
            watching.cancel()
        return house.left_at, typing.counters.typed

    assert run_virtually(play()) == (None, 1)


def test_a_key_before_the_last_answer_is_waited_for() -> None:
    """Protects a person whose process stops running just when it is asked the last time: its answer is waited for."""

    async def play() -> float | None:
        house = House(config.Idle(Duration(60), client_idle=Duration(60), recent_use=Duration(60)))
        process = house.come("c1")

        def type_and_stop() -> None:
            if house.is_closed and not process.counters.typed:
                process.use()
                process.stopped_until = house.loop.time() + 5

        house.at_look = type_and_stop
        await house.watch.run()
        return house.left_at

    stopped = run_virtually(play())
    assert stopped is not None
    assert stopped >= DUE + 120


def test_a_visit_while_an_answer_is_awaited_counts() -> None:
    """Protects a person who comes and goes while the stop waits for a slow process: the idle time begins anew."""

    async def play() -> float | None:
        house = House(
            config.Idle(Duration(60), client_idle=Duration(60), recent_use=Duration(60), lost_client_grace=Duration(0))
        )
        process = house.come("c1")
        loop = house.loop

        def stop() -> None:
            process.stopped_until = loop.time() + 25

        loop.call_at(DUE - 2, stop)
        visitors: list[Process] = []
        loop.call_at(DUE + 8, lambda: visitors.append(house.come("c2")))
        loop.call_at(DUE + 10, lambda: house.end(visitors[0]))
        await house.watch.run()
        return house.left_at

    assert run_virtually(play()) == pytest.approx(DUE + 10 + 60, abs=1)
