"""The keys that let people in: asked for, kept up to date, and kept on disk for a start without network.

A source's keys change only by a whole, usable answer. Whatever else it says (an error, a page of HTML, nothing in
time), its last good keys stay for `keys.max_stale`, and an event says why. An empty answer is a usable one: it takes
all keys away. That there is nothing any more (404) counts when it is still so a minute later. Logins read
`Keyring.snapshot`, one reference that is replaced whole.
"""

import asyncio
import random as random_module
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.freshness import age_of
from pyssh_gateway.events import AccountChanged, AnyEvent, InternalError, KeysFailed
from pyssh_gateway.keys.copies import Copy
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.inquiry import SECOND_LOOK, AccountChangedError, Inquirer, Known, known_from
from pyssh_gateway.keys.looks import Looks
from pyssh_gateway.keys.persistence import Keeper, KeepingError
from pyssh_gateway.keys.source_state import Grants, SourceStatus, Standing, loaded
from pyssh_gateway.keys.sources import LOCAL_KINDS, NO_VALIDATORS, ReadFile, Source, fetch, parse_source

FIRST_REFRESH_DELAY = 2.0
"""Seconds to the first refresh when last-good keys are known: someone is waiting for the login that started the
machine, and importing the HTTP client and loading the CA certificates takes the processor for 50 ms."""

FIRST_RETRY = 5.0
"""Seconds after which a source that has given no keys at all yet is asked again, doubled each time up to the normal
interval: at a cold start the network may come later than we do, and until then that source's people are locked out."""

ACCOUNT_CHECK = 3600.0
"""Seconds between two questions whether an account's name still leads to the same account, as long as its keys are the
same. GitHub's API allows 60 questions an hour without a token, for all machines behind one address."""

JITTER = 0.1
"""Share of the interval by which it varies, so that machines started together do not ask together for ever."""

FILE_SECOND_LOOK = 1.0
"""Seconds after which a key file that has lost all its keys is read again, before that is believed: editors and tools
empty a file and then write it. Logins wait for it."""

EMPTY_SECOND_LOOK = 5.0
"""Seconds after which a server that has taken away all keys of somebody is asked again. The keys let in nobody
meanwhile, and what they opened ends later than that (`monitor.revocation.REVOKED_SECONDS`)."""


