"""Checks the keys of logged-in clients again as soon as keys, or the accounts that may log in, have changed."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from pyssh_gateway.events import KeysFailed, KeysLoaded, Record, RevokedListFailed, RevokedListLoaded


class Client(Protocol):
    """A logged-in client."""

    @property
    def user(self) -> str:
        """The account."""

    def recheck_key(self) -> None:
        """See whether the key is still good, and act if it is not."""


class Clients(Protocol):
    """All clients."""

    @property
    def clients(self) -> Sequence[Client]:
        """Those that are logged in."""


class Sources(Protocol):
    """The sources of keys."""

    def unasked(self) -> Sequence[object]:
        """The sources of which nothing is known, and which have not been asked yet."""


class RevokedKeys:
    """Follows the events about people's keys and about the lists of what is revoked."""

    def __init__(self, registry: Clients, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._sources = sources
        self._loop = loop
        self._is_due = False

    def observe(self, record: Record) -> None:
        """Check when keys have changed. Not at once: every subscriber is to see this event first."""
        if isinstance(record.event, KeysLoaded | KeysFailed | RevokedListLoaded | RevokedListFailed) and self._is_due:
            self._loop.call_soon(self._look_when_known)
        elif isinstance(record.event, KeysLoaded | RevokedListLoaded) and record.event.changed:
            self._loop.call_soon(self._look)

    def reconfigured(self, users: Collection[str]) -> None:
        """Only these accounts may log in now.

        Clients of other accounts are checked at once. The others are checked when every new source has been asked,
        because a new source may have the keys of one that was removed.
        """
        for client in self._registry.clients:
            if client.user not in users:
                client.recheck_key()
        self._is_due = True
        self._look_when_known()

    def _look_when_known(self) -> None:
        if self._is_due and not self._sources.unasked():
            self._is_due = False
            self._look()

    def _look(self) -> None:
        for client in self._registry.clients:
            client.recheck_key()
