"""The keys that let people in: all sources, the requests to them, and the keys in force.

A source's keys change only by a complete, usable answer. After anything else (an error, a page of HTML, a timeout) its
last good keys stay for `keys.max_stale`, and an event says why. An empty answer is a usable one: it removes all keys.
`refresher` decides what follows from an answer, and `persistence` keeps copies for a start without network. Logins read
`Keyring.snapshot`, one reference that is replaced as a whole.
"""

import asyncio
import random as random_module
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.revocations import RevokedList
from pyssh_gateway.events import AnyEvent
from pyssh_gateway.keys.looks import Looks
from pyssh_gateway.keys.persistence import Keeper, KeepingError
from pyssh_gateway.keys.refresher import Refresher
from pyssh_gateway.keys.revoked_lists import RevokedLists
from pyssh_gateway.keys.source_state import Grants, SourceStatus, Standing
from pyssh_gateway.keys.sources import LOCAL_KINDS, REVOKED, ReadFile, Source, parse_source

FIRST_REFRESH_DELAY = 2.0
"""Seconds to the first refresh when last-good keys are known: the client whose connection started the machine is
waiting, and importing the HTTP client and loading the CA certificates takes 50 ms of CPU time."""


class Keyring:
    """Holds the keys of all logins, as one `snapshot` that is replaced as a whole.

    `looks` asks sources on behalf of connections. `store` is the directory of the last-good copies. `now` is Unix time,
    because copies outlive the process; `sleep` and `random` (uniform in [0, 1)) pace `run`. Raises SourceError if a
    login names an invalid source.
    """

    def __init__(
        self,
        logins: Sequence[config.Login],
        settings: config.Keys,
        store: Path,
        publish: Callable[[AnyEvent], None],
        read_file: ReadFile,
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._keeper = Keeper(store, publish)
        self._now = now
        self._sleep = sleep or self._until_wanted
        self._refresher = Refresher(
            settings,
            self._keeper,
            read_file=read_file,
            publish=publish,
            changed=self._renew_snapshot,
            now=now,
            random=random,
        )
        self._revoked = RevokedLists(
            settings.revoked_lists, read_file=read_file, publish=publish, changed=self._renew_snapshot, now=now
        )
        self._grants = Grants(logins, parse_source)
        self._standings = {source: Standing(source, now()) for source in self._sources}
        self._asking: dict[Source, asyncio.Event] = {}
        self._queue: list[Standing] = []
        self._wanted = asyncio.Event()
        self.looks = Looks(self._standings, self._asking, want=self.want, settings=settings, now=now)
        self.snapshot = self._build_snapshot()

    # -- the start ----------------------------------------------------------------------------------------------

    def load_last_good(self) -> None:
        """Put the copies of earlier runs in force. An unusable copy is reported and left out.

        Key files are due nevertheless, and are read before anybody is let in (`read_files`).
        """
        self._load(self._standings.values())

    def _load(self, standings: Iterable[Standing]) -> None:
        for standing, known in self._keeper.load(each for each in standings if each.source.kind != REVOKED):
            if standing.source.kind not in LOCAL_KINDS:
                standing.due = self._now() + FIRST_REFRESH_DELAY
            self._refresher.put_in_force(standing, known)
            standing.resume(self._now())

    def reconfigure(self, logins: Sequence[config.Login], settings: config.Keys) -> None:
        """Use these logins and settings from now on. The state of sources that remain is kept."""
        if settings != self._settings:
            self._settings = settings
            self._refresher.reconfigure(settings)
            self._revoked.reconfigure(settings.revoked_lists)
        self._grants = Grants(logins, parse_source)
        before, now = self._standings, self._now()
        self._standings = {source: before.get(source) or Standing(source, now) for source in self._sources}
        for standing in [standing for standing in self._queue if standing.source not in self._standings]:
            self._queue.remove(standing)
            self._asking.pop(standing.source).set()
        self.looks.reconfigure(self._standings, settings)
        self.snapshot = self._build_snapshot()
        self._load([standing for source, standing in self._standings.items() if source not in before])
        self._wanted.set()

    @property
    def _sources(self) -> tuple[Source, ...]:
        """All sources. The revocation lists come first: nobody gets in before they are known."""
        return (*self._revoked.sources, *self._grants.sources)

    def missing(self) -> tuple[Source, ...]:
        """The sources without any keys yet: neither from an answer nor from a copy."""
        return tuple(source for source, standing in self._standings.items() if standing.known is None)

    def unasked(self) -> tuple[Source, ...]:
        """Those of the missing sources that have not been asked yet. One that was asked may be missing for ever."""
        return tuple(source for source in self.missing() if not self._standings[source].asked)

    def describe(self) -> tuple[SourceStatus, ...]:
        """The state of every source, in the order of the configuration."""
        return tuple(
            standing.status(self._grants.users_of(source), self._now(), self._settings.max_stale)
            for source, standing in self._standings.items()
            if source.kind != REVOKED
        )

    @property
    def revoked(self) -> tuple[RevokedList, ...]:
        """The state of every revocation list."""
        return self._revoked.lists

    # -- requests for a newer answer ----------------------------------------------------------------------------

    def want(self, sources: Sequence[Source]) -> None:
        """Make `run` ask these sources now; those that are being asked already are not asked twice."""
        self._enqueue(sources)
        self._wanted.set()

    def _enqueue(self, sources: Sequence[Source]) -> None:
        for source in sources:
            if source not in self._asking:
                self._asking[source] = asyncio.Event()
                self._queue.append(self._standings[source])

    def want_all(self) -> None:
        """Make `run` ask every source now."""
        self.want(tuple(self._standings))

    async def refresh_all(self) -> None:
        """Ask every source now, and wait for the answers."""
        self.want_all()
        await self.settled()

    async def settled(self) -> None:
        """Wait until no request is open any more."""
        for done in tuple(self._asking.values()):
            await done.wait()

    async def accept(self, spec: str) -> str | None:
        """Trust the account that has the name of a `github:` source now. Returns an error text, or None."""
        for source, standing in self._standings.items():
            if source.spec != spec or source.kind != "github":
                continue
            if source.pinned_id is not None:
                return f"{spec} is pinned to that number in the configuration: change it there"
            try:
                await self._keeper.forget(standing)
            except KeepingError as error:
                return str(error)
            while (asked := self._asking.get(source)) is not None:  # its answer is still checked against the old number
                await asked.wait()
            standing.start_anew()
            self.want((source,))
            await self._refresher.keep(standing)
            return None
        return f"no login has {spec} among its keys"

    # -- asking -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask each source when it is due, until cancelled."""
        async with asyncio.TaskGroup() as questions:
            while True:
                self._wanted.clear()
                now = self._now()
                self._enqueue([source for source, standing in self._standings.items() if standing.is_due(now)])
                queue, self._queue = self._queue, []
                for standing in queue:
                    questions.create_task(self._ask(standing))
                for standing in self._standings.values():
                    if standing.wants_account and standing.learn_due <= now and standing.source not in self._asking:
                        standing.learn_due = now + self._refresher.interval()
                        questions.create_task(self._refresher.learn_account(standing))
                # A source that is being asked sets its next time itself.
                idle = [standing for source, standing in self._standings.items() if source not in self._asking]
                await self._sleep(self._refresher.until_due(idle))

    async def refresh(self, sources: Sequence[Source] | None = None) -> None:
        """Ask `sources` (all by default) and put their answers in force. A source's failure is an event, not an error.

        Each answer takes effect as soon as it is there; this returns after the slowest.
        """
        async with asyncio.TaskGroup() as questions:
            for source in self._standings if sources is None else sources:
                if (asked := self._asking.get(source)) is not None:
                    questions.create_task(_wait(asked))
                else:
                    self._asking[source] = asyncio.Event()
                    questions.create_task(self._ask(self._standings[source]))

    async def _until_wanted(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def _ask(self, standing: Standing) -> None:
        """Send one request to one source, and wake those who wait for the answer.

        A file that is read only because somebody wants to log in keeps the time of its next refresh. Its content is
        reported and saved only if it is new: otherwise strangers could fill the log.
        """
        before, in_passing = standing.known, standing.in_passing
        try:
            if standing.source.kind == REVOKED:
                await self._revoked.ask(standing, seconds=self._settings.timeout, interval=self._refresher.interval())
            else:
                await self._refresher.ask(standing)
        finally:
            standing.asked = True
            standing.in_passing = False
            self._asking.pop(standing.source).set()
            self._wanted.set()
        if in_passing and before is not None and standing.known is not None and before.text == standing.known.text:
            return
        # Saving comes later: those who wait for the answer must not wait for the disk.
        await self._refresher.keep(standing)

    # -- what is in force ---------------------------------------------------------------------------------------

    def _renew_snapshot(self) -> None:
        self.snapshot = self._build_snapshot()

    def _build_snapshot(self) -> KeySnapshot:
        fetched = {
            source.spec: standing.known.fetched
            for source, standing in self._standings.items()
            if standing.known is not None
        }
        return KeySnapshot(
            self._grants.accounts(self._standings.__getitem__), fetched, self._settings.max_stale, self.revoked
        )


async def _wait(done: asyncio.Event) -> None:
    await done.wait()
