"""The state of the sources on disk, for the next start: last good keys, and numbers of trusted accounts."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from pyssh_gateway.events import AnyEvent, KeysFailed
from pyssh_gateway.keys.copies import Copies, Copy, CopyError, Pins
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.inquiry import Known, known_from
from pyssh_gateway.keys.source_state import Standing
from pyssh_gateway.keys.sources import Source
from pyssh_gateway.system.threads import in_daemon_thread

SAVE_TIMEOUT = 10.0
"""Seconds that writing a copy may take before it counts as failed: such a slow disk is not going to answer."""

SAVE_AGAIN = 3600.0
"""Seconds after which a copy with the same keys is written again with the time of a newer answer: its time decides
when the keys are stale, if the machine is started without network again and again."""


class KeepingError(Exception):
    """A file could not be written; the message says which and why, in one line."""


class Keeper:
    """Reads and writes the files in `store`; one write at a time."""

    def __init__(self, store: Path, publish: Callable[[AnyEvent], None]) -> None:
        self._copies = Copies(store)
        self._pins = Pins(store)
        self._publish = publish
        self._writing = asyncio.Lock()

    def load(self, standings: Iterable[Standing]) -> Iterable[tuple[Standing, Known]]:
        """The state from earlier runs. An unusable copy is reported and left out."""
        pins, pins_lost = {}, ""
        try:
            pins = self._pins.load()
        except CopyError as error:
            pins_lost = str(error)
        for standing in standings:
            source = standing.source
            standing.pins_lost = pins_lost
            standing.remembered = pins.get(_pin(source))
            try:
                copy = self._load_copy(standing)
                if copy is None:
                    continue
                known = known_from(source, copy)
                # The time of the copy counts as confirmation, because a machine may start often, and new keys are
                # confirmed anyway. A copy of another account is never confirmed.
                if copy.account_id is not None and not copy.revoked:
                    known = msgspec.structs.replace(known, confirmed=copy.fetched)
            except (CopyError, FetchError) as error:
                self._publish(KeysFailed(source=source.spec, reason=f"last good copy not used: {error}", kept=0))
                continue
            if standing.remembered is None and source.pinned_id is None:
                standing.remembered = copy.account_id
            standing.saved = copy
            yield standing, known

    def _load_copy(self, standing: Standing) -> Copy | None:
        """The last good copy, if it is from the trusted account. Raises CopyError."""
        copy, trusted = self._copies.load(standing.source.spec), standing.trusted
        if copy is None or trusted is None or copy.account_id in {None, trusted}:
            return copy
        raise CopyError(f"it is of account {copy.account_id}, trusted is account {trusted}")

    async def keep(self, standing: Standing) -> None:
        """Write the keys in force to the disk, if it does not have them. Raises KeepingError."""
        try:
            async with asyncio.timeout(SAVE_TIMEOUT), self._writing:
                copy = standing.copy_to_save(SAVE_AGAIN)
                if copy is not None:
                    await in_daemon_thread(lambda: self._copies.save(standing.source.spec, copy), name="save-keys")
                    standing.saved = copy
        except OSError as error:
            path = self._copies.path(standing.source.spec)
            raise KeepingError(f"could not keep a copy: {path}: {_reason(error)}") from error

    async def remember(self, standing: Standing, number: int) -> None:
        """Trust only the account `number` by this name from now on. Raises KeepingError."""
        await self._change(lambda: self._pins.remember(_pin(standing.source), number))

    async def forget(self, standing: Standing) -> None:
        """Forget the account's number: the next account with the name is trusted. Raises KeepingError."""
        await self._change(lambda: self._pins.forget(_pin(standing.source)))

    async def _change(self, change: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(SAVE_TIMEOUT), self._writing:
                await in_daemon_thread(change, name="save-account-ids")
        except CopyError as error:
            raise KeepingError(str(error)) from error
        except OSError as error:
            raise KeepingError(f"could not write {self._pins.path}: {_reason(error)}") from error


def _pin(source: Source) -> str:
    """The name under which an account's number is stored: GitHub's logins are not case-sensitive."""
    return source.spec.lower()


def _reason(error: OSError) -> str:
    return error.strerror or "no answer from the disk"
