"""Holds for processes that ask for it by PYSSH_HOLD in their environment, once nobody keeps the machine up for them.

`core.idle.variable` decides which processes ask; the spawner looks at the environments, and `holds` keeps the holds.
While somebody is logged in, this module waits for them to go and does nothing.
"""

import os
from collections.abc import Awaitable, Callable

from pyssh_gateway.core.idle import variable
from pyssh_gateway.core.idle.background import Sample, interval
from pyssh_gateway.core.idle.holds import Wish
from pyssh_gateway.core.idle.tracker import IdleTracker, Kind
from pyssh_gateway.events import AnyEvent, HoldEnded
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.holds import EXPIRED
from pyssh_gateway.monitor.lifetime.watches.others import Others
from pyssh_gateway.system.accounts import name_of

OTHERS: frozenset[Kind] = frozenset({"connection", "schedule", "terminal"})
"""Reasons after which the limit counts anew: people, and the hours that they have set. Holds and background work do not
belong to them, or else one process could hold the machine for another one for ever."""

MAX_HELD = 64
"""How many processes hold at a time: half of all holds (`core.idle.holds.MAX_HOLDS`). One suffices to keep the machine
up; and an account with many uids (in a user namespace), each with holds of its own, must not take the places of people
who ask for a hold."""

_TICKS = os.sysconf("SC_CLK_TCK")

_Key = tuple[int, int]
"""A process: its pid, and its start in clock ticks."""


class AskedFor:
    """Samples with `sample`, and lets processes that ask for it hold by `hold`, which returns the hold's id.

    `timeout` is the idle timeout; `limit` is for how many seconds such holds last at most after the last of `OTHERS`.
    `now` is the loop's clock, as `tracker` has it.
    """

    def __init__(
        self,
        timeout: float,
        limit: float,
        *,
        tracker: IdleTracker,
        sample: Callable[[], Awaitable[Sample]],
        hold: Callable[[Wish], str | None],
        now: Callable[[], float],
    ) -> None:
        self._interval = interval(timeout)
        self._limit = limit
        self._sample = sample
        self._hold = hold
        self._now = now
        self._others = Others(tracker, OTHERS, now)
        self._until = now() + limit
        self._held: dict[str, _Key] = {}
        self._refused: set[_Key] = set()
        self._ended = False

    def observe(self, event: AnyEvent, *, changed: bool) -> None:
        """An event has happened; `changed`: with it, the reasons for which the machine is up."""
        if isinstance(event, HoldEnded) and event.hold in self._held:
            key = self._held.pop(event.hold)
            if event.why != EXPIRED:
                self._refused.add(key)  # released, so it must not hold again; or the process has ended
            self._ended = changed = True
        if changed:
            self._others.observe()

    async def run(self) -> None:
        """Watch until cancelled. After a suspend it is called again, which gives nobody more time."""
        while True:
            self._others.observe()  # somebody may have been on before this was called
            came = self._others.came
            await self._others.until_gone()
            if came:
                self._until = self._now() + self._limit
            await self._watch()

    async def look(self) -> None:
        """Look now, and let those processes hold that ask for it."""
        left = self._until - self._now()
        if left <= 0:
            return
        try:
            sample = await self._sample()
        except SpawnRefused:  # the spawner is busy, or gone, which is noticed elsewhere: nothing changes
            return
        found = {(one.pid, round(one.started * _TICKS)): one for one in variable.wanted(sample)}
        self._refused &= found.keys()
        for key, one in found.items():
            if key not in self._refused and (len(self._held) < MAX_HELD or key in self._held.values()):
                wish = Wish(
                    uid=one.uid,
                    user=name_of(one.uid) or str(one.uid),
                    reason=f"{one.name} ({variable.NAME})",
                    seconds=min(one.seconds, left),
                    pid=key[0],
                    started=key[1],
                )
                hold = self._hold(wish)
                if hold is not None:
                    self._held[hold] = key

    async def _watch(self) -> None:
        """Watch while nobody is on: after an interval, and then each time that one of these holds has ended.

        A process that asks for it later is noticed at the last look before the stop.
        """
        while True:
            next_look = self._now() + self._interval
            while self._now() < next_look:
                await self._others.until_change(next_look)
                if self._others.came:
                    return
            self._ended = False
            await self.look()
            while not self._ended:
                await self._others.until_change(None)
                if self._others.came:
                    return
