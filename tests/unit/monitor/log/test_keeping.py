"""monitor.log.keeping: the periodic work that starts when something was written."""

import asyncio
from typing import cast

import pytest

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config.types import Audit
from pyssh_gateway.events import IdleTick, Record
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.log import keeping
from pyssh_gateway.monitor.log.checkpoints.schedule import Checkpoints
from pyssh_gateway.monitor.log.keeping import LogKeeper
from tests.support.waiting import PATIENCE

SETTINGS = Audit()
WRITTEN = Record(1, 5.0, IdleTick(idle=5, remaining=55, message="Idle for 5s"))


class Played:
    """A log that is in its place, and holds a line back for `looks` looks. `due`: its file is to be closed."""

    is_in_place = True
    first, inode = 7, 8

    def __init__(self, looks: int = 0, *, uncounted: int = 0) -> None:
        self.looks = looks
        self.uncounted = uncounted
        self.shown = asyncio.Event()
        self.due = False
        self.opened: list[tuple[int, ...]] = []

    def show_overdue(self, now: float) -> bool:
        """Whether the line is still held back."""
        assert now == 7.0
        self.looks -= 1
        if self.looks <= 0:
            self.shown.set()
        return self.looks > 0

    @property
    def is_counted(self) -> bool:
        """Whether all lines are."""
        return not self.uncounted

    def catch_up(self) -> bool:
        """Count some more."""
        self.uncounted -= 1
        return self.is_counted

    def write_waiting(self) -> bool:
        """Nothing waits."""
        return True

    def is_due(self, now: float, *, size: float, age: float) -> bool:
        """As the test says."""
        assert (now, size, age) == (7.0, SETTINGS.segment_size, SETTINGS.segment_age)
        return self.due

    def reopen(self, *descriptors: int) -> bool:
        """Go on with another file."""
        self.opened.append(descriptors)
        self.due = False
        return True


class Spawner:
    """A spawner that seals, or refuses."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked = asyncio.Event()
        self.sealed: list[tuple[int, int]] = []
        self.tidied = asyncio.Event()

    async def open_log(self) -> list[int]:
        """Never needed here."""
        raise AssertionError("the file is in its place")

    async def seal_log(self, first: int, inode: int) -> list[int]:
        """The descriptors of another file."""
        self.sealed.append((first, inode))
        self.asked.set()
        if self.refuses:
            raise SpawnRefused("no room")
        return [70, 71]

    def tidy_log(self) -> None:
        """Closed files may be compressed."""
        self.tidied.set()


class Unsigned:
    """Signs nothing."""

    def observe(self, record: Record) -> None:
        """A line."""

    async def sign(self) -> None:
        """Not this time."""


def keeper_of(log: Played, spawner: Spawner, said: list[str] | None = None) -> LogKeeper:
    """A keeper of that log."""
    return LogKeeper(
        cast(AuditLog, log),
        cast(Checkpoints, Unsigned()),
        spawner=spawner,
        settings=lambda: SETTINGS,
        publish=lambda event: pytest.fail(str(event)),
        complain=pytest.fail if said is None else said.append,
        clock=lambda: 7.0,
        loop=asyncio.get_running_loop(),
    )


async def patiently(event: asyncio.Event) -> None:
    """Wait for it."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(keeping, "TIDY_AFTER_SECONDS", 0.02)


def test_what_waits_is_shown_although_nothing_more_happens() -> None:
    """A line that is held back is shown even if no event follows, and then the looks stop."""

    async def scenario() -> None:
        log = Played(3)
        keeper = keeper_of(log, Spawner())
        keeper.observe(WRITTEN)
        await patiently(log.shown)
        assert log.looks == 0
        keeper.observe(WRITTEN)
        log.shown.clear()
        await patiently(log.shown)
        assert log.looks == -1

    asyncio.run(scenario())


def test_a_file_that_is_due_is_closed_and_only_then_compressed() -> None:
    """A line after which the file is large enough has it closed; it is compressed when nobody writes to it any more."""

    async def scenario() -> None:
        log, spawner = Played(), Spawner()
        keeper = keeper_of(log, spawner)
        running = asyncio.ensure_future(keeper.run())
        await patiently(spawner.tidied)  # what an earlier server has left, some time after the start
        assert not spawner.sealed
        spawner.tidied.clear()
        log.due = True
        keeper.observe(WRITTEN)
        await patiently(spawner.tidied)
        assert (spawner.sealed, log.opened) == ([(7, 8)], [(70, 71)])
        running.cancel()

    asyncio.run(scenario())


def test_an_old_log_is_counted_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a large file without a state are counted in steps, between which clients are served."""
    monkeypatch.setattr(keeping, "COUNT_PAUSE_SECONDS", 0.001)

    async def scenario() -> None:
        log, spawner = Played(uncounted=5), Spawner()
        keeper = keeper_of(log, spawner)
        running = asyncio.ensure_future(keeper.run())
        log.due = True
        keeper.observe(WRITTEN)
        await patiently(spawner.asked)
        assert log.uncounted == 0
        running.cancel()

    asyncio.run(scenario())


def test_a_file_that_can_not_be_closed_grows() -> None:
    """If the spawner can't close the file, that is said once, and tried again only after a while."""

    async def scenario() -> None:
        log, spawner, said = Played(), Spawner(refuses=True), list[str]()
        keeper = keeper_of(log, spawner, said)
        running = asyncio.ensure_future(keeper.run())
        log.due = True
        keeper.observe(WRITTEN)
        await patiently(spawner.asked)
        log.shown.clear()
        keeper.observe(WRITTEN)
        await patiently(log.shown)
        assert (len(spawner.sealed), log.opened) == (1, [])
        assert said == ["the log's file can't be closed, and grows: no room"]
        running.cancel()

    asyncio.run(scenario())
