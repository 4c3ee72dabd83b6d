"""Writes down background work that nothing depends on yet (`background.seen`), for `pyssh-gateway idle what-if`.

While a client keeps the machine up, nobody looks at background work, so the log could not tell whether a shorter
`idle.client_idle` would have ended a build. So this module looks, too, but only while clients are on and none has been
used for a while, and rarely. The looks at the clients are not its own: it is told of them.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Sample, work_between
from pyssh_gateway.core.idle.usage import Usage
from pyssh_gateway.events import AnyEvent, BackgroundSeen, ConnectionClosed, Record, ServerStopping
from pyssh_gateway.ipc.spawner_client import SpawnRefused

WORK_SECONDS = 300.0
"""How long no client has been used before the first look at the processes, and the time between two. A look forks a
process for some milliseconds; a pause in work is mostly shorter than this, so most days have none or a few."""

SPANS = 16
"""How many spans are gathered before they are written down: at least 80 minutes."""


class WorkWatch:
    """Publishes `BackgroundSeen`. `clock` is Unix time.

    `held` says whether a connected client is a reason to stay up. If none is, `BackgroundWatch` looks by itself. `soon`
    calls a function in a later turn of the loop: an event is not published while another one is handed on.
    """

    def __init__(
        self,
        settings: config.Idle,
        *,
        held: Callable[[], bool],
        sample: Callable[[], Awaitable[Sample]],
        publish: Callable[[AnyEvent], None],
        soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._percent = settings.background_cpu
        self._held = held
        self._sample = sample
        self._publish = publish
        self._soon = soon
        self._clock = clock
        self._unused_since = clock()
        self._looked_at = self._unused_since
        self._before: Sample | None = None
        self._due = asyncio.Event()
        self._spans: list[tuple[float, float]] = []

    def reconfigure(self, settings: config.Idle) -> None:
        """Use other settings from now on."""
        self._percent = settings.background_cpu

    def observe(self, record: Record) -> None:
        """The last client may go, or the server stops: write down what has been seen."""
        if isinstance(record.event, ServerStopping | ConnectionClosed) and self._spans:
            self._soon(self._end_if_over if isinstance(record.event, ConnectionClosed) else self._write)

    def looked(self, usage: Usage) -> None:
        """Clients have been looked at: look at the processes if none has been used for long."""
        if usage.just_used or not self._held():
            self._begin_anew()
        elif self._clock() - self._looked_at >= WORK_SECONDS:
            self._due.set()

    @property
    def due(self) -> bool:
        """Whether it is time to look at the processes."""
        return self._due.is_set()

    async def run(self) -> None:
        """Look at the processes when it is time for that, until cancelled."""
        while True:
            await self._due.wait()
            await self.look()

    def _begin_anew(self) -> None:
        self._write()
        self._unused_since = self._looked_at = self._clock()
        self._before = None

    def _end_if_over(self) -> None:
        if not self._held():
            self._begin_anew()

    async def look(self) -> None:
        """Look at the processes now."""
        unused_since = self._unused_since
        try:
            after: Sample | None = await self._sample()
        except SpawnRefused:  # the spawner is busy; a look later
            after = None
        finally:
            self._due.clear()
        if unused_since != self._unused_since:  # somebody has come back meanwhile
            return
        before, self._before = self._before, after
        since, self._looked_at = self._looked_at, self._clock()
        if before is not None and after is not None and work_between(before, after, self._percent) is not None:
            self._add(since, self._looked_at)

    def _add(self, begin: float, end: float) -> None:
        if self._spans and begin <= self._spans[-1][1]:
            self._spans[-1] = self._spans[-1][0], end
            return
        if len(self._spans) == SPANS:
            self._write()
        # What works at the first two looks has worked since the last use, for all that is known.
        first = begin - self._unused_since <= 2 * WORK_SECONDS and not self._spans
        self._spans.append((self._unused_since if first else begin, end))

    def _write(self) -> None:
        if self._spans:
            now = self._clock()
            self._publish(
                BackgroundSeen(spans=tuple((round(now - begin), round(now - end)) for begin, end in self._spans))
            )
            self._spans.clear()
