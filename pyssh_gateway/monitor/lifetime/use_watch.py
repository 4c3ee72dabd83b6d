"""Writes down when clients were used (`client.use`), for `pyssh-gateway idle what-if`.

With `idle.client_idle` the idle watch looks at all clients anyway, and tells this module what it has seen. Without it
nobody looks, so this module does, once a minute and only while somebody is on: what `idle.client_idle` would save can
be computed only for whom it was off.
"""

import asyncio
import math
from collections.abc import Callable

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.usage import Usage
from pyssh_gateway.core.idle.use_record import Span, UseRecord, merged_up_to
from pyssh_gateway.events import (
    AnyEvent,
    ClientUse,
    ConnectionAuthenticated,
    ConnectionClosed,
    Identity,
    Record,
    ServerStopping,
)
from pyssh_gateway.monitor.clients import Clients

LOOK_SECONDS = 60.0
"""How often clients are looked at without `idle.client_idle`: a minute's precision is enough for what-if, and a look
costs a message to each account's process and its answer, about as much as one keepalive of its clients."""


class UseWatch:
    """Publishes `ClientUse`. `clock` is Unix time, `now` the loop's; `also` is told of each look, too.

    `soon` calls a function in a later turn of the loop. An event is not published while another one is handed on:
    subscribers would get the two in the wrong order.
    """

    def __init__(
        self,
        settings: config.Idle,
        *,
        registry: Clients,
        publish: Callable[[AnyEvent], None],
        clock: Callable[[], float],
        now: Callable[[], float],
        soon: Callable[[Callable[[], None]], object],
        also: Callable[[Usage], None] = lambda _usage: None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._publish = publish
        self._clock = clock
        self._now = now
        self._soon = soon
        self._also = also
        self._record = UseRecord()
        self._people: dict[str, tuple[str, Identity]] = {}
        self._changed = asyncio.Event()

    def reconfigure(self, settings: config.Idle) -> None:
        """Use other settings from now on."""
        self._settings = settings
        self._changed.set()

    def observe(self, record: Record) -> None:
        """A client comes or goes, or the server stops, which is the last chance to write anything down."""
        match record.event:
            case ConnectionAuthenticated(conn=conn, user=user, identity=identity, seconds=seconds):
                self._people[conn] = user, identity
                self._record.open(conn, self._clock() - seconds)
                self._changed.set()
            case ConnectionClosed(conn=conn) if conn in self._people:
                self._write_soon(conn, self._record.close(conn))
                del self._people[conn]
                self._changed.set()
            case ServerStopping():
                for conn, spans in self._record.take():
                    self._write_soon(conn, spans)
            case _:
                pass

    def looked(self, usage: Usage) -> None:
        """Clients have been looked at: take note of those that were used in the window that has just ended."""
        until = self._clock()
        pause = merged_up_to(self._settings.client_idle)
        for conn, spans in self._record.use(usage.just_used, until - usage.window, until, pause):
            self._write_soon(conn, spans)
        self._also(usage)

    async def run(self) -> None:
        """Look at clients as long as nobody else does, until cancelled."""
        while True:
            await self._until_nobody_looks()
            usage = Usage(math.inf, window=LOOK_SECONDS)
            while self._nobody_looks:
                await asyncio.sleep(usage.window)
                await self._registry.look()
                usage.look({client.id: client.counters for client in self._registry.clients}, self._now())
                if self._nobody_looks:
                    self.looked(usage)

    @property
    def _nobody_looks(self) -> bool:
        return self._settings.client_idle is None and bool(self._people)

    async def _until_nobody_looks(self) -> None:
        while not self._nobody_looks:
            self._changed.clear()
            await self._changed.wait()

    def _write_soon(self, conn: str, spans: tuple[Span, ...]) -> None:
        if not spans:  # it has ended before the first look
            return
        user, identity = self._people[conn]
        event = ClientUse(conn=conn, user=user, spans=spans, identity=identity)
        self._soon(lambda: self._publish(event))
