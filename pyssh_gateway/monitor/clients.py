"""What the monitor's parts need to know of connected clients: a narrow view of the table of connections.

The table itself is `connected.registry`, with all that is known of a connection.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pyssh_gateway.core.control import ConnectionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import Identity


class Session(Protocol):
    """One session of a client."""

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""


class Stranger(Protocol):
    """A connection on which nobody has authenticated yet, or whose postauth process has not confirmed it yet."""

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""


class Client(Protocol):
    """A connection on which somebody has authenticated. Its figures are from the last report of its process."""

    @property
    def id(self) -> str:
        """Its name in the log."""

    @property
    def user(self) -> str:
        """The account."""

    @property
    def identity(self) -> Identity:
        """The person."""

    @property
    def sessions(self) -> Mapping[str, Session]:
        """Its open sessions, by their names in the log."""

    @property
    def counters(self) -> Counters:
        """What the client has transferred, which decides whether it counts as used."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes in and out so far."""

    def report(self) -> ConnectionReport:
        """Since when it is connected, and what runs."""


class Clients(Protocol):
    """All connections. Views are copies, because entries may go meanwhile."""

    @property
    def clients(self) -> Sequence[Client]:
        """Those on which somebody has logged in."""

    @property
    def strangers(self) -> Sequence[Stranger]:
        """Those on which nobody has authenticated yet."""

    @property
    def sessions(self) -> Sequence[Session]:
        """Every session of every connection."""

    async def look(self, seconds: float | None = None) -> frozenset[str]:
        """Ask all processes what their connections have done; one that does not answer in that time is not waited for.

        Returns the connections of the processes that have not answered.
        """

    def announce(self, text: str) -> None:
        """Show a text on every terminal of every session."""

    def hang_up(self) -> None:
        """Send SIGHUP to the processes of every terminal: the server stops."""

    def disconnect(self, reason: str) -> None:
        """Say goodbye to all logged-in clients, and close."""
