"""When the keys of those who are on are looked at again: as soon as keys have changed, or who may log in."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from pyssh_gateway.events import KeysFailed, KeysLoaded, Record, RevokedListLoaded


class Client(Protocol):
    """Somebody who is on."""

    @property
    def user(self) -> str:
        """The account."""

    def recheck_key(self) -> None:
        """See whether the key is still good, and act if it is not."""


class Clients(Protocol):
    """All of them."""

    @property
    def clients(self) -> Sequence[Client]:
        """Those who are on."""


class Sources(Protocol):
    """The sources of keys."""

    def unasked(self) -> Sequence[object]:
        """Those of which nothing is known, and which have not been asked yet."""


class RevokedKeys:
    """Follows the events."""

    def __init__(self, registry: Clients, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._sources = sources
        self._loop = loop
        self._is_due = False

    def observe(self, record: Record) -> None:
        """Look when keys have changed. Not now: every subscriber is to see this event first."""
        if isinstance(record.event, KeysLoaded | KeysFailed) and self._is_due:
            self._loop.call_soon(self._look_when_known)
        elif isinstance(record.event, KeysLoaded | RevokedListLoaded) and record.event.changed:
            self._loop.call_soon(self._look)

    def reconfigured(self, users: Collection[str]) -> None:
        """Only these may log in now.

        The others are looked at when every new source has been asked: its keys may be those of one that is gone.
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
