"""One request to one source: its current keys, whose they are, and which of them count.

If a GitHub account is trusted by its number, new keys count only after that number was confirmed for the name that they
came from. This module keeps no state except to avoid a second download for a team's members; keys.refresher decides
what is in force, and what happens when there is no answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import AuthorizedKey, parse
from pyssh_gateway.core.access.freshness import age_of, judge_account
from pyssh_gateway.core.access.person_names import visible_name
from pyssh_gateway.keys import github
from pyssh_gateway.keys.copies import Copy
from pyssh_gateway.keys.http_answer import MAX_HOLD, FetchError
from pyssh_gateway.keys.sources import (
    NO_VALIDATORS,
    Answer,
    ReadFile,
    RedirectedError,
    Source,
    Validators,
    fetch,
    in_daemon_thread,
    origin_of,
    parse_source,
    person_of,
    renamed_to,
)

MAX_FETCHES = 8
"""Fetches at a time, each with a thread and a socket: a handful of colleagues in one round, a company in a few."""

MAX_ON_LOOP = 16 * 1024
"""Bytes of a text that is parsed in the loop, in two milliseconds at worst; a hostile megabyte takes two seconds."""

MAX_DOUBTS = 5
"""Members of a team whose failures are reported; the others probably have the same one."""

SECOND_LOOK = 60.0
"""Seconds after which a source is asked again that answered that it does not exist any more, before that counts; also
one whose keys all wait until their owner is confirmed."""


class AccountChangedError(Exception):
    """The account with this name has the number `found` and not the one that is trusted."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"account {found} has this name now, trusted is account {expected}")
        self.expected = expected
        self.found = found


class Known(msgspec.Struct, frozen=True):
    """The last usable answer of a source, from `fetched` (Unix seconds).

    `account_id` is the number of the GitHub account that it is from, if known, and `confirmed` the time when the name
    last had that number. `doubt` is a problem of the source in spite of the answer: why its newest keys do not count
    yet, or that the account has another name; empty if there is none.
    `revoked` is the reason why the source lets nobody in any more; empty if it does.
    """

    text: bytes
    keys: tuple[AuthorizedKey, ...]
    refusals: tuple[str, ...]
    refused: int
    origin: Literal["fetched", "last-good"]
    fetched: float
    validators: Validators = NO_VALIDATORS
    account_id: int | None = None
    confirmed: float = 0.0
    doubt: str = ""
    revoked: str = ""

    @property
    def blobs(self) -> frozenset[bytes]:
        """The blobs of the keys, by which they are compared."""
        return frozenset(key.blob for key in self.keys)

    @property
    def copy(self) -> Copy:
        """The part that is kept on disk."""
        return Copy(self.text, self.fetched, self.validators, self.account_id, self.revoked)


class _Page(msgspec.Struct, frozen=True):
    """An account's page of keys. `number` is that of the account, if a redirect was the reason to ask for it already.

    `remark` says what should be corrected in the configuration, if anything.
    """

    answer: Answer
    number: int | None = None
    remark: str = ""


def known_from(source: Source, copy: Copy, origin: Literal["fetched", "last-good"] = "last-good") -> Known:
    """Parse the text of `source`. Raises FetchError if it is not about keys at all: such a text must not remove keys.

    Refused keys count as keys: a text that has only such keys removes all keys that were there before.
    """
    # The author of a file on this machine may restrict its keys by options; from the web such lines are refused.
    local = source.kind in {"file", "ca"}
    keys: list[AuthorizedKey] = []
    refusals: list[str] = []
    refused = 0
    about_keys = local  # a file can't be replaced by a server's error page on the way
    for person, account_id, text in _people(source, copy):
        parsed = parse(text, source.spec, allow_options=local, authorities=source.kind == "ca")
        keys += (_owned(key, person, account_id) for key in parsed.accepted)
        refusals += parsed.refused
        refused += parsed.refused_count
        about_keys = about_keys or bool(parsed.accepted) or parsed.refused_keys
    if refused and not about_keys:
        raise FetchError(f"no usable key in it ({refused} bad lines, the first: {refusals[0]})")
    return Known(
        text=copy.text,
        keys=tuple(keys),
        refusals=tuple(refusals),
        refused=refused,
        origin=origin,
        fetched=copy.fetched,
        validators=copy.validators,
        account_id=copy.account_id,
        revoked=copy.revoked,
    )


def _people(source: Source, copy: Copy) -> tuple[tuple[str, int | None, bytes], ...]:
    """The owners of the text's lines: person, number, lines. An empty person: the key's comment names them."""
    if source.kind == "github-team":
        return tuple((f"github:{member.login}", member.id, text) for member, text in github.split(copy.text))
    return (("" if source.kind in {"file", "ca"} else person_of(source), copy.account_id, copy.text),)


