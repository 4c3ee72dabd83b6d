"""The rules of other products, for the simulated machine, as far as they are documented.

- A connection counter, as the server that this project replaces had it, and scripts beside sshd have it: the machine
  stops when there has been no TCP connection for 60 s.
- Fly.io's autostop: the proxy looks every few minutes, here 5, and stops a machine without connections. It does not
  look into the machine (https://fly.io/docs/reference/fly-proxy-autostop-autostart,
  https://fly.io/docs/blueprints/long-running-tasks/).
- GitHub Codespaces: stops 30 minutes after the last activity of a user, which is typing, using the mouse, and input or
  output of a terminal
  (https://docs.github.com/en/codespaces/setting-your-user-preferences/setting-your-timeout-period-for-github-codespaces).
  Strangers can't reach it, and an editor that is left open does not start it again.
- Coder: an open session of an editor, a terminal or ssh is activity, however little happens in it. When activity is
  detected, the deadline is moved by the activity bump, 1 hour by default
  (https://coder.com/docs/user-guides/workspace-scheduling, https://coder.com/docs/admin/templates/managing-templates/schedule).
  Strangers can't reach it; ssh starts a workspace that is stopped.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pyssh_gateway.core.idle.probation import Return
from pyssh_gateway.core.idle.replay.clock import Timer
from pyssh_gateway.core.idle.replay.server import Machine, Server
from pyssh_gateway.core.idle.replay.traffic import Use
from pyssh_gateway.events import AnyEvent, ConnectionAuthenticated, ConnectionClosed, ConnectionOpened, Identity


class ConnectionCounter:
    """Stops when there has been no connection for `seconds`. `strangers`: connections without a login count."""

    def __init__(self, machine: Machine, seconds: float, *, strangers: bool = True) -> None:
        self._machine = machine
        self._seconds = seconds
        self._counted = ConnectionOpened if strangers else ConnectionAuthenticated
        self._open: set[str] = set()
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Wait for the first connection."""
        self._wait()

    def end(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def receive(self, _user: str, _identity: Identity) -> Return | None:
        """Everybody is let in."""
        return None

    def observe(self, event: AnyEvent) -> None:
        """Count."""
        if isinstance(event, self._counted):
            self._open.add(event.conn)
            self.end()
        elif isinstance(event, ConnectionClosed) and event.conn in self._open:
            self._open.discard(event.conn)
            if not self._open:
                self._wait()

    def _wait(self) -> None:
        self.end()
        self._timer = self._machine.clock.after(self._seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        if not self._open:
            self._machine.stop("no connections")

    def use_added(self, use: Use) -> None:
        """Use is not looked at."""

    def job_added(self) -> None:
        """Nor are processes."""


class FlyAutostop(ConnectionCounter):
    """Looks every `seconds`, and stops if there is no connection then."""

    def observe(self, event: AnyEvent) -> None:
        """Count, but let nothing change when the next look is."""
        if isinstance(event, ConnectionOpened):
            self._open.add(event.conn)
        elif isinstance(event, ConnectionClosed):
            self._open.discard(event.conn)

    def _time_is_up(self) -> None:
        if self._open:
            self._wait()
        else:
            self._machine.stop("no connections")


class Inactivity:
    """Stops `seconds` after the last activity; a login is activity."""

    def __init__(self, machine: Machine, seconds: float) -> None:
        self._machine = machine
        self._seconds = seconds
        self._timer: Timer | None = None
        self._until = 0.0

    def begin(self) -> None:
        """Somebody has started it."""
        self._extend(self._machine.clock.now)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def receive(self, _user: str, _identity: Identity) -> Return | None:
        """Everybody is let in."""
        return None

    def observe(self, event: AnyEvent) -> None:
        """A login is activity."""
        if isinstance(event, ConnectionAuthenticated):
            self._extend(self._machine.clock.now)

    def use_added(self, use: Use) -> None:
        """There is activity until the end of this use."""
        self._extend(use.end)

    def job_added(self) -> None:
        """A process without a terminal is no activity."""

    def _extend(self, moment: float) -> None:
        self._until = max(self._until, moment + self._seconds)
        self.end()
        self._timer = self._machine.clock.at(self._until, lambda: self._machine.stop("inactive"))


class Peer(NamedTuple):
    """A product. `strangers`: scanners reach its machines; `returns`: an editor that connects again starts one."""

    name: str
    new_server: Callable[[Machine], Server]
    strangers: bool = True
    returns: bool = True


PEERS = (
    Peer("connection counter, 60 s", partial(ConnectionCounter, seconds=60)),
    Peer("Fly.io autostop", partial(FlyAutostop, seconds=300)),
    Peer("Codespaces, 30 min", partial(Inactivity, seconds=1800), strangers=False, returns=False),
    Peer("Coder, bump 1 h", partial(ConnectionCounter, seconds=3600, strangers=False), strangers=False),
)
