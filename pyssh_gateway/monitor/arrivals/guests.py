"""All connections on which nobody has logged in yet: creates them, and passes on what happens to them.

`strangers` decides which of them are served when there are many, and for how long. The waiting room decides which of
those that have sent something get a process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec

from pyssh_gateway.config.machine_values import whole_lines
from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import AnyEvent, ConnectionOpened, Record
from pyssh_gateway.monitor.arrivals.guest import Guest
from pyssh_gateway.monitor.arrivals.guest_services import GuestServices, Steering, Terms
from pyssh_gateway.monitor.arrivals.handing_over import HandingOver
from pyssh_gateway.monitor.arrivals.preauths import Preauths
from pyssh_gateway.monitor.arrivals.strangers import Arrival, Strangers
from pyssh_gateway.monitor.arrivals.waiting_room import WaitingRoom
from pyssh_gateway.monitor.attempts import Attempts
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.in_force import InForce


class Looks(Protocol):
    """How login attempts have the sources of keys asked again."""

    async def read_files(self, patience: Patience | None = None) -> None:
        """Return when the contents of the key files are known."""

    async def look_again(self, peer: str, offered: str, patience: Patience | None = None) -> None:
        """Return when there is no point in waiting longer for news of a key."""

    def turned_away(self, peer: str, in_vain: tuple[str, ...]) -> None:
        """A client has left without getting in; it had offered these keys."""


class People(Protocol):
    """The people's keys, as they are now."""

    @property
    def snapshot(self) -> KeySnapshot:
        """All of them."""

    @property
    def looks(self) -> Looks:
        """Has the sources of keys asked again."""


class AttemptServices(msgspec.Struct, frozen=True):
    """What attempts are judged by, see `attempts.Services`."""

    limits: Limits
    signer: HostKeySigner
    publish: Callable[[AnyEvent], None]
    snapshot: Callable[[], KeySnapshot]
    read_files: Callable[[Patience], Awaitable[None]]
    look_again: Callable[[str, str, Patience], Awaitable[None]]
    clock: Callable[[], float]


class Guests:
    """All guests. `start` begins a task that somebody else owns; `complain` reports what is not an event.

    `heard` is told of each connection from which the first bytes have come.

    `clock` is Unix time.
    """

    def __init__(
        self,
        in_force: InForce,
        people: People,
        signer: HostKeySigner,
        registry: Registry,
        *,
        preauths: Preauths,
        handing_over: HandingOver,
        steering: Steering,
        publish: Callable[[AnyEvent], None],
        heard: Callable[[str], None] = lambda _conn: None,
        complain: Callable[[str], None],
        start: Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._in_force = in_force
        self._people = people
        self._signer = signer
        self._registry = registry
        self._publish = publish
        self._clock = clock
        self._complain = complain
        self._unwalled: set[str] = set()
        self.strangers = Strangers(in_force.config.limits, loop=loop, publish=publish, serve=self._serve, heard=heard)
        self._services = GuestServices(
            strangers=self.strangers,
            room=WaitingRoom(self.strangers.gave_way),
            preauths=preauths,
            handing_over=handing_over,
            steering=steering,
            publish=publish,
            start=start,
            on_end=self._ended,
            unwalled=self._tell_unwalled,
            clock=clock,
            loop=loop,
        )

    def reconfigure(self) -> None:
        """Apply the limits in force to connections that come from now on."""
        self.strangers.reconfigure(self._in_force.config.limits)

    def observe(self, record: Record) -> None:
        """Pass an event on to the strangers."""
        self.strangers.observe(record)

    def _serve(self, arrival: Arrival) -> None:
        """Serve a connection that has been admitted."""
        conn, peer = arrival.conn, arrival.endpoints.peer
        self._publish(
            ConnectionOpened(
                conn=conn,
                peer=peer,
                peer_port=arrival.endpoints.peer_port,
                proxy=arrival.proxy,
                proxy_id=arrival.proxy_id,
            )
        )
        config, looks = self._in_force.config, self._people.looks
        terms = Terms(
            config.listen.identification,
            self._signer.offered_at(self._clock()),
            config.limits.auth_attempts,
            banner=whole_lines(config.listen.banner),
        )
        services = AttemptServices(
            limits=config.limits,
            signer=self._signer,
            publish=self._publish,
            snapshot=lambda: self._people.snapshot,
            read_files=looks.read_files,
            look_again=looks.look_again,
            clock=self._clock,
        )
        guest = Guest(arrival, terms, Attempts(conn, peer, services), self._services)
        self._registry.add_stranger(conn, guest)
        self.strangers.served(conn, guest)
        guest.begin()

    def _tell_unwalled(self, missing: tuple[str, ...]) -> None:
        """This machine lacks some of the walls around strangers' processes: say so once."""
        for wall in missing:
            if wall not in self._unwalled:
                self._unwalled.add(wall)
                self._complain(f"around the processes of strangers: {printable(wall)}")

    def _ended(self, guest: Guest) -> None:
        """A client has logged in on the connection, or the connection is over."""
        self._registry.remove_stranger(guest.conn)
        if guest.attempts.accepted is None:
            self._people.looks.turned_away(guest.peer, guest.attempts.in_vain)
