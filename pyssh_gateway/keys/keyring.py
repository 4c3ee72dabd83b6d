"""The keys in force: read from their sources, refreshed, and kept on disk for a start without network.

A source's keys change only by a whole, usable answer. Whatever else it says (an error, a page of HTML, nothing in
time), its last good keys stay, and an event says why. An empty answer is a usable one: it takes all keys away.
Logins read `Keyring.snapshot`, one reference that is replaced whole; a login never waits for anything in here.
"""

import asyncio
import random as random_module
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pyssh_gateway import config
from pyssh_gateway.core.authorized_keys import AuthorizedKey, KeySnapshot, ParsedKeys, parse
from pyssh_gateway.events import AnyEvent, KeysFailed, KeysLoaded
from pyssh_gateway.keys.copies import Copies, Copy, CopyError
from pyssh_gateway.keys.download import FetchError
from pyssh_gateway.keys.sources import ReadFile, Source, fetch, in_daemon_thread, parse_source

MAX_FETCHES = 8
"""Fetches at once, each with a thread and a socket: a handful of colleagues in one go, a company in a few."""

FIRST_REFRESH_DELAY = 2.0
"""Seconds to the first refresh when last-good keys are known: someone is waiting for the login that started the
machine, and importing the HTTP client and loading the CA certificates takes the processor for 50 ms."""

FIRST_RETRY = 5.0
"""Seconds after which a source that has given no keys at all yet is asked again, doubled each time up to the normal
interval: at a cold start the network may come later than we do, and until then that source's people are locked out."""

JITTER = 0.1
"""Share of the interval by which it varies, so that machines started together do not ask together for ever."""

SAVE_TIMEOUT = 10.0
"""Seconds that writing a copy may take before it counts as failed: a disk that is that slow is not going to answer."""

Origin = Literal["none", "fetched", "last-good"]


class SourceStatus(msgspec.Struct, frozen=True):
    """One source as it stands. `age` is in seconds since its keys were fetched, None if there are none.

    `failure` says why the last refresh failed and is empty if it did not.
    """

    spec: str
    users: tuple[str, ...]
    accepted: int
    refused: int
    origin: Origin
    age: float | None
    failure: str


class _Known(msgspec.Struct, frozen=True):
    """A usable answer of a source."""

    parsed: ParsedKeys
    origin: Literal["fetched", "last-good"]
    fetched: float


