"""Watches what sessions have left behind, while nothing else keeps the machine up, and reports when it works.

`core.idle.background` decides what counts as work, and for how long it keeps the machine up; the spawner looks at the
processes. While somebody is logged in, this module waits for them to go and does nothing.
"""

from collections.abc import Awaitable, Callable

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Hold, Over, Patience, Sample, Vigil, Work, interval, work_between
from pyssh_gateway.core.idle.tracker import IdleTracker, Kind
from pyssh_gateway.events import AnyEvent, BackgroundWork
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.watches.others import Others
from pyssh_gateway.system.accounts import shown_name

OTHERS: frozenset[Kind] = frozenset({"connection", "hold", "schedule", "terminal"})
"""Reasons other than work in the background that keep the machine up."""


class BackgroundWatch:
    """Samples with `sample` and publishes `BackgroundWork`. `now` is the loop's clock, as `tracker` has it.

    `timeout` is the idle timeout in seconds; the time between two samples is derived from it.
    """

    def __init__(
        self,
        settings: config.Idle,
        timeout: float,
        *,
        tracker: IdleTracker,
        sample: Callable[[], Awaitable[Sample]],
        publish: Callable[[AnyEvent], None],
        now: Callable[[], float],
    ) -> None:
        self._percent = settings.background_cpu
        self._interval = interval(timeout)
        self._vigil = Vigil(self._interval, settings.background_max)
        self._patience = Patience()
        self._sample = sample
        self._publish = publish
        self._now = now
        self._others = Others(tracker, OTHERS, now)
        self._what = ""
        self._has_begun = False

    def observe(self) -> None:
        """The reasons for which the machine is up have changed."""
        self._others.observe()

    async def run(self) -> None:
        """Watch until cancelled. After a suspend it is called again, which gives work no more time."""
        while True:
            self._others.observe()  # somebody may have been on before this was called
            came = self._others.came or not self._has_begun
            await self._others.until_gone()
            if came:
                self._vigil.begin(self._now())
                self._has_begun = True
            await self._watch()
            await self._others.until_come()

    async def _watch(self) -> None:
        """Watch while nothing else keeps the machine up, until something does, or work may not do so any more."""
        self._patience.forget()
        before = await self._look()
        while not self._vigil.is_spent(self._now()):
            next_look = self._now() + self._interval
            while self._now() < next_look:
                await self._others.until_change(next_look)
                if self._others.came:
                    return
            after = await self._look()
            # Without a sample nothing is known, and what keeps the machine up does so until it ends by itself.
            if before is not None and after is not None:
                self._judge(self._patience.judge(work_between(before, after, self._percent)))
            before = after

    def _judge(self, work: Work | None) -> None:
        if work is not None:
            self._what = _described(work)
        match self._vigil.see(worked=work is not None, now=self._now()):
            case Hold(seconds=seconds):
                self._publish(BackgroundWork(seconds=round(seconds, 3), what=self._what))
            case Over(limit=False):
                self._publish(BackgroundWork(seconds=0, what=self._what))
            case Over(limit=True):
                self._publish(BackgroundWork(seconds=0, what=f"what idle.background_max allows to {self._what}"))

    async def _look(self) -> Sample | None:
        try:
            return await self._sample()
        except SpawnRefused:  # the spawner is busy, or gone, which is seen elsewhere
            return None


def _described(work: Work) -> str:
    """`make, cc1plus of dev`."""
    return f"{', '.join(work.names)} of {', '.join(map(shown_name, work.uids))}"
