"""The other reasons that keep the machine up, for a watch that looks closer only while there are none.

This module does not know what is looked at.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.core.idle.tracker import IdleTracker, Kind


class Others:
    """The tracker's reasons of these `kinds`; `now` is the loop's clock, as the tracker has it.

    Clients that are only waited for (a lost one, the first login) do not stop a watch from looking.
    """

    def __init__(self, tracker: IdleTracker, kinds: frozenset[Kind], now: Callable[[], float]) -> None:
        self._tracker = tracker
        self._kinds = kinds
        self._now = now
        self._changed = asyncio.Event()
        self.came = False
        """Whether there has been such a reason since all were gone, if only for a moment."""

    def observe(self) -> None:
        """The reasons for which the machine is up have changed."""
        self.came = self.came or bool(self._ends())
        self._changed.set()

    async def until_gone(self) -> None:
        """Wait until no other reason keeps the machine up, and reset `came`."""
        while ends := self._ends():
            known = [end for end in ends if end is not None]
            await self.until_change(max(known) if len(known) == len(ends) else None)
        self.came = False

    async def until_come(self) -> None:
        """Wait until another reason keeps the machine up, or has done so for a moment."""
        while not self.came:
            await self.until_change(None)

    async def until_change(self, until: float | None) -> None:
        """Wait until the reasons change, or until `until` on the loop's clock."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._changed.wait()

    def _ends(self) -> list[float | None]:
        """When each of the reasons ends; None: that is not known."""
        return [reason.until for reason in self._tracker.reasons(self._now()) if reason.kind in self._kinds]
