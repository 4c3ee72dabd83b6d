"""The clients of the simulation, each a callback object on the clock: editors, terminals, robots, scanners, tunnels."""

from functools import partial
from itertools import chain, repeat
from typing import Literal

import msgspec

from bench.idle.traces import Visit, Window
from pyssh_gateway.core.idle.replay.clock import Timer
from pyssh_gateway.core.idle.replay.job import Job, Phase
from pyssh_gateway.core.idle.replay.machine import Connection, Login, Machine
from pyssh_gateway.core.idle.replay.spans import Span

Manner = Literal["gives up", "never"]
"""What an editor does that tries to connect again and is refused: it gives up at once, or goes on until it may not."""

ATTEMPTS = 360
FIRST_ATTEMPTS = (0.0, 5.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0)
LATER_ATTEMPTS = 30.0
"""When VS Code connects again after it has lost its connection (remoteAgentConnection.ts): the seconds before each
attempt. It gives up after 3 hours, which are 360 attempts of 30 s."""

SET_UP_SECONDS = 5.0
"""For so long bytes pass when an editor has connected: it starts or finds its server, and opens its forwards."""

PATIENCE = 5.0
"""A person who was refused tries again after so many seconds: they have to read why."""

BUILD = "build"


class Editor:
    """An editor with a window, on a computer of one person. It connects as VS Code's Remote-SSH does."""

    def __init__(self, machine: Machine, windows: list[Window], manner: Manner, *, returns: bool = True) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._manner = manner
        self._returns = returns
        self._peer = "198.51.100.7"
        self._login = Login("github:editor", "SHA256:editor")
        self._window = windows[0]
        self._connection: Connection | None = None
        self._attempt: Timer | None = None
        self._delays = iter(FIRST_ATTEMPTS)
        self._alive = False
        self._refusals = 0
        for window in windows:
            self._clock.at(window.opened, partial(self._open, window))
            for use in window.uses:
                self._clock.at(use[0], partial(self._use, window, use))
            for drop in window.drops:
                self._clock.at(drop, partial(self._drop, window))
            for begin, end in window.sleeps:
                self._clock.at(begin, partial(self._sleep, window))
                self._clock.at(end, partial(self._wake, window))
            self._clock.at(window.closed, partial(self._close, window))

    # -- the person ---------------------------------------------------------------------------------------------

    @property
    def _used_until(self) -> float:
        """Until when the person works, 0 if they don't work now."""
        now = self._clock.now
        return max((end for begin, end in self._window.uses if begin <= now < end), default=0.0)

    def _open(self, window: Window) -> None:
        self._close(self._window)
        self._window = window
        self._connect_by_hand()

    def _connect_by_hand(self) -> None:
        """Open the window, or load it anew."""
        self._machine.wanted_by(self._login.person)
        self._give_up()
        self._alive = True
        self._connect()

    def _use(self, window: Window, use: Span) -> None:
        if window is not self._window:
            return
        if self._connection is None or not self._alive:
            self._close_connection()
            self._connect_by_hand()
        elif self._connection.state == "open":
            self._connection.use(use[1] - self._clock.now, "worked")

    def _close(self, window: Window) -> None:
        if window is self._window:
            self._give_up()
            self._close_connection()

    # -- its computer -------------------------------------------------------------------------------------------

    def _drop(self, window: Window) -> None:
        """The network is another one: the old connection is dead, and the editor connects again."""
        if window is self._window and self._connection is not None:
            self._vanish()
            self._reconnect()

    def _sleep(self, window: Window) -> None:
        if window is self._window:
            self._give_up()
            self._vanish()

    def _wake(self, window: Window) -> None:
        """Connect again, if the window is not given up: after three hours it is."""
        asleep = max((end - begin for begin, end in window.sleeps if end == self._clock.now), default=0.0)
        if window is not self._window or self._connection is not None or not self._alive:
            return
        self._alive = asleep < ATTEMPTS * LATER_ATTEMPTS
        if self._alive:
            self._reconnect()

    def _vanish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.vanish()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # -- the editor ---------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        self._attempt = None

    def _reconnect(self) -> None:
        """The connection broke: begin with the attempts."""
        self._give_up()
        if self._returns:
            later = ATTEMPTS - len(FIRST_ATTEMPTS)
            self._delays = chain(FIRST_ATTEMPTS, repeat(LATER_ATTEMPTS, later))
            self._try_again()

    def _try_again(self) -> None:
        delay = next(self._delays, None)
        if delay is None:
            self._alive = False
        else:
            self._attempt = self._clock.after(delay, self._connect)

    def _connect(self) -> None:
        self._attempt = None
        self._connection = self._machine.connect(self._peer, self._login, self)

    def logged_in(self, connection: Connection) -> None:
        """Set up the window's connection, and go on with what the person is doing."""
        self._refusals = 0
        connection.open_session()
        until = self._used_until
        connection.use(SET_UP_SECONDS, "worked", by_itself=True)
        if until:
            connection.use(until - self._clock.now, "worked")
        self._alive = self._alive or bool(until)

    def refused(self, _connection: Connection) -> None:
        """Go on or give up, as is its manner.

        A person who is there tries again, and after a second refusal opens a terminal, as the answer says.
        """
        self._connection = None
        if self._used_until:
            self._refusals += 1
            self._machine.outcome.locked_out += self._refusals == 2
            again = self._connect_by_hand if self._refusals == 1 else self._open_terminal
            self._attempt = self._clock.after(PATIENCE, again)
        elif self._manner == "never":
            self._try_again()
        else:
            self._alive = False

    def _open_terminal(self) -> None:
        """Log in by hand, to a terminal, and have the editor connect then."""
        terminal = self._machine.connect(self._peer, msgspec.structs.replace(self._login, wants="terminal"))
        self._clock.after(2 * PATIENCE, terminal.close)
        self._attempt = self._clock.after(PATIENCE, self._connect_by_hand)

    def closed(self, _connection: Connection) -> None:
        """Connect again.

        After a stop by exit there is no server of the editor any more that knows the window: the first attempt that
        succeeds ends with the question whether to load the window anew. Its connection stays, and if it is lost, the
        editor does not connect again.
        """
        self._connection = None
        if self._used_until:
            self._connect_by_hand()
        elif self._alive:
            self._alive = self._machine.hardware.action == "suspend"
            self._reconnect()


