"""monitor.lifetime.use_watch: when clients were used is written down, with and without `idle.client_idle`."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.usage import Counters, Usage
from pyssh_gateway.events import (
    AnyEvent,
    ClientUse,
    ConnectionAuthenticated,
    ConnectionClosed,
    Identity,
    Record,
    ServerStopping,
)
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime import use_watch
from pyssh_gateway.monitor.lifetime.use_watch import UseWatch
from tests.support.waiting import PATIENCE

WHO = Identity("github:example", None, "SHA256:x")
LOGIN = ConnectionAuthenticated(
    conn="c1", peer="", user="dev", fingerprint="", source="", client="", cipher="", seconds=2.0, identity=WHO
)
LOGOUT = ConnectionClosed(conn="c1", peer="", user="dev", reason="", seconds=0, bytes_in=0, bytes_out=0)


class Watched:
    """A watch with a clock that is set, and at most one client."""

    def __init__(self, client_idle: float | None) -> None:
        self.time = 1000.0
        self.published: list[ClientUse] = []
        self.counters = Counters()
        self.on = False
        self.looks = 0
        self.at_look: Callable[[], None] = lambda: None
        self._handing_on = False
        self._soon: list[Callable[[], None]] = []
        self.watch = UseWatch(
            self.settings(client_idle),
            registry=cast(Clients, self),
            publish=self._publish,
            clock=lambda: self.time,
            now=lambda: self.time,
            soon=self._soon.append,
        )

    @staticmethod
    def settings(client_idle: float | None) -> config.Idle:
        """The settings with this `client_idle`."""
        return config.Idle(client_idle=None if client_idle is None else Duration(client_idle))

    def happens(self, event: AnyEvent) -> None:
        """Hand an event on, as the bus does, and then run the next turn of the loop."""
        self.on = (self.on or isinstance(event, ConnectionAuthenticated)) and not isinstance(event, ConnectionClosed)
        self._handing_on = True
        self.watch.observe(Record(1, self.time, event))
        self._handing_on = False
        self.turn()

    def turn(self) -> None:
        """The next turn of the loop."""
        soon, self._soon[:] = list(self._soon), []
        for call in soon:
            call()

    def _publish(self, event: AnyEvent) -> None:
        assert not self._handing_on
        assert isinstance(event, ClientUse)
        self.published.append(event)

    # -- the registry -------------------------------------------------------------------------------------------

    @property
    def clients(self) -> tuple[SimpleNamespace, ...]:
        """The client, if it is on."""
        return (SimpleNamespace(id="c1", counters=self.counters),) if self.on else ()

    async def look(self) -> None:
        """Ask the client's process."""
        self.looks += 1
        self.at_look()


def test_what_the_idle_watch_sees_is_written_at_the_end_of_the_connection() -> None:
    """The spans count from the opening of the connection, and name the person and no more."""
    watched = Watched(1800)
    watched.happens(LOGIN)
    usage = Usage(1800)
    for typed in (0, 0, 0, 0, 0, 0, 0, 1):
        watched.time += 15
        watched.counters = Counters(typed=typed)
        usage.look({"c1": watched.counters}, watched.time)
        watched.watch.looked(usage)
    assert watched.published == []
    watched.happens(LOGOUT)
    assert watched.published == [ClientUse(conn="c1", user="dev", spans=((2, 17), (107, 122)), identity=WHO)]


def test_a_connection_that_ends_before_the_first_look_costs_no_line() -> None:
    """Protects the log from a second line for each `git fetch`."""
    watched = Watched(1800)
    watched.happens(LOGIN)
    watched.happens(LOGOUT)
    assert watched.published == []


def test_a_stop_writes_it_before_the_log_ends() -> None:
    """The record of a client that a stop cuts off is not lost, and comes once."""
    watched = Watched(1800)
    watched.happens(LOGIN)
    usage = Usage(1800)
    usage.look({"c1": Counters()}, watched.time)
    watched.watch.looked(usage)
    watched.happens(ServerStopping(reason="idle"))
    assert len(watched.published) == 1
    watched.happens(LOGOUT)
    assert len(watched.published) == 1


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it on a loop."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


def test_without_client_idle_it_looks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `client_idle` would have saved is known for those, too, who had it off; heartbeats are no use there either.

    The threshold of a trickle grows with the window.
    """
    monkeypatch.setattr(use_watch, "LOOK_SECONDS", 0.01)
    worked = iter([0, 2, 2000, 2000, 2000])
    watched = Watched(None)

    async def scenario() -> None:
        done = asyncio.Event()

        def at_look() -> None:
            watched.time += 100
            value = next(worked, None)
            if value is None:
                done.set()
            else:
                watched.counters = Counters(worked=value)

        watched.at_look = at_look
        running = asyncio.ensure_future(watched.watch.run())
        watched.happens(LOGIN)
        await done.wait()
        running.cancel()

    run(scenario)
    watched.happens(LOGOUT)
    (use,) = watched.published
    assert [end for _, end in use.spans] == [102, 302]


def test_nobody_looks_while_nobody_is_on_or_the_idle_watch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the battery and the bill: there is no look that is not needed."""
    monkeypatch.setattr(use_watch, "LOOK_SECONDS", 0.0)

    async def scenario() -> None:
        for client_idle, events in ((None, ()), (None, (LOGIN, LOGOUT)), (1800, (LOGIN,))):
            watched = Watched(client_idle)
            running = asyncio.ensure_future(watched.watch.run())
            for event in events:
                watched.happens(event)
            for _ in range(10):
                await asyncio.sleep(0)
            looked = watched.looks
            assert looked == 0
            watched.watch.reconfigure(Watched.settings(None))
            if client_idle is not None:
                seen = asyncio.Event()
                watched.at_look = seen.set
                await seen.wait()
            running.cancel()

    run(scenario)
