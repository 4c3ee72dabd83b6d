"""What the monitor's rooms need of those who are connected: the narrow view of the table of connections.

The table itself is `connected.registry`, with all that is known of a connection.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pyssh_gateway.core.control import ConnectionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import Identity


class Session(Protocol):
    """One session of somebody who is on."""

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""


class Stranger(Protocol):
    """A connection on which nobody has authenticated yet, or of which postauth has not said so."""

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""


class Client(Protocol):
    """A connection on which somebody has authenticated. What it has done is what its process told last."""

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
        """What runs, by its name in the log."""

    @property
    def counters(self) -> Counters:
        """What the client has moved, by which its use is judged."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes in and out so far."""

    def report(self) -> ConnectionReport:
        """Since when it is on, and what runs."""


class Clients(Protocol):
    """All of them. Views are copies: entries go meanwhile."""

    @property
    def clients(self) -> Sequence[Client]:
        """Those who are on."""

    @property
    def strangers(self) -> Sequence[Stranger]:
        """Those on which nobody has authenticated yet."""

    @property
    def sessions(self) -> Sequence[Session]:
        """Every session of every connection."""

    async def look(self) -> None:
        """Ask all processes what their connections have done; one that does not answer soon is not waited for."""

    def announce(self, text: str) -> None:
        """Say something on every terminal of every session."""

    def hang_up(self) -> None:
        """Send every terminal's processes SIGHUP: the server stops."""

    def disconnect(self, reason: str) -> None:
        """Say goodbye to everybody who is on, and close."""