class Keyring:
    """Holds the keys of everybody who may log in, as one `snapshot` that is replaced whole.

    `looks` is for those who want to get in. `store` is the directory of the last-good copies. `now` is Unix time,
    because copies outlive the process; `sleep` and `random` (uniform in [0, 1)) pace `run`. Raises SourceError if a
    login names a source that is none.
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
        self._publish = publish
        self._now = now
        self._random = random
        self._sleep = sleep or self._until_wanted
        self._inquirer = Inquirer(settings, read_file, now)
        self._files = Inquirer(settings, read_file, now)  # its own: no file waits behind servers that do not answer
        self._read_file = read_file
        self._grants = Grants(logins, parse_source)
        self._standings = {source: Standing(source, now()) for source in self._grants.sources}
        self._asking: dict[Source, asyncio.Event] = {}
        self._in_passing: set[Source] = set()
        self._queue: list[Standing] = []
        self._wanted = asyncio.Event()
        self.looks = Looks(self._standings, self._asking, self._in_passing, want=self.want, settings=settings, now=now)
        self.snapshot = self._build_snapshot()

    # -- the start ----------------------------------------------------------------------------------------------

    def load_last_good(self) -> None:
        """Put the copies of earlier runs in force. One that cannot be used is reported and left out.

        Key files are due all the same, and read before anybody is let in (`read_files`).
        """
        self._load(self._standings.values())

    def _load(self, standings: Iterable[Standing]) -> None:
        for standing, known in self._keeper.load(standings):
            if standing.source.kind not in LOCAL_KINDS:
                standing.due = self._now() + FIRST_REFRESH_DELAY
            self._put_in_force(standing, known)
            standing.resume(self._now())

    def reconfigure(self, logins: Sequence[config.Login], settings: config.Keys) -> None:
        """Let in whom these name, from now on. What is known of sources that stay, stays."""
        if settings != self._settings:
            self._settings = settings
            self._inquirer = Inquirer(settings, self._read_file, self._now)
            self._files = Inquirer(settings, self._read_file, self._now)
        self._grants = Grants(logins, parse_source)
        before, now = self._standings, self._now()
        self._standings = {source: before.get(source) or Standing(source, now) for source in self._grants.sources}
        for standing in [standing for standing in self._queue if standing.source not in self._standings]:
            self._queue.remove(standing)
            self._asking.pop(standing.source).set()
        self.looks.reconfigure(self._standings, settings)
        self.snapshot = self._build_snapshot()
        self._load([standing for source, standing in self._standings.items() if source not in before])
        self._wanted.set()

    def missing(self) -> tuple[Source, ...]:
        """The sources of which nothing is known yet: neither an answer nor a copy."""
        return tuple(source for source, standing in self._standings.items() if standing.known is None)

    def unasked(self) -> tuple[Source, ...]:
        """Those of them that have not been asked yet. One that has been may be missing for ever."""
        return tuple(source for source in self.missing() if not self._standings[source].asked)

    def describe(self) -> tuple[SourceStatus, ...]:
        """How every source stands, in the order of the configuration."""
        return tuple(
            standing.status(self._grants.users_of(source), self._now(), self._settings.max_stale)
            for source, standing in self._standings.items()
        )

    # -- who wants a newer answer -------------------------------------------------------------------------------

    def want(self, sources: Sequence[Source]) -> None:
        """Have `run` ask these now; those that are being asked already are not asked twice."""
        self._enqueue(sources)
        self._wanted.set()

    def _enqueue(self, sources: Sequence[Source]) -> None:
        for source in sources:
            if source not in self._asking:
                self._asking[source] = asyncio.Event()
                self._queue.append(self._standings[source])

    def want_all(self) -> None:
        """Have `run` ask every source now."""
        self.want(tuple(self._standings))

    async def refresh_all(self) -> None:
        """The same, and wait for the answers."""
        self.want_all()
        await self.settled()

    async def settled(self) -> None:
        """Wait until nothing is being asked any more."""
        for done in tuple(self._asking.values()):
            await done.wait()

    async def accept(self, spec: str) -> str | None:
        """Trust whatever account has the name of a `github:` source now. Returns why not, or None."""
        for source, standing in self._standings.items():
            if source.spec != spec or source.kind != "github":
                continue
            if source.pinned_id is not None:
                return f"{spec} is pinned to that number in the configuration: change it there"
            try:
                await self._keeper.forget(standing)
            except KeepingError as error:
                return str(error)
            while (asked := self._asking.get(source)) is not None:  # its answer is judged by the number from before
                await asked.wait()
            standing.start_anew()
            self.want((source,))
            await self._keep(standing)
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
                        standing.learn_due = now + self._interval()
                        questions.create_task(self._contained(self._learn_account(standing)))
                await self._sleep(self._until_due())

    async def refresh(self, sources: Sequence[Source] | None = None) -> None:
        """Ask `sources` (all by default) and put in force what they say. A source's failure is an event, not an error.

        Each answer counts as soon as it is there; only the slowest decides when this returns.
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

    def _interval(self) -> float:
        return self._settings.refresh * (1 - JITTER + 2 * JITTER * self._random())

    def _until_due(self) -> float:
        """Seconds until the next question; a source that is being asked says itself when it is next."""
        idle = [standing for source, standing in self._standings.items() if source not in self._asking]
        times = [standing.next_due for standing in idle]
        times += [standing.learn_due for standing in idle if standing.wants_account]
        # A clock that is set back makes what was planned look far away: it is looked at again in time.
        longest = self._settings.refresh * (1 + JITTER)
        return max(0.0, min(longest, min(times, default=float("inf")) - self._now()))

    async def _ask(self, standing: Standing) -> None:
        """One question to one source, and what follows from the answer.

        A file that is read in passing, as somebody wants to log in, has its next refresh as before, and what it says
        is told and kept if it is something new: strangers would fill the log.
        """
        before = standing.known
        in_passing = standing.source in self._in_passing
        try:
            bug = await self._contained(self._ask_and_judge(standing))
            if bug is not None:
                await self._failed(standing, FetchError(f"internal error: {type(bug).__name__}"))
        finally:
            standing.asked = True
            self._in_passing.discard(standing.source)
            self._asking.pop(standing.source).set()
            self._wanted.set()
        if in_passing and before is not None and standing.known is not None and before.text == standing.known.text:
            return
        # Nobody who waits for the answer waits for the disk.
        await self._contained(self._keep(standing))

    async def _contained(self, work: Awaitable[None]) -> Exception | None:
        """Do what is to be done about one source. A bug in it is told, and ends neither the gateway nor the others."""
        try:
            await work
        except Exception as bug:  # noqa: BLE001 - what a source says reaches far, and would do so again after a restart
            self._publish(InternalError(where="keys", error=traceback.format_exc()))
            return bug
        return None

    async def _ask_and_judge(self, standing: Standing) -> None:
        now = self._now()
        in_passing = standing.source in self._in_passing
        standing.begin(now, standing.due if in_passing else standing.due_after(now, self._interval()))
        confirmed = standing.known.confirmed if standing.known is not None else 0.0
        try:
            standing.check_pins()
            inquirer = self._files if standing.source.kind in LOCAL_KINDS else self._inquirer
            check = age_of(confirmed, now) >= self._check_interval
            known = await self._question(standing, inquirer, check=check, now=now)
            if standing.source.kind in LOCAL_KINDS and standing.blobs and not known.keys:
                await asyncio.sleep(FILE_SECOND_LOOK)
                known = await self._question(standing, inquirer, check=check, now=self._now())
        except AccountChangedError as error:
            self._disown(standing, error)
        except FetchError as error:
            await self._failed(standing, error)
        else:
            was_unconfirmed = standing.unconfirmed
            self._put_in_force(standing, known, known.doubt)
            if standing.unconfirmed and not was_unconfirmed:
                standing.second_look = now + EMPTY_SECOND_LOOK
            if known.doubt:
                if not known.keys:  # nobody gets in by it: that is not left so for a whole interval
                    standing.due = min(standing.due, now + SECOND_LOOK)
                self._report_failure(standing, standing.failure)

    async def _question(self, standing: Standing, inquirer: Inquirer, *, check: bool, now: float) -> Known:
        """What a source says now. Raises FetchError and AccountChangedError."""
        return await self._unchanged(standing, now) or await inquirer.ask(
            standing.source, standing.known, trusted=standing.trusted, check=check, now=now
        )

    async def _unchanged(self, standing: Standing, now: float) -> Known | None:
        """What is known of a key file, if that still says the same: a long one is not parsed for every login.

        None if it says something else, and of all other sources. Raises FetchError.
        """
        known = standing.known
        if standing.source.kind not in LOCAL_KINDS or known is None or known.revoked:
            return None
        answer = await fetch(standing.source, self._settings, self._read_file)
        return msgspec.structs.replace(known, origin="fetched", fetched=now) if answer.text == known.text else None

    @property
    def _check_interval(self) -> float:
        return self._settings.refresh if self._settings.github_token else ACCOUNT_CHECK

    async def _failed(self, standing: Standing, error: FetchError) -> None:
        """No usable answer: what was known stays, unless there is nothing to know any more."""
        now = self._now()
        reason = error.reason
        if standing.known is None:
            standing.fruitless += 1
            standing.due = min(standing.due, now + FIRST_RETRY * 2.0 ** min(standing.fruitless - 1, 30))
        if error.retry_after is not None:  # later, never sooner: "Retry-After: 0" is no wish to be asked all the time
            standing.due = max(standing.due, now + error.retry_after)
        if error.gone and standing.blobs:
            doubt = await self._doubt_about_end(standing, now)
            if doubt is None:
                reason = f"{reason}, and so it was a minute before: its keys are revoked"
                self._put_in_force(standing, self._nothing(standing, reason))
                self._report_failure(standing, reason)
                return
            reason = f"{reason}; {doubt}"
        before = standing.failure
        standing.failed(reason)
        self.snapshot = self._build_snapshot()
        if standing.source not in self._in_passing or standing.failure != before:
            self._report_failure(standing, standing.failure)

    async def _doubt_about_end(self, standing: Standing, now: float) -> str | None:
        """Why a source that says that it is not there any more is not believed yet; None if it is."""
        if standing.gone_since is None or now - standing.gone_since < SECOND_LOOK:
            standing.gone_since = standing.gone_since if standing.gone_since is not None else now
            standing.due = standing.gone_since + SECOND_LOOK
            return "if it still says so in a minute, its keys are revoked"
        if standing.source.kind == "github" and self._settings.github_token:
            try:
                found = await self._inquirer.account_id(standing.source)
            except FetchError as error:
                return None if error.gone else f"the API could not confirm it: {error.reason}"
            if standing.trusted in {None, found}:
                return "but the API knows the account"
        return None

    def _nothing(self, standing: Standing, reason: str) -> Known:
        """What is known of a source that lets in nobody any more, and why, also after a restart."""
        return known_from(standing.source, Copy(b"", self._now(), NO_VALIDATORS, standing.trusted, reason), "fetched")

    def _disown(self, standing: Standing, error: AccountChangedError) -> None:
        """The account's name leads to somebody else: nobody gets in by it, until a person says otherwise."""
        spec = standing.source.spec
        accept = f"pyssh-gateway keys accept {spec}" if standing.source.pinned_id is None else "the configuration"
        message = (
            f"{spec} is account {error.found} now, trusted is account {error.expected}: it was renamed or taken over, "
            f"and nobody gets in by it. If that is right, accept it with {accept}"
        )
        self._publish(AccountChanged(source=spec, expected=error.expected, found=error.found, message=message))
        self._put_in_force(standing, self._nothing(standing, message))

    async def _learn_account(self, standing: Standing) -> None:
        """Find out the number of an account that nobody has pinned, and trust it from now on."""
        known = standing.known
        try:
            found = await self._inquirer.account_id(standing.source)
        except FetchError:
            return  # asked again at the next interval; until then the name is trusted, as it has been so far
        if known is None or standing.known is not known or standing.trusted is not None:
            return  # something newer came meanwhile, and asks again
        try:
            await self._keeper.remember(standing, found)
        except KeepingError as error:
            self._report_failure(standing, str(error))
            return
        standing.remembered = found
        owned = tuple(msgspec.structs.replace(key, person_id=found) for key in known.keys)
        standing.known = msgspec.structs.replace(known, keys=owned, account_id=found, confirmed=self._now())
        self.snapshot = self._build_snapshot()
        await self._keep(standing)

    # -- what is in force, here and on the disk -----------------------------------------------------------------

    def _put_in_force(self, standing: Standing, known: Known, doubt: str = "") -> None:
        """Let in by what is known now; `doubt` says what is wrong with the source all the same."""
        before = standing.known.keys if standing.known is not None else ()
        is_known = (
            standing.source in self._in_passing
            and standing.known is not None
            and standing.known.text == known.text
            and standing.known.origin == known.origin
            and not standing.failure
        )
        standing.heard(known, doubt)
        self.snapshot = self._build_snapshot()
        if is_known:
            return
        self._publish(loaded(standing.source, before, known))

    async def _keep(self, standing: Standing) -> None:
        try:
            await self._keeper.keep(standing)
        except KeepingError as error:
            self._report_failure(standing, str(error))

    def _build_snapshot(self) -> KeySnapshot:
        fetched = {
            source.spec: standing.known.fetched
            for source, standing in self._standings.items()
            if standing.known is not None
        }
        return KeySnapshot(self._grants.accounts(self._standings.__getitem__), fetched, self._settings.max_stale)

    def _report_failure(self, standing: Standing, reason: str) -> None:
        self._publish(KeysFailed(source=standing.source.spec, reason=reason, kept=len(standing.blobs)))


async def _wait(done: asyncio.Event) -> None:
    await done.wait()