def _owned(key: AuthorizedKey, person: str, account_id: int | None) -> AuthorizedKey:
    if not person and key.comment:
        person = f"file:{visible_name(key.comment)}"
    return msgspec.structs.replace(key, person=person or key.source, person_id=account_id)


class Inquirer:
    """Asks sources, `MAX_FETCHES` at a time, and obeys a server's wish for a pause. `now` is Unix time."""

    def __init__(self, settings: config.Keys, read_file: ReadFile, now: Callable[[], float]) -> None:
        self._settings = settings
        self._read_file = read_file
        self._now = now
        self._held_back: dict[str, float] = {}
        self._places = asyncio.Semaphore(MAX_FETCHES)
        self._members: dict[github.Member, tuple[Validators, bytes]] = {}

    async def ask(self, source: Source, known: Known | None, *, trusted: int | None, check: bool, now: float) -> Known:
        """The answer of `source`; `known` is the one before. Raises FetchError and AccountChangedError.

        `trusted` is the number of the account that a `github:` source means, if there is one already; `check`: confirm
        that it is still that account, even if its keys have not changed.
        """
        if source.kind == "github-team":
            return await self._ask_team(source, known, now)
        page = await self._page(source, known.validators if known is not None else NO_VALIDATORS, trusted)
        answer = page.answer
        if answer.text is None:
            if known is None:
                raise FetchError("the answer is that nothing has changed, but nothing was known")
            heard = msgspec.structs.replace(known, origin="fetched", fetched=now, doubt="")
        else:
            heard = await _read(source, Copy(answer.text, now, answer.validators, trusted))
        if source.kind != "github":
            return heard
        return await self._judge(source, known, heard, page, trusted=trusted, check=check)

    async def _judge(
        self, source: Source, known: Known | None, heard: Known, page: _Page, *, trusted: int | None, check: bool
    ) -> Known:
        """The keys that count of those at an account's name now."""
        before = known.blobs if known is not None else frozenset()
        changed = bool(heard.blobs - before)
        found, doubt = page.number, page.remark
        if trusted is not None and found is None and (changed or check):
            try:
                found = await self.account_id(source)
            except FetchError as error:
                doubt = f"new keys wait until it is certain that the account is still number {trusted}: {error.reason}"
        verdict = judge_account(expected=trusted, found=found, changed=changed)
        if verdict == "disown" and trusted is not None and found is not None:
            raise AccountChangedError(trusted, found)
        confirmed = heard.fetched if found is not None else known.confirmed if known is not None else 0.0
        owned = tuple(msgspec.structs.replace(key, person_id=trusted) for key in heard.keys)
        # Once another account was seen, that counts until the right one is confirmed: a missing answer does not undo
        # it.
        revoked = known.revoked if known is not None and trusted is not None and found is None else ""
        heard = msgspec.structs.replace(
            heard, keys=owned, account_id=trusted, confirmed=confirmed, revoked=revoked, doubt=page.remark
        )
        if verdict == "trust" and not revoked:
            return heard
        kept = tuple(key for key in heard.keys if key.blob in before)
        # Without validators, so that the next answer is complete.
        return msgspec.structs.replace(heard, text=_lines(kept), keys=kept, validators=NO_VALIDATORS, doubt=doubt)

    async def account_id(self, source: Source) -> int:
        """The number of the account that has the name of a `github:` source now. Raises FetchError."""
        async with self._turn(self._settings.github_api):
            return await github.account_id(source.value, self._settings, now=self._now)

    @asynccontextmanager
    async def _turn(self, server: str) -> AsyncIterator[None]:
        """Wait for one of the `MAX_FETCHES` places. Raises FetchError while `server` wants no requests."""
        left = self._held_back.get(server, 0.0) - self._now()
        if server and 0 < left <= MAX_HOLD:  # longer than MAX_HOLD means that the clock was set back since
            raise FetchError(f"{server} is left alone for {left:.0f} s more, as it asked", retry_after=left)
        async with self._places:
            try:
                yield
            except FetchError as error:
                if server and error.retry_after is not None:
                    self._held_back[server] = self._now() + error.retry_after
                raise

    async def _page(self, source: Source, validators: Validators, trusted: int | None) -> _Page:
        """The keys on the page of a source, or from GitHub's API for an account whose page is not shown."""
        try:
            return _Page(await self._fetch(source, validators))
        except RedirectedError as error:
            if source.kind != "github":
                raise
            login = renamed_to(source, self._settings, error.target)
            if login:
                return await self._renamed(login, trusted)
            if not self._settings.github_is_own:
                raise
            if not self._settings.github_token:
                raise FetchError(f"{error.reason}; {github.PRIVATE}") from error
        async with self._turn(self._settings.github_api):
            return _Page(Answer(await github.account_keys(source.value, self._settings, now=self._now)))

    async def _renamed(self, login: str, trusted: int | None) -> _Page:
        """The keys of the account `login`, the target of a redirect, if it is the account with the number `trusted`.

        Raises FetchError while that is not certain: then no new keys count, and the earlier keys stay, as in an outage.
        """
        where = f"redirected to the keys of another account, {login}"
        advice = f"if the account was renamed, name github:{login} in the configuration"
        if trusted is None:
            raise FetchError(f"{where}, and nobody knows the number of the one that is meant: {advice}")
        renamed = parse_source(f"github:{login}")
        try:
            # First the keys, then the number: otherwise somebody could take the name in between, and the keys be
            # theirs.
            answer = await self._fetch(renamed, NO_VALIDATORS)
            found = await self.account_id(renamed)
        except FetchError as error:
            reason = f"{where}, which wait until it is certain that it is still number {trusted}: {error.reason}"
            raise FetchError(reason, retry_after=error.retry_after) from error
        if found != trusted:
            raise FetchError(f"{where}, which is number {found}, and trusted is number {trusted}: they do not count")
        # Validators are valid only for the address that gave them.
        answer = msgspec.structs.replace(answer, validators=NO_VALIDATORS)
        return _Page(
            answer, found, f"account {trusted} is called {login} now: name github:{login} in the configuration"
        )

    async def _fetch(self, source: Source, validators: Validators) -> Answer:
        async with self._turn(origin_of(source, self._settings)):
            return await fetch(source, self._settings, self._read_file, validators=validators, now=self._now)

    async def _ask_team(self, source: Source, known: Known | None, now: float) -> Known:
        """The keys of all members of a team. If a member's keys can't be fetched now, the earlier ones count.

        They count for `max_stale` after the last answer about that member, even if the list of members is newer.
        """
        org, _, team = source.value.partition("/")
        async with self._turn(self._settings.github_api):
            members = await github.team_members(org, team, self._settings, now=self._now)
        before = dict(github.split(known.text)) if known is not None else {}
        old = dict.fromkeys(before, github.Old(known.fetched)) | github.times(known.text) if known is not None else {}
        async with asyncio.TaskGroup() as fetches:
            asked = {member: fetches.create_task(self._member(member)) for member in members}
        self._members = {member: kept for member, kept in self._members.items() if member in asked}
        texts, doubts, kept = [], [], {}
        for member, task in asked.items():
            heard = task.result()
            if isinstance(heard, FetchError):
                error, heard, end = heard, before.get(member, b""), ""
                if heard:
                    kept[member] = _still_failing(old[member], error, now)
                    end = self._end_of_member(kept[member], error, now)
                if end:
                    heard = b""
                    del kept[member]
                doubts.append(f"github:{member.login}: {error.reason}{end}")
            texts.append((member, heard))
        heard_of_all = await _read(source, Copy(github.compose(texts, kept), now))
        return msgspec.structs.replace(heard_of_all, doubt="; ".join(doubts[:MAX_DOUBTS]))

    def _end_of_member(self, old: github.Old, error: FetchError, now: float) -> str:
        """Why a member's earlier keys don't count any more; empty if they do."""
        if error.gone and old.gone_since is not None and now - old.gone_since >= SECOND_LOOK:
            return ", and so it was a minute before: their keys are revoked"
        return "; the keys from before are too old" if age_of(old.as_of, now) > self._settings.max_stale else ""

    async def _member(self, member: github.Member) -> bytes | FetchError:
        """The keys of a team's member."""
        validators, text = self._members.get(member, (NO_VALIDATORS, b""))
        try:
            page = await self._page(parse_source(f"github:{member.login}"), validators, member.id)
            answer = page.answer
            if answer.text is not None:
                text = github.key_lines(answer.text)  # an answer without keys fails for this member only
        except FetchError as error:
            return error
        self._members[member] = (answer.validators, text)
        return text


def _still_failing(old: github.Old, error: FetchError, now: float) -> github.Old:
    """The state of a member after another failure; `gone_since` is not later than `now`."""
    since = old.gone_since if old.gone_since is not None and old.gone_since <= now else None
    return github.Old(old.as_of, now if error.gone and since is None else since)


async def _read(source: Source, copy: Copy) -> Known:
    """Parse a text that was just fetched; a large one in a thread, because all connections wait for the loop."""
    if len(copy.text) <= MAX_ON_LOOP:
        return known_from(source, copy, "fetched")
    return await in_daemon_thread(lambda: known_from(source, copy, "fetched"), name="read-keys")


def _lines(keys: tuple[AuthorizedKey, ...]) -> bytes:
    """Key lines that parse to `keys`, for keys without options."""
    import binascii

    return b"".join(key.key_type.encode() + b" " + binascii.b2a_base64(key.blob, newline=False) + b"\n" for key in keys)
