"""`audit.required`: while the log can't be written, nobody gets in, but to accounts with `break_glass`.

Sessions that run go on. The state of the last write counts: the log is not tried for its own sake.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from pyssh_gateway.events import ConnectionAuthenticated, Record
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.in_force import InForce

REFUSED = "this machine can't write its log, and refuses new sessions until it can"
"""What a person reads whose session is refused."""


class Log(Protocol):
    """What is asked of the log."""

    @property
    def trouble(self) -> str | None:
        """Why it can't be written, in words for a person; None if it can."""


class Standing(msgspec.Struct, frozen=True):
    """Whether an account gets in now: `refused` is why not, empty if it does; `break_glass`: only because of that."""

    refused: str = ""
    break_glass: bool = False


class RequiredLog:
    """Keeps people out, and tells open connections. `complain` says what can't go into the log."""

    def __init__(self, log: Log, in_force: InForce, registry: Registry, complain: Callable[[str], None]) -> None:
        self._log = log
        self._in_force = in_force
        self._registry = registry
        self._complain = complain
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody gets in at present, but to accounts with `break_glass`."""
        return self._in_force.config.audit.required and self._log.trouble is not None

    def standing(self, user: str) -> Standing:
        """Whether the account `user` gets in."""
        if not self.is_closed:
            return Standing()
        if any(login.break_glass for login in self._in_force.config.login if login.user == user):
            return Standing(break_glass=True)
        return Standing(refused=REFUSED)

    def observe(self, record: Record) -> None:
        """Something was written, or could not be: see what follows."""
        self.check()
        event = record.event
        if not isinstance(event, ConnectionAuthenticated):
            return
        if self._is_closed:  # perhaps only since it was handed over
            self.tell()
        if event.break_glass:
            who = f"{event.identity.person} with {event.fingerprint}"
            self._complain(f"break-glass login to {event.user} from {event.peer}, of {who}: the log can't be written")

    def check(self) -> None:
        """Tell open connections if they may open sessions now and could not before, or the other way round."""
        if self.is_closed == self._is_closed:
            return
        self._is_closed = self.is_closed
        if self._is_closed:
            self._complain(f"nobody gets in, but by break_glass, because of audit.required: {self._log.trouble}")
        else:
            self._complain("the log is written again, or not required any more: everybody gets in as before")
        self.tell()

    def reconfigured(self) -> None:
        """Other rules apply from now on."""
        self.check()
        if self._is_closed:
            self.tell()

    def tell(self) -> None:
        """Tell all open connections: also those that an earlier monitor has told something else."""
        for client in self._registry.clients:
            client.block(self.standing(client.login.user).refused)