class Terminal:
    """A person who logs in to a terminal, works, and leaves; some leave a build, some forget to log out."""

    def __init__(self, machine: Machine, visit: Visit) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._login = Login("github:terminal", "SHA256:terminal", wants="terminal")
        self._visit = visit
        self._connection: Connection | None = None
        self._clock.at(visit.begin, self._come)
        self._clock.at(visit.end, self._leave)
        self._clock.at(visit.closed, self._log_out)

    def _come(self) -> None:
        self._machine.wanted_by(self._login.person)
        self._connection = self._machine.connect("198.51.100.8", self._login, self)

    def _leave(self) -> None:
        if self._visit.build:
            # make of a project in C: a processor and more, and pauses in which it waits for the disk or for a download.
            half = self._visit.build / 2
            self._machine.run_job(Job(BUILD, [Phase(half - 5), Phase(10, cpu=0.02), Phase(half - 5)]))

    def _log_out(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def logged_in(self, connection: Connection) -> None:
        """Type until the end of the visit."""
        connection.use(max(1.0, self._visit.end - self._clock.now), "typed")

    def refused(self, _connection: Connection) -> None:
        """Try again."""
        self._clock.after(PATIENCE, self._come)

    def closed(self, _connection: Connection) -> None:
        """Connect again if it was in use; a terminal does not do that by itself."""
        self._connection = None
        if self._clock.now < self._visit.end:
            self._come()


class Robot:
    """A program that connects, runs a command, and goes."""

    def __init__(self, machine: Machine, span: Span) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._seconds = span[1] - span[0]
        self._clock.at(span[0], self._come)

    def _come(self) -> None:
        self._machine.connect("198.51.100.9", Login("file:robot", "SHA256:robot"), self)

    def logged_in(self, connection: Connection) -> None:
        """Run the command."""
        connection.use(self._seconds, "worked")
        self._clock.after(self._seconds, connection.close)

    def refused(self, _connection: Connection) -> None:
        """Try again."""
        self._clock.after(PATIENCE, self._come)

    def closed(self, _connection: Connection) -> None:
        """It has failed; the next visit comes at its time."""


class Tunnel:
    """A loop on a computer that is always on: `while true; do ssh -N -D 1080 host; sleep 5; done`."""

    def __init__(self, machine: Machine, begin: float) -> None:
        self._machine = machine
        machine.clock.at(begin, self._connect)

    def _connect(self) -> None:
        login = Login("github:tunnel", "SHA256:tunnel", wants="nothing")
        self._machine.connect("198.51.100.10", login, self)

    def logged_in(self, _connection: Connection) -> None:
        """Nothing passes through the tunnel."""

    def refused(self, _connection: Connection) -> None:
        """Go on."""
        self._machine.clock.after(PATIENCE, self._connect)

    def closed(self, connection: Connection) -> None:
        """Go on."""
        self.refused(connection)


def scan(machine: Machine, spans: list[Span]) -> None:
    """Strangers that connect and go without a login.

    The platform holds a connection while the machine starts, so a scanner that has left by then is still seen by the
    server as one that comes and goes.
    """
    for number, (begin, end) in enumerate(spans):
        machine.clock.at(begin, partial(_connect_for, machine, end - begin, f"203.0.113.{number % 250 + 1}"))


def _connect_for(machine: Machine, seconds: float, peer: str) -> None:
    connection = machine.connect(peer)
    machine.clock.after(seconds, connection.close)
