"""monitor.lifetime.watches.terminals: when terminals are looked at, and which events are published, with a real pty."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import AnyEvent, HoldEnded, HoldStarted, TerminalQuiet, TerminalUsed
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.watches.terminals import TerminalWatch
from pyssh_gateway.spawner.processes.login_records import Files, record_login
from tests.support.waiting import PATIENCE

TIMEOUT = 0.06
DAY = 86400.0


@pytest.fixture
def line() -> Iterator[str]:
    """A terminal's name below /dev."""
    master, slave = os.openpty()
    yield os.ttyname(slave).removeprefix("/dev/")
    os.close(master)
    os.close(slave)


class Watched:
    """A watch with its tracker, of one terminal. `ahead` is how far its clock is after the last key."""

    def __init__(self, line: str, *, ours: bool = False, records: Path = Path("/nowhere")) -> None:
        self.line = line
        self.holder = "mosh-server"
        self.ahead = 0.0
        self.refused = False
        self.published: list[AnyEvent] = []
        self._looked = asyncio.Event()
        self._told = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.tracker = IdleTracker(IdlePolicy(TIMEOUT), Wake(0.0, Clocks(loop.time(), 0.0)), loop.time())
        self.watch = TerminalWatch(
            config.Idle(client_idle=None),
            TIMEOUT,
            tracker=self.tracker,
            sample=self._sample,
            ours=lambda: [f"/dev/{line}"] if ours else [],
            publish=self.publish,
            now=loop.time,
            clock=lambda: time.time() + self.ahead,
            records=str(records),
        )

    async def _sample(self) -> Sample:
        self._looked.set()
        if self.refused:
            raise SpawnRefused("busy")
        shell = Process(11, 10, 0.0, os.getuid(), "bash", 0.0, 0, self.line)
        return Sample(0.0, (Process(10, 1, 0.0, os.getuid(), self.holder, 0.0, 0), shell))

    def publish(self, event: AnyEvent) -> None:
        """Pass the event to the tracker and the watch, as the monitor does."""
        self.published.append(event)
        self._told.set()
        self.tracker.observe(event, asyncio.get_running_loop().time())
        self.watch.observe()

    async def until_published(self, count: int) -> None:
        """Wait until so many events have been published."""
        while len(self.published) < count:
            self._told.clear()
            await self._told.wait()

    async def until_looked(self) -> None:
        """Wait until the next look has begun, and the one before has ended."""
        self._looked.clear()
        await self._looked.wait()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it, with a timeout."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(whole())


def test_a_terminal_in_use_is_a_reason_until_it_is_not(line: str) -> None:
    """Protects the start and the end: use is reported once, `why` names the terminal, and it ends when nobody types."""

    async def scenario() -> None:
        watched = Watched(line)
        watching = asyncio.create_task(watched.watch.run())
        await watched.until_looked()
        await watched.until_looked()
        (told,) = watched.published
        assert isinstance(told, TerminalUsed)
        assert told.what.endswith(f" is at {line} (mosh-server)")
        (reason,) = watched.tracker.reasons(asyncio.get_running_loop().time())
        assert (reason.kind, reason.text) == ("terminal", told.what)
        watched.ahead = DAY
        await watched.until_looked()
        await watched.until_published(2)
        assert watched.published[1] == TerminalQuiet(what=told.what)
        assert not watched.tracker.in_use
        watching.cancel()

    run(scenario)


def test_nothing_is_looked_at_while_somebody_is_on(line: str) -> None:
    """Protects an idle machine: terminals are not looked at while there is another reason, and again after its end."""

    async def scenario() -> None:
        watched = Watched(line)
        watching = asyncio.create_task(watched.watch.run())
        await watched.until_looked()
        await watched.until_looked()
        watched.publish(HoldStarted(hold="h", user="dev", seconds=DAY, reason="", pid=0))
        await watched.until_published(3)
        assert isinstance(watched.published[2], TerminalQuiet)
        watched.publish(HoldEnded(hold="h", user="dev", why=""))
        await watched.until_looked()
        await watched.until_looked()
        assert isinstance(watched.published[-1], TerminalUsed)
        watching.cancel()

    run(scenario)


@pytest.mark.parametrize("case", ["ours", "detached", "gone", "refused"])
def test_what_is_nobodys_hands(line: str, case: str) -> None:
    """A session's own terminal, a detached tmux's, one that is gone, and a failed sample are not reported as used."""

    async def scenario() -> None:
        watched = Watched("pts/99999" if case == "gone" else line, ours=case == "ours")
        watched.holder = "tmux: server" if case == "detached" else "mosh-server"
        watched.refused = case == "refused"
        await watched.watch.look()
        assert watched.published == []

    run(scenario)


@pytest.mark.skipif(not Path("/dev/pts").exists(), reason="no ptys")
def test_a_record_of_mosh_counts_without_a_key(line: str, tmp_path: Path) -> None:
    """Protects a person who only reads: while mosh's record shows a client, no key need be typed."""
    records = tmp_path / "utmp"
    records.touch()
    record_login(
        user="dev", uid=0, pid=1, tty=f"/dev/{line}", peer="203.0.113.9 via mosh [10]", when=0.0,
        files=Files(utmp=str(records), wtmp="/nowhere/w", lastlog="/nowhere/l"),
    )  # fmt: skip

    async def scenario() -> None:
        for path, expected in ((records, 1), (tmp_path / "none", 0)):
            watched = Watched(line, records=path)
            watched.ahead = DAY
            await watched.watch.look()
            assert len(watched.published) == expected

    run(scenario)
