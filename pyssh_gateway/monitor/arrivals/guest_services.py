"""What a guest is given: the parts that every one of them meets, and by what it is served."""

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
    """How a connection has ended. `crash`: a bug of ours, in the part `where`. `is_told`: its process has said so."""

    reason: str
    goodbye: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    crash: str = ""
    where: str = "preauth"
    is_told: bool = False


def end_told(told: Ended) -> End:
    """The end that its process tells of."""
    return End(told.reason, told.goodbye, told.bytes_in, told.bytes_out, told.crash, where="connection", is_told=True)


class Strangers(Protocol):
    """The clocks and counts of those on which nobody has logged in."""

    def spoke(self, conn: str) -> None:
        """The first bytes have come."""

    def released(self, conn: str) -> None:
        """Somebody has logged in there, or it is gone."""


class Steering(Protocol):
    """Which clients lack AES-GCM."""

    def serve_facts(self, peer: str) -> tuple[bool, bool]:
        """Whether the processor has AES instructions, and whether clients from there are known to lack AES-GCM."""

    def failed(self, peer: str) -> None:
        """The client at `peer` found no cipher in what it was offered."""

    def chose(self, client: str, peer: str, cipher: str) -> None:
        """The client has logged in, and uses this cipher."""


class GuestServices(msgspec.Struct, frozen=True):
    """The parts that every guest meets. `on_end` hears that it is over, with the keys that it has offered in vain.

    `unwalled` is told which walls this machine does not have.
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
    """By what a connection is served, which came while these were in force."""

    identification: str
    host_keys: tuple[tuple[bytes, bytes], ...]
    attempts: int
    banner: bytes = b""
