"""The schedule of requests to a source, and the consequences of its answer or of a failure.

A usable answer is put in force. After any other answer the last good keys stay, except in two cases: the source does
not exist any more (404), which counts if it is still so a minute later, or the account's name leads to another account.
This module does not know who wants the answer, or which other sources there are.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.freshness import age_of
from pyssh_gateway.events import AccountChanged, AnyEvent, InternalError, KeysFailed
from pyssh_gateway.keys.copies import Copy
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.inquiry import SECOND_LOOK, AccountChangedError, Inquirer, Known, known_from
from pyssh_gateway.keys.persistence import Keeper, KeepingError
from pyssh_gateway.keys.source_state import Standing, loaded
from pyssh_gateway.keys.sources import LOCAL_KINDS, NO_VALIDATORS, ReadFile, fetch

FIRST_RETRY = 5.0
"""Seconds after which a source that has never given keys is asked again, doubled each time (backoff) up to the normal
interval: at a cold start the network may come up after us, and until then that source's people are locked out."""

ACCOUNT_CHECK = 3600.0
"""Seconds between two checks whether an account's name still leads to the same account, as long as its keys are the
same. GitHub's API allows 60 requests an hour without a token, for all machines behind one address."""

JITTER = 0.1
"""Random share (jitter) of the interval, so that machines started together do not ask together for ever."""

FILE_SECOND_LOOK = 1.0
"""Seconds after which a key file that has lost all its keys is read again, before that counts: editors and tools empty
a file and then write it. Logins wait for it."""

EMPTY_SECOND_LOOK = 5.0
"""Seconds after which a server that has removed all keys of somebody is asked again. Meanwhile the keys let nobody in,
and their open connections end later than that (`monitor.connected.revocation.REVOKED_SECONDS`)."""


