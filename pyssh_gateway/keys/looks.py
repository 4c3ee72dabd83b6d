"""Requests to sources on behalf of connections that want to log in or are about to be ended, and how long these wait.

A connection waits only once for new answers about its keys, however many its agent has. This module does not know how a
source is asked, or what its answer means.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.freshness import LookBudget, Patience
from pyssh_gateway.keys.source_state import Standing
from pyssh_gateway.keys.sources import LOCAL_KINDS, REVOKED, Source

LOOK_PATIENCE = 2.0
"""Seconds that a connection waits for new answers of the sources, for all of its unknown keys together."""

FILE_SECONDS = 1.0
"""Seconds for which the content of a key file is cached. sshd reads it at every attempt; here a login (an offer, then a
signature) reads it once, and a thousand strangers a second can't cause a thousand reads."""


class Looks:
    """Asks sources on behalf of logins. `asking` has the sources that are being asked, each with its answer's event.

    `want` asks sources now; a standing that is `in_passing` keeps its planned refresh. `now` is Unix time.
    """

    def __init__(
        self,
        standings: Mapping[Source, Standing],
        asking: Mapping[Source, asyncio.Event],
        *,
        want: Callable[[Sequence[Source]], None],
        settings: config.Keys,
        now: Callable[[], float],
    ) -> None:
        self._standings = standings
        self._asking = asking
        self._want = want
        self._settings = settings
        self._now = now
        self._budget = LookBudget(now())

    def reconfigure(self, standings: Mapping[Source, Standing], settings: config.Keys) -> None:
        """Use these sources from now on. Connections that wait for an answer go on waiting for it."""
        self._standings = standings
        self._settings = settings

    async def look_again(self, peer: str, offered: str, patience: Patience | None = None) -> None:
        """A client offers an unknown key (a fingerprint): ask the sources for it, if that is worth it.

        `patience` is that of the connection, which has the sources asked once, and waits for at most `LOOK_PATIENCE`
        seconds, or, if a source was never asked yet, for that source's timeout; None: this is its only key. The steps
        do not depend on whether the account or the key is known, which their duration would reveal.
        """
        patience = patience or Patience()
        limit = LOOK_PATIENCE
        if any(not standing.asked and standing.known is None for standing in self._standings.values()):
            limit = self._settings.timeout
        elif self._budget.is_bystander(peer, offered):
            return
        elif (
            not patience.has_looked
            and len(self._asking) < len(self._standings)
            and self._budget.take(peer, offered, self._now())
        ):
            patience.has_looked = True
            self._want(tuple(self._standings))
        # Wait also for sources that are being asked already for another reason: that costs no further request.
        await _wait(self._asking.values(), limit, patience)

    async def read_files(self, patience: Patience | None = None, *, anew: bool = False) -> None:
        """A client wants to log in: read the key files, if they were not read within `FILE_SECONDS`.

        All files are read, for every account, because the duration must not reveal which accounts exist. A connection
        waits for at most `LOOK_PATIENCE` seconds; a file that was not read by then counts as before. `anew`: read them
        even if they were read a moment ago.
        """
        now = self._now()
        files = [standing for source, standing in self._standings.items() if source.kind in LOCAL_KINDS]
        for standing in files:
            is_fresh = not anew and standing.asked and 0.0 <= now - standing.asked_at < FILE_SECONDS
            if standing.source not in self._asking and not is_fresh:
                if not standing.is_due(now):
                    standing.in_passing = True
                self._want((standing.source,))
        reading = [self._asking[standing.source] for standing in files if standing.source in self._asking]
        await _wait(reading, LOOK_PATIENCE, patience or Patience())

    async def look_up(self, spec: str) -> bool:
        """A connection is about to end because its key is gone from the source `spec`: check whether the key is back.

        Returns after at most `LOOK_PATIENCE` seconds whether the state is certain: a server's single answer that
        somebody has no keys is not, until a second one confirms it. If the source is not in the configuration any more,
        the key may have moved to a server that has not answered yet.
        """
        if any(source.kind == REVOKED for source in self._standings):  # the list may not have it any more
            await self.read_files()
        for source, standing in self._standings.items():
            if source.spec != spec:
                continue
            if source.kind in LOCAL_KINDS:
                await self.read_files()
                return True
            if not 0.0 <= self._now() - standing.asked_at < FILE_SECONDS:  # many connections that end together ask once
                self._want((source,))
            if (asked := self._asking.get(source)) is not None:
                await _wait([asked], LOOK_PATIENCE, Patience())
            return not standing.unconfirmed
        servers = (standing for source, standing in self._standings.items() if source.kind not in LOCAL_KINDS)
        return all(standing.known is not None for standing in servers)

    def turned_away(self, peer: str, in_vain: tuple[str, ...]) -> None:
        """A client that had offered these keys (fingerprints) has disconnected without a login."""
        self._budget.were_meant(peer, in_vain)

    def used(self, spec: str, peer: str, in_vain: tuple[str, ...]) -> None:
        """A key of the source `spec` has let `peer` in, which had offered the keys `in_vain` (fingerprints) before."""
        self._budget.stood_by(peer, in_vain)
        for source, standing in self._standings.items():
            if source.spec == spec and standing.unasked(self._now()) >= self._settings.revalidate:
                self._want((source,))


async def _wait(answers: Iterable[asyncio.Event], limit: float, patience: Patience) -> None:
    """Wait for all `answers`, until the connection has waited for `limit` seconds in all."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience.left(limit)):
            for answer in tuple(answers):
                await answer.wait()
    patience.waited += loop.time() - began
