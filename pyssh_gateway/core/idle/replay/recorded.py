"""A client whose use was recorded, as an agent: it comes, is used and goes as it did then.

If the machine has stopped meanwhile, the client connects again when it was used next.
"""

from functools import partial

import msgspec

from pyssh_gateway.core.idle.replay.machine import Connection, Login, Machine
from pyssh_gateway.core.idle.replay.traffic import Use

RETRY_SECONDS = 5.0
"""After a refusal a person tries again in so many seconds: they have to read it first."""


class Visit(msgspec.Struct, frozen=True):
    """A connection that was recorded: `uses` are in order, and within `begin` and `end`.

    `goodbye`: the client ended it on purpose.
    """

    login: Login
    peer: str
    begin: float
    end: float
    uses: tuple[Use, ...] = ()
    goodbye: bool = True


class Recorded:
    """Makes the visit on `machine`, whose clock has not come to it yet."""

    def __init__(self, machine: Machine, visit: Visit) -> None:
        self._machine = machine
        self._visit = visit
        self._connection: Connection | None = None
        self._current: Use | None = None
        machine.clock.at(visit.begin, self._come)
        for use in visit.uses:
            machine.clock.at(use.begin, partial(self._use, use))
        machine.clock.at(visit.end, self._go)

    def _come(self) -> None:
        self._machine.wanted_by(self._visit.login.person)
        self._connection = self._machine.connect(self._visit.peer, self._visit.login, self)

    def _use(self, use: Use) -> None:
        if self._connection is None:
            self._come()
        elif self._connection.state == "open" and self._current is not use:
            self._go_on(self._connection, use)

    def _go(self) -> None:
        if self._connection is not None:
            self._connection.close(goodbye=self._visit.goodbye)

    def logged_in(self, connection: Connection) -> None:
        """Go on with what has been going on for a while."""
        now = self._machine.clock.now
        for use in self._visit.uses:
            if use.begin <= now < use.end:
                self._go_on(connection, use)

    def _go_on(self, connection: Connection, use: Use) -> None:
        self._current = use
        connection.use(use.end - self._machine.clock.now, use.kind)

    def refused(self, _connection: Connection) -> None:
        """Try again soon if the client is being used, otherwise when it is used next."""
        self._connection = None
        self._machine.clock.after(RETRY_SECONDS, self._come_if_used)

    def closed(self, _connection: Connection) -> None:
        """The machine stops: come back at once if the client is being used, or when it is used next."""
        self._connection = None
        self._come_if_used()

    def _come_if_used(self) -> None:
        now = self._machine.clock.now
        if self._connection is None and any(use.begin < now < use.end for use in self._visit.uses):
            self._come()
