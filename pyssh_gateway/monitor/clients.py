"""What the monitor's rooms need of those who are connected: the narrow view of the table of connections.

The table itself is the gateway's (`gateway/registry.py`), with all that a connection is.
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

    def announce(self, text: str) -> None:
        """Say something on the terminal's screen, if there is one."""

    def hang_up(self) -> None:
        """Send a terminal's processes SIGHUP: the server stops."""


class Client(Protocol):
    """One connection. `user` is empty until somebody has authenticated."""

    @property
    def id(self) -> str:
        """Its name in the log."""

    @property
    def user(self) -> str:
        """The account."""

    @property
    def identity(self) -> Identity | None:
        """The person; None while nobody has authenticated."""

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

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""


class Clients(Protocol):
    """All of them. Views are copies: entries go meanwhile."""

    @property
    def clients(self) -> Sequence[Client]:
        """Every connection."""

    @property
    def authenticating(self) -> Sequence[Client]:
        """Those on which nobody has authenticated yet."""

    @property
    def sessions(self) -> Sequence[Session]:
        """Every session of every connection."""
