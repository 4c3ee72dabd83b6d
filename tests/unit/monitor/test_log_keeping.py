"""monitor.log_keeping: the periodic work that starts when something was written."""

import asyncio
from typing import cast

import pytest

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.events import IdleTick, Record
from pyssh_gateway.monitor import log_keeping
from pyssh_gateway.monitor.log_keeping import LogKeeper
from tests.support.waiting import PATIENCE

WRITTEN = Record(1, 5.0, IdleTick(idle=5, remaining=55, message="Idle for 5s"))


class Played:
    """A log that is in its place and holds a line back for `looks` looks."""

    is_in_place = True

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.shown = asyncio.Event()

    def show_overdue(self, now: float) -> bool:
        """Whether the line is still held back."""
        assert now == 7.0
        self.looks -= 1
        if self.looks <= 0:
            self.shown.set()
        return self.looks > 0


def test_what_waits_is_shown_although_nothing_more_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is held back is shown even if no event follows, and then the looks stop."""
    monkeypatch.setattr(log_keeping, "LOOK_SECONDS", 0.01)

    async def scenario() -> None:
        log = Played(3)
        loop = asyncio.get_running_loop()

        async def never() -> int:
            raise AssertionError("the file is in its place")

        keeper = LogKeeper(
            cast(AuditLog, log),
            open_log=never,
            publish=lambda event: pytest.fail(str(event)),
            complain=pytest.fail,
            clock=lambda: 7.0,
            loop=loop,
        )
        keeper.observe(WRITTEN)
        async with asyncio.timeout(PATIENCE):
            await log.shown.wait()
        assert log.looks == 0
        keeper.observe(WRITTEN)
        log.shown.clear()
        async with asyncio.timeout(PATIENCE):
            await log.shown.wait()
        assert log.looks == -1

    asyncio.run(scenario())