class Refresher:
    """Asks sources, and changes their standings by their answers.

    `changed` is called each time that the keys in force may have changed; `keeper` has the copies on the disk. `now` is
    Unix time, `random` uniform in [0, 1).
    """

    def __init__(
        self,
        settings: config.Keys,
        keeper: Keeper,
        *,
        read_file: ReadFile,
        publish: Callable[[AnyEvent], None],
        changed: Callable[[], None],
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._read_file = read_file
        self._publish = publish
        self._changed = changed
        self._now = now
        self._random = random
        self._inquirer = Inquirer(settings, read_file, now)
        self._files = Inquirer(settings, read_file, now)  # separate, so that files don't wait for silent servers

    def reconfigure(self, settings: config.Keys) -> None:
        """Use other settings from the next request on."""
        self._settings = settings
        self._inquirer = Inquirer(settings, self._read_file, self._now)
        self._files = Inquirer(settings, self._read_file, self._now)

    # -- when ---------------------------------------------------------------------------------------------------

    def interval(self) -> float:
        """Seconds from one request to the next, with jitter."""
        return self._settings.refresh * (1 - JITTER + 2 * JITTER * self._random())

    def until_due(self, idle: Iterable[Standing]) -> float:
        """Seconds until the next of `idle` is to be asked."""
        times = []
        for standing in idle:
            times.append(standing.next_due)
            if standing.wants_account:
                times.append(standing.learn_due)
        # After the clock was set back, planned times look far away; the limit makes sure that they are checked in time.
        longest = self._settings.refresh * (1 + JITTER)
        return max(0.0, min(longest, min(times, default=float("inf")) - self._now()))

    # -- a question ---------------------------------------------------------------------------------------------

    async def ask(self, standing: Standing) -> None:
        """Ask a source, and put its answer in force. A failure, and a bug in here, is an event, not an error."""
        bug = await self._contained(self._ask_and_judge(standing))
        if bug is not None:
            await self._failed(standing, FetchError(f"internal error: {type(bug).__name__}"))

    async def learn_account(self, standing: Standing) -> None:
        """Get the number of an account that is not pinned, and trust it from now on."""
        await self._contained(self._learn_account(standing))

    async def keep(self, standing: Standing) -> None:
        """Save the current state to the disk."""
        await self._contained(self._keep(standing))

    def put_in_force(self, standing: Standing, known: Known, doubt: str = "") -> None:
        """Put the keys of `known` in force; `doubt` is a problem of the source in spite of the answer."""
        before = standing.known.keys if standing.known is not None else ()
        is_known = (
            standing.in_passing
            and standing.known is not None
            and standing.known.text == known.text
            and standing.known.origin == known.origin
            and not standing.failure
        )
        standing.heard(known, doubt)
        self._changed()
        if not is_known:
            self._publish(loaded(standing.source, before, known))

    async def _contained(self, work: Awaitable[None]) -> Exception | None:
        """Run `work` for one source. A bug in it is reported, and stops neither the server nor the other sources."""
        try:
            await work
        except Exception as bug:  # noqa: BLE001 - a bug with one source must not stop the others
            self._publish(InternalError(where="keys", error=traceback.format_exc()))
            return bug
        return None

    async def _ask_and_judge(self, standing: Standing) -> None:
        now = self._now()
        standing.begin(now, standing.due if standing.in_passing else standing.due_after(now, self.interval()))
        try:
            known = await self._answer(standing, now)
        except AccountChangedError as error:
            self._disown(standing, error)
        except FetchError as error:
            await self._failed(standing, error)
        else:
            was_unconfirmed = standing.unconfirmed
            self.put_in_force(standing, known, known.doubt)
            if standing.unconfirmed and not was_unconfirmed:
                standing.second_look = now + EMPTY_SECOND_LOOK
            if known.doubt:
                if not known.keys:  # it lets nobody in, so ask again before a whole interval
                    standing.due = min(standing.due, now + SECOND_LOOK)
                self._report_failure(standing, standing.failure)

    async def _answer(self, standing: Standing, now: float) -> Known:
        """A source's current answer; an emptied key file is read twice. Raises FetchError and AccountChangedError."""
        standing.check_pins()
        is_local = standing.source.kind in LOCAL_KINDS
        confirmed = standing.known.confirmed if standing.known is not None else 0.0
        check = age_of(confirmed, now) >= (self._settings.refresh if self._settings.github_token else ACCOUNT_CHECK)
        inquirer = self._files if is_local else self._inquirer
        known = await self._question(standing, inquirer, check=check, now=now)
        if is_local and standing.blobs and not known.keys:
            await asyncio.sleep(FILE_SECOND_LOOK)
            known = await self._question(standing, inquirer, check=check, now=self._now())
        return known

    async def _question(self, standing: Standing, inquirer: Inquirer, *, check: bool, now: float) -> Known:
        return await self._unchanged(standing, now) or await inquirer.ask(
            standing.source, standing.known, trusted=standing.trusted, check=check, now=now
        )

    async def _unchanged(self, standing: Standing, now: float) -> Known | None:
        """The state of a key file whose content is the same: a long one is not parsed for every login.

        None if the content has changed, and for all other kinds of sources. Raises FetchError.
        """
        known = standing.known
        if standing.source.kind not in LOCAL_KINDS or known is None or known.revoked:
            return None
        answer = await fetch(standing.source, self._settings, self._read_file)
        return msgspec.structs.replace(known, origin="fetched", fetched=now) if answer.text == known.text else None

    # -- no usable answer ---------------------------------------------------------------------------------------

    async def _failed(self, standing: Standing, error: FetchError) -> None:
        """Handle a failure: the earlier keys stay, unless the source does not exist any more."""
        now = self._now()
        reason = error.reason
        if standing.known is None:
            standing.fruitless += 1
            standing.due = min(standing.due, now + FIRST_RETRY * 2.0 ** min(standing.fruitless - 1, 30))
        if error.retry_after is not None:  # later, never sooner: "Retry-After: 0" must not cause constant requests
            standing.due = max(standing.due, now + error.retry_after)
        if error.gone and standing.blobs:
            doubt = await self._doubt_about_end(standing, now)
            if doubt is None:
                reason = f"{reason}, and so it was a minute before: its keys are revoked"
                self.put_in_force(standing, self._nothing(standing, reason))
                self._report_failure(standing, reason)
                return
            reason = f"{reason}; {doubt}"
        before = standing.failure
        standing.failed(reason)
        self._changed()
        if not standing.in_passing or standing.failure != before:
            self._report_failure(standing, standing.failure)

    async def _doubt_about_end(self, standing: Standing, now: float) -> str | None:
        """Why a source's answer that it does not exist any more does not count yet; None if it does."""
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
        """The state of a source that lets nobody in any more, and the reason, which is kept over a restart."""
        return known_from(standing.source, Copy(b"", self._now(), NO_VALIDATORS, standing.trusted, reason), "fetched")

    # -- whose account it is ------------------------------------------------------------------------------------

    def _disown(self, standing: Standing, error: AccountChangedError) -> None:
        """The account's name leads to another account: the source lets nobody in until a person accepts that."""
        spec = standing.source.spec
        accept = f"pyssh-gateway keys accept {spec}" if standing.source.pinned_id is None else "the configuration"
        message = (
            f"{spec} is account {error.found} now, trusted is account {error.expected}: it was renamed or taken over, "
            f"and nobody gets in by it. If that is right, accept it with {accept}"
        )
        self._publish(AccountChanged(source=spec, expected=error.expected, found=error.found, message=message))
        self.put_in_force(standing, self._nothing(standing, message))

    async def _learn_account(self, standing: Standing) -> None:
        known = standing.known
        try:
            found = await self._inquirer.account_id(standing.source)
        except FetchError:
            return  # asked again at the next interval; until then the name is trusted, as before
        if known is None or standing.known is not known or standing.trusted is not None:
            return  # a newer answer came meanwhile, and asks again
        try:
            await self._keeper.remember(standing, found)
        except KeepingError as error:
            self._report_failure(standing, str(error))
            return
        standing.remembered = found
        owned = tuple(msgspec.structs.replace(key, person_id=found) for key in known.keys)
        standing.known = msgspec.structs.replace(known, keys=owned, account_id=found, confirmed=self._now())
        self._changed()
        await self._keep(standing)

    # -- reports and copies -------------------------------------------------------------------------------------

    async def _keep(self, standing: Standing) -> None:
        try:
            await self._keeper.keep(standing)
        except KeepingError as error:
            self._report_failure(standing, str(error))

    def _report_failure(self, standing: Standing, reason: str) -> None:
        self._publish(KeysFailed(source=standing.source.spec, reason=reason, kept=len(standing.blobs)))
