"""What a guest is given: the services that all guests share, and the settings of its connection."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pyssh_gateway.events import AnyEvent
from pyssh_gateway.ipc.preauth import Ended
from pyssh_gateway.monitor.arrivals.handing_over import HandingOver
from pyssh_gateway.monitor.arrivals.preauths import Preauths
from pyssh_gateway.monitor.arrivals.waiting_room import WaitingRoom

if TYPE_CHECKING:
    from pyssh_gateway.monitor.arrivals.guest import Guest


class End(msgspec.Struct, frozen=True):
    """How a connection ended. `crash`: a bug of ours, in the part `where`. `is_told`: its process has reported it."""

    reason: str
    goodbye: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    crash: str = ""
    where: str = "preauth"
    is_told: bool = False


def end_told(told: Ended) -> End:
    """The end as its process has reported it."""
    return End(told.reason, told.goodbye, told.bytes_in, told.bytes_out, told.crash, where="connection", is_told=True)


class Strangers(Protocol):
    """Timers and counters of the connections on which nobody has logged in."""

    def spoke(self, conn: str) -> None:
        """The first bytes of the connection have come."""

    def released(self, conn: str) -> None:
        """A client has logged in on the connection, or the connection is gone."""


class Steering(Protocol):
    """Which clients lack AES-GCM."""

    def serve_facts(self, peer: str) -> tuple[bool, bool]:
        """Whether the processor has AES instructions, and whether clients from there are known to lack AES-GCM."""

    def failed(self, peer: str) -> None:
        """The client at `peer` found no cipher in what it was offered."""

    def chose(self, client: str, peer: str, cipher: str) -> None:
        """The client has logged in, and uses this cipher."""


class GuestServices(msgspec.Struct, frozen=True):
    """The services that all guests share.

    `on_end` gets a guest that is over; the guest knows the keys that it has offered in vain. `unwalled` is told which
    walls of the sandbox this machine does not have.
    """

    strangers: Strangers
    room: WaitingRoom
    preauths: Preauths
    handing_over: HandingOver
    steering: Steering
    publish: Callable[[AnyEvent], None]
    start: Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
    on_end: Callable[["Guest"], None]
    unwalled: Callable[[tuple[str, ...]], None]
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop


class Terms(msgspec.Struct, frozen=True):
    """The settings of a connection: those that were in force when it came."""

    identification: str
    host_keys: tuple[tuple[bytes, bytes], ...]
    attempts: int
    banner: bytes = b""
