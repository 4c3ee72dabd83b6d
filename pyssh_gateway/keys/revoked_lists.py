"""The revocation lists (`keys.revoked`): reads them again, and keeps the last content of each.

Nobody gets in while a list can't be read or parsed, as with sshd. Its earlier content still ends connections. Nothing
is kept on disk: after a restart the file itself has to be there. `keyring` and `looks` decide when a list is read, as
for key files.
"""

import asyncio
import traceback
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from pyssh_gateway.core.access.revocations import Revocations, RevokedList
from pyssh_gateway.core.access.revoked_list import MAX_BYTES, RevokedListError, parse
from pyssh_gateway.events import AnyEvent, InternalError, RevokedListFailed, RevokedListLoaded
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.source_state import Standing
from pyssh_gateway.keys.sources import REVOKED, ReadFile, Source, fetch_file
from pyssh_gateway.system.threads import in_daemon_thread

MAX_ON_LOOP = 16 * 1024
"""Bytes of a list that is parsed in the loop, in a millisecond or two; larger ones are parsed in a thread."""

SECOND_LOOK = 1.0
"""Seconds after which a list that has become empty or invalid is read again, before that counts: ssh-keygen and editors
empty a file and then write it. Logins wait for it, until their patience ends (`looks.LOOK_PATIENCE`)."""

NOT_READ_YET = "it has not been read yet"


class _State(msgspec.Struct):
    """The state of one list. `digest` is that of the text that `listed` is from, None before there was any."""

    listed: RevokedList
    digest: bytes | None = None


def as_source(spec: str) -> Source:
    """The list `file:<path>` of the configuration as a source, so that it is read when it is due."""
    path = spec.partition(":")[2]
    return Source(f"{REVOKED}:{path}", REVOKED, path)


class RevokedLists:
    """The lists `specs`. `changed` is called each time that the revoked keys may have changed; `now` is Unix time."""

    def __init__(
        self,
        specs: Sequence[str],
        *,
        read_file: ReadFile,
        publish: Callable[[AnyEvent], None],
        changed: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._read_file = read_file
        self._publish = publish
        self._changed = changed
        self._now = now
        self._states: dict[Source, _State] = {}
        self.reconfigure(specs)

    def reconfigure(self, specs: Sequence[str]) -> None:
        """Use these lists from now on. The state of those that remain is kept."""
        before = self._states
        self._states = {
            source: before.get(source) or _State(RevokedList(spec, None, NOT_READ_YET))
            for source, spec in ((as_source(spec), spec) for spec in specs)
        }

    @property
    def sources(self) -> tuple[Source, ...]:
        """The lists as sources."""
        return tuple(self._states)

    @property
    def lists(self) -> tuple[RevokedList, ...]:
        """The state of every list, in the order of the configuration."""
        return tuple(state.listed for state in self._states.values())

    async def ask(self, standing: Standing, *, seconds: float, interval: float) -> None:
        """Read a list, and put it in force, within `seconds`. A failure is an event, not an error.

        It is due again after `interval` seconds, unless it is read in passing.
        """
        now = self._now()
        standing.begin(now, standing.due if standing.in_passing else standing.due_after(now, interval))
        state = self._states.get(standing.source)
        if state is None:  # it is not in the configuration any more
            return
        try:
            digest, found = await self._answer(standing.source, state, seconds)
        except (FetchError, RevokedListError) as error:
            self._failed(state, str(error), in_passing=standing.in_passing)
        except Exception as bug:  # noqa: BLE001 - a bug with one list must not stop the others
            self._publish(InternalError(where="keys", error=traceback.format_exc()))
            self._failed(state, f"internal error: {type(bug).__name__}", in_passing=False)
        else:
            self._heard(state, digest, found, in_passing=standing.in_passing)

    async def _answer(self, source: Source, state: _State, seconds: float) -> tuple[bytes, Revocations]:
        """A list's current content; one that has become empty is read twice. Raises FetchError, RevokedListError."""
        before = state.listed
        if before.revocations is None or before.failure:
            return await self._read(source, state, seconds)
        try:
            digest, found = await self._read(source, state, seconds)
            if found.entries or not before.revocations.entries:
                return digest, found
        except RevokedListError:
            pass
        await asyncio.sleep(SECOND_LOOK)
        return await self._read(source, state, seconds)

    async def _read(self, source: Source, state: _State, seconds: float) -> tuple[bytes, Revocations]:
        """The content of the file. An unchanged one is not parsed again. Raises FetchError, RevokedListError."""
        text = await fetch_file(source.value, self._read_file, seconds, limit=MAX_BYTES)
        digest = sha256(text).digest()
        if state.digest == digest and state.listed.revocations is not None:
            return digest, state.listed.revocations
        if len(text) <= MAX_ON_LOOP:
            return digest, parse(text)
        return digest, await in_daemon_thread(lambda: parse(text), name="read-revoked-list")

    def _heard(self, state: _State, digest: bytes, found: Revocations, *, in_passing: bool) -> None:
        before = state.listed
        state.listed = RevokedList(before.spec, found)
        is_new = state.digest != digest
        state.digest = digest
        self._changed()
        if is_new or before.failure or not in_passing:
            self._publish(RevokedListLoaded(list=before.spec, kind=found.kind, entries=found.entries, changed=is_new))

    def _failed(self, state: _State, reason: str, *, in_passing: bool) -> None:
        before = state.listed
        state.listed = RevokedList(before.spec, before.revocations, reason)
        self._changed()
        if not in_passing or before.failure != reason:
            self._publish(RevokedListFailed(list=before.spec, reason=reason))
