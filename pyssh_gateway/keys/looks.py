"""What somebody who wants to get in, or is about to be put out, has the sources asked, and for how long they wait.

A connection waits once for news of its keys, however many its agent has. This module does not know how a source is
asked, or what its answer means.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.freshness import LookBudget, Patience
from pyssh_gateway.keys.source_state import Standing
from pyssh_gateway.keys.sources import LOCAL_KINDS, REVOKED, Source

LOOK_PATIENCE = 2.0
"""Seconds that a connection waits for a new look at the sources, for all of its unknown keys together."""

FILE_SECONDS = 1.0
"""Seconds for which what was read in a key file holds. sshd reads it at every attempt; here a login (an offer, then a
signature) reads it once, and a thousand strangers a second do not have it read a thousand times."""


class Looks:
    """Has sources asked for those who log in. `asking` has what is being asked, each with the event of its answer.

    `want` has sources asked now; a standing that is `in_passing` has its next refresh as planned. `now` is Unix time.
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
        """Have these asked from now on. Those that wait for an answer go on waiting for it."""
        self._standings = standings
        self._settings = settings

    async def look_again(self, peer: str, offered: str, patience: Patience | None = None) -> None:
        """Somebody offers a key (a fingerprint) that nobody knows: see whether it is there by now, if that is worth it.

        `patience` is the connection's, which has the sources asked once, and waits for `LOOK_PATIENCE` seconds at most,
        or, while a source has not been asked at all yet, for the time that it has for its answer; None: this is its
        only key. What is done depends on neither the account nor the key being known: the time would tell.
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
        # What is being asked already, whoever wanted it, is waited for: that costs no question more.
        await _wait(self._asking.values(), limit, patience)

    async def read_files(self, patience: Patience | None = None, *, anew: bool = False) -> None:
        """Somebody wants to log in: see what the key files say, if that was not seen within `FILE_SECONDS`.

        All files are read, whoever it is: the time must not tell which accounts there are. A connection waits for
        `LOOK_PATIENCE` seconds at most; a file that does not answer by then counts as it did before. `anew`: even if
        they were read a moment ago.
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
        """A key that is gone from the source `spec` has opened a connection that is about to end: see if it is back.

        Returns after `LOOK_PATIENCE` seconds at most, with whether what is known then is certain: a server's single
        answer that somebody has no keys is not, until there is a second one. If the configuration has that source no
        more, the key may have moved to a server that has not answered yet.
        """
        if any(source.kind == REVOKED for source in self._standings):  # it may be on a list no more
            await self.read_files()
        for source, standing in self._standings.items():
            if source.spec != spec:
                continue
            if source.kind in LOCAL_KINDS:
                await self.read_files()
                return True
            if not 0.0 <= self._now() - standing.asked_at < FILE_SECONDS:  # a crowd that is put out asks once
                self._want((source,))
            if (asked := self._asking.get(source)) is not None:
                await _wait([asked], LOOK_PATIENCE, Patience())
            return not standing.unconfirmed
        servers = (standing for source, standing in self._standings.items() if source.kind not in LOCAL_KINDS)
        return all(standing.known is not None for standing in servers)

    def turned_away(self, peer: str, in_vain: tuple[str, ...]) -> None:
        """Somebody has left without getting in, who had offered these keys (fingerprints)."""
        self._budget.were_meant(peer, in_vain)

    def used(self, spec: str, peer: str, in_vain: tuple[str, ...]) -> None:
        """A key of the source `spec` has let `peer` in, who had offered the keys `in_vain` (fingerprints) before."""
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
