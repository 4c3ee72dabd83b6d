"""Shows a line on terminals that belong to no session of ours, above all those inside an editor such as VS Code.

The spawner's samples say which terminals the processes of sessions have; each account's own process writes on those
that are its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.terminals import left_behind
from pyssh_gateway.ipc.postauth import MAX_LINES
from pyssh_gateway.ipc.spawner_client import SpawnRefused

FRESH_SECONDS = 5.0
"""How old a sample may be: the look that comes before an idle stop has just taken one."""

SAMPLE_SECONDS = 0.5
"""How long a new sample may take. A stop waits for it, and does without those lines if it takes longer."""


class LeftTerminals:
    """Remembers the last sample. `ours` are the terminals of open sessions, as paths; `show` writes on others.

    `now` is the loop's clock.
    """

    def __init__(
        self,
        sample: Callable[[], Awaitable[Sample]],
        *,
        ours: Callable[[], Iterable[str]],
        show: Callable[[tuple[str, ...], str], None],
        now: Callable[[], float],
    ) -> None:
        self._take = sample
        self._ours = ours
        self._show = show
        self._now = now
        self._last: Sample | None = None
        self._taken_at = 0.0

    async def sample(self) -> Sample:
        """Take a sample, and remember it. Raises `SpawnRefused`."""
        sample = await self._take()
        self._last, self._taken_at = sample, self._now()
        return sample

    async def announce(self, text: str) -> None:
        """Show a line on all of them. Waits for a sample for `SAMPLE_SECONDS` at most, if there is no fresh one."""
        if self._last is None or self._now() - self._taken_at > FRESH_SECONDS:
            with suppress(TimeoutError, SpawnRefused):
                async with asyncio.timeout(SAMPLE_SECONDS):
                    await self.sample()
        if self._last is None:
            return
        lines = tuple(left_behind(self._last, (path.removeprefix("/dev/") for path in self._ours())))
        if lines:
            self._show(lines[-MAX_LINES:], text)
