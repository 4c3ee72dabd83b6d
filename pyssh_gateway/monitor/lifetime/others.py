"""The other reasons that keep the machine up, for a watch that looks closer only while nobody does.

This module does not know what is looked at.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.core.idle.tracker import IdleTracker, Kind


class Others:
    """The reasons of these `kinds`, by the tracker; `now` is the loop's clock, as it has it.

    Who is only waited for (a lost client, the first login) does not keep anybody from looking.
    """

    def __init__(self, tracker: IdleTracker, kinds: frozenset[Kind], now: Callable[[], float]) -> None:
        self._tracker = tracker
        self._kinds = kinds
        self._now = now
        self._changed = asyncio.Event()
        self.came = False
        """Whether there has been one since all were gone, if only for a moment."""

    def observe(self) -> None:
        """The reasons for which the machine is up have changed."""
        self.came = self.came or bool(self._ends())
        self._changed.set()

    async def until_gone(self) -> None:
        """Wait until nobody else keeps the machine up; from then on `came` is anew."""
        while ends := self._ends():
            known = [end for end in ends if end is not None]
            await self.until_change(max(known) if len(known) == len(ends) else None)
        self.came = False

    async def until_come(self) -> None:
        """Wait until somebody else keeps it up, or has for a moment."""
        while not self.came:
            await self.until_change(None)

    async def until_change(self, until: float | None) -> None:
        """Wait for other reasons than now, until `until` on the loop's clock at most."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._changed.wait()

    def _ends(self) -> list[float | None]:
        """When each of the reasons ends, None: nobody knows."""
        return [reason.until for reason in self._tracker.reasons(self._now()) if reason.kind in self._kinds]
