"""monitor.lifetime.idle_watch: a client that becomes active at the moment of a warning, or of the last look."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle import tracker
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    IdleReached,
    Record,
)
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime.idle_watch import IdleWatch
from tests.support.waiting import PATIENCE

TIMEOUT = 0.05
CLIENT_IDLE = 0.1
WHO = Identity("github:example", None, "SHA256:x")


SETTINGS = config.Idle(timeout=Duration(TIMEOUT), client_idle=Duration(CLIENT_IDLE))


def logged_in(conn: str, probation: float | None = None) -> AnyEvent:
    """A client has logged in."""
    return ConnectionAuthenticated(
        conn=conn,
        peer="203.0.113.9",
        user="dev",
        fingerprint="",
        source="",
        client="",
        cipher="",
        seconds=0,
        identity=WHO,
        probation=probation,
    )


class Watched:
    """A watch with a listener that gets no connections, and with clients that do nothing, but `use` is a use of c1.

    `published` has the events in order; a warning on the client's screen is in it as a text.
    """

    def __init__(self, settings: config.Idle = SETTINGS) -> None:
        self.published: list[AnyEvent | str] = []
        self.at_quiet: Callable[[], None] = lambda: None
        self.at_last_look: Callable[[], None] = lambda: None
        self._sessions = 0
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._wake = Wake(0.0, Clocks(loop.time(), 0.0))
        self.watch = IdleWatch(
            settings,
            wake=self._wake,
            registry=cast(Clients, self),
            door=self,
            publish=self.publish,
            leave=lambda _why: None,
            sample=self._sample,
            hold=lambda _wish: None,
            now=loop.time,
            clock=loop.time,
        )

    async def _sample(self) -> Sample:
        return Sample(0.0, ())  # no process was left behind

    def publish(self, event: AnyEvent) -> None:
        """Pass the event to its observers at once, as the bus does."""
        self.published.append(event)
        self._wake.observe(event, Clocks(self._now(), 0.0))
        self.watch.observe(Record(seq=0, time=0.0, event=event))
        if isinstance(event, ClientQuiet):
            self.at_quiet()

    def use(self) -> None:
        """Let the client open a session, once."""
        self.at_quiet = self.at_last_look = lambda: None
        self._sessions += 1

    # -- the registry and the listener --------------------------------------------------------------------------

    @property
    def clients(self) -> tuple[SimpleNamespace, ...]:
        """The only client."""
        return (SimpleNamespace(id="c1", user="dev", identity=WHO, counters=Counters(opened=self._sessions)),)

    @property
    def sessions(self) -> tuple[SimpleNamespace, ...]:
        """The session with its screen."""
        return (SimpleNamespace(tty=""),)

    def announce(self, text: str) -> None:
        """Record a text shown on the screen."""
        self.published.append(text)

    async def look(self) -> None:
        """Do nothing: the client's activity is already known."""

    @property
    def unauthenticated(self) -> int:
        """The last look asks for this when the listener is stopped."""
        self.at_last_look()
        return 0

    def stop(self) -> None:
        """Stop the listener."""

    def resume(self) -> None:
        """Start it again."""


def told(scenario: Callable[[Watched], None]) -> list[str]:
    """The names of the published events until the machine may stop, including a warning."""

    async def play() -> list[str]:
        watched = Watched()
        watched.publish(logged_in("c1"))
        scenario(watched)
        async with asyncio.timeout(PATIENCE):
            await watched.watch.run()
        said = watched.published[1:]
        return [one.outcome if isinstance(one, IdleReached) else _name(one) for one in said]

    return asyncio.run(play())


def _name(one: AnyEvent | str) -> str:
    return "warning" if isinstance(one, str) else type(one).__name__


QUIET, USED = "ClientQuiet", "ClientUsed"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, [QUIET, "warning", "stop"]),
        ("at_quiet", [QUIET, USED, QUIET, "warning", "stop"]),
        ("at_last_look", [QUIET, "warning", USED, "stay", QUIET, "warning", "stop"]),
    ],
)
def test_who_comes_back_is_seen_in_time(moment: str | None, expected: list[str]) -> None:
    """Protects a client that opens a session just before a warning or the stop: both wait for the next idle time."""

    def scenario(watched: Watched) -> None:
        if moment is not None:
            setattr(watched, moment, watched.use)

    assert told(scenario) == expected


def test_who_is_let_in_on_probation_at_the_last_look_is_waited_for() -> None:
    """Protects a second attempt that comes at the stop after the first one was refused: it is not cut off at once."""

    def scenario(watched: Watched) -> None:
        def come() -> None:
            watched.at_last_look = lambda: None
            watched.publish(logged_in("c2", probation=TIMEOUT))

        watched.at_last_look = come

    said = told(scenario)
    assert said[:4] == [QUIET, "warning", "ConnectionAuthenticated", "stay"]
    assert said[-1] == "stop"


def test_the_end_of_a_scanner_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the bill: the machine stops when the last connection without a login goes, and not at the next tick."""
    monkeypatch.setattr(tracker, "TICK_SECONDS", 3600)
    scanner = "203.0.113.9"

    async def play() -> list[AnyEvent | str]:
        watched = Watched(config.Idle(timeout=Duration(3600), wake_grace=Duration(0)))
        watched.publish(ConnectionOpened(conn="c1", peer=scanner, peer_port=1))
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(watched.watch.run())
            await asyncio.sleep(0)  # so that it waits for its next tick
            await asyncio.sleep(0)
            watched.publish(
                ConnectionClosed(conn="c1", peer=scanner, user="", reason="", seconds=0, bytes_in=0, bytes_out=0)
            )
        return watched.published

    assert isinstance(asyncio.run(play())[-1], IdleReached)