class Keyring:
    """Holds the keys of everybody who may log in, as one `snapshot` that is replaced whole.

    `store` is the directory of the last-good copies. `now` is Unix time, because copies outlive the process; `sleep`
    and `random` (uniform in [0, 1)) pace `run`. Raises SourceError if a login names a source that is none.
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
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._copies = Copies(store)
        self._publish = publish
        self._read_file = read_file
        self._now = now
        self._random = random
        self._sleep = sleep

        self._grants = tuple((login.user, parse_source(spec)) for login in logins for spec in login.keys)
        self._sources = tuple(dict.fromkeys(source for _, source in self._grants))
        self._users = tuple(dict.fromkeys(login.user for login in logins))

        self._known: dict[Source, _Known] = {}
        self._failures: dict[Source, str] = {}
        self._asked: set[Source] = set()
        self._saved: dict[Source, bytes] = {}
        self._refreshing = asyncio.Lock()
        self.snapshot = self._build_snapshot()

    def load_last_good(self) -> None:
        """Put the copies of earlier runs in force. One that cannot be used is reported and left out."""
        for source in self._sources:
            try:
                copy = self._copies.load(source.spec)
                if copy is None:
                    continue
                parsed = _parse_usable(source, copy.text)
            except (CopyError, FetchError) as error:
                self._publish(KeysFailed(source=source.spec, reason=f"last good copy not used: {error}", kept=0))
                continue
            self._saved[source] = copy.text
            self._put_in_force(source, _Known(parsed, "last-good", copy.fetched))

    def missing(self) -> tuple[Source, ...]:
        """The sources of which nothing is known yet: neither an answer nor a copy."""
        return tuple(source for source in self._sources if source not in self._known)

    def describe(self) -> tuple[SourceStatus, ...]:
        """How every source stands, in the order of the configuration."""
        return tuple(self._status(source) for source in self._sources)

    async def refresh(self, sources: Sequence[Source] | None = None) -> None:
        """Ask `sources` (all by default) and put in force what they say. A source's failure is an event, not an error.

        Each answer counts as soon as it is there; only the slowest decides when this returns.
        """
        places = asyncio.Semaphore(MAX_FETCHES)
        # One refresh at a time, or a slow answer to an earlier question could replace a newer one.
        async with self._refreshing, asyncio.TaskGroup() as fetches:
            for source in self._sources if sources is None else sources:
                fetches.create_task(self._refresh_source(source, places))

    async def run(self) -> None:
        """Refresh for ever: soon after the start, then at the configured interval, until cancelled."""
        unasked = any(source not in self._asked for source in self.missing())
        fruitless = 1 if self.missing() and not unasked else 0
        if unasked:
            delay = 0.0
        elif any(known.origin == "last-good" for known in self._known.values()):
            delay = FIRST_REFRESH_DELAY
        else:
            delay = self._next_delay(fruitless)
        while True:
            await self._sleep(delay)
            await self.refresh()
            fruitless = fruitless + 1 if self.missing() else 0
            delay = self._next_delay(fruitless)

    def _next_delay(self, fruitless: int) -> float:
        """Seconds to the next refresh after `fruitless` ones in a row that left a source without any keys."""
        interval: float = self._settings.refresh
        if fruitless:
            interval = min(interval, FIRST_RETRY * 2.0 ** min(fruitless - 1, 30))
        return interval * (1 - JITTER + 2 * JITTER * self._random())

    async def _refresh_source(self, source: Source, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                text = await fetch(
                    source,
                    github_url=self._settings.github_url,
                    seconds=self._settings.timeout,
                    read_file=self._read_file,
                )
                parsed = _parse_usable(source, text)
            except FetchError as error:
                self._asked.add(source)
                self._failures[source] = error.reason
                self._report_failure(source, error.reason)
                return
            self._asked.add(source)
            self._failures.pop(source, None)
            fetched = self._now()
            self._put_in_force(source, _Known(parsed, "fetched", fetched))
            if self._saved.get(source) != text:
                await self._save(source, Copy(text, fetched))

    async def _save(self, source: Source, copy: Copy) -> None:
        try:
            async with asyncio.timeout(SAVE_TIMEOUT):
                await in_daemon_thread(lambda: self._copies.save(source.spec, copy), name="save-keys")
        except OSError as error:
            path = self._copies.path(source.spec)
            self._report_failure(
                source, f"could not keep a copy: {path}: {error.strerror or 'no answer from the disk'}"
            )
        else:
            self._saved[source] = copy.text

    def _put_in_force(self, source: Source, known: _Known) -> None:
        changed = _blobs(self._known.get(source)) != _blobs(known)
        self._known[source] = known
        self.snapshot = self._build_snapshot()
        self._publish(
            KeysLoaded(
                source=source.spec,
                origin=known.origin,
                accepted=len(known.parsed.accepted),
                refused=known.parsed.refused_count,
                changed=changed,
                refusals=known.parsed.refused,
            )
        )

    def _build_snapshot(self) -> KeySnapshot:
        accounts: dict[str, dict[bytes, AuthorizedKey]] = {user: {} for user in self._users}
        for user, source in self._grants:
            known = self._known.get(source)
            for key in known.parsed.accepted if known is not None else ():
                accounts[user].setdefault(key.blob, key)
        return KeySnapshot(accounts)

    def _report_failure(self, source: Source, reason: str) -> None:
        self._publish(KeysFailed(source=source.spec, reason=reason, kept=len(_blobs(self._known.get(source)))))

    def _status(self, source: Source) -> SourceStatus:
        known = self._known.get(source)
        return SourceStatus(
            spec=source.spec,
            users=tuple(dict.fromkeys(user for user, granted in self._grants if granted == source)),
            accepted=len(known.parsed.accepted) if known is not None else 0,
            refused=known.parsed.refused_count if known is not None else 0,
            origin=known.origin if known is not None else "none",
            # Not below zero: a clock that was set back does not make keys younger than now.
            age=max(0.0, self._now() - known.fetched) if known is not None else None,
            failure=self._failures.get(source, ""),
        )


def _blobs(known: _Known | None) -> frozenset[bytes]:
    return frozenset(key.blob for key in known.parsed.accepted) if known is not None else frozenset()


def _parse_usable(source: Source, text: bytes) -> ParsedKeys:
    """What `text` says. Raises FetchError if it is not about keys at all: that is no way to take keys away."""
    # Whoever may write a file on this machine may also restrict the keys in it; a web page is not asked.
    parsed = parse(text, source.spec, allow_options=source.kind == "file")
    if parsed.refused and not parsed.accepted:
        raise FetchError(f"no usable key in it ({parsed.refused_count} bad lines, the first: {parsed.refused[0]})")
    return parsed
