"""A simulated machine that sleeps, is woken by connections, and stops when its server says so.

Agents connect with `Machine.connect`; what happens to their connections they learn by callbacks (`Agent`).
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Literal, Protocol

import msgspec

from pyssh_gateway.core.idle.probation import REFUSED_SECONDS, Probation, Return
from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.job import Job
from pyssh_gateway.core.idle.replay.outcome import Awake, Found, Open, Outcome, Stopped
from pyssh_gateway.core.idle.replay.server import IdleServer, NoServer, Rules, Server
from pyssh_gateway.core.idle.replay.traffic import Kind, Traffic, Use
from pyssh_gateway.events import (
    AnyEvent,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    HoldEnded,
    HoldStarted,
    Identity,
    MachineResumed,
    ServerStopping,
    StopStep,
)

State = Literal["asleep", "starting", "awake", "stopping"]

NO_SERVER = NoServer()

PERSONAL = ("terminal", "sftp")
"""Sessions that a client which comes back by itself does not open."""


class Hardware(msgspec.Struct, frozen=True):
    """How the machine stops ("exit": all processes end; "suspend": they wait), and the seconds that each change takes.

    The time of a change counts as awake, since it is paid for. A connection that comes meanwhile waits for the end of
    the change, and of the start that follows it. `start` is for a start after an exit, and for a resume. `keepalive` is
    the time after which the server notices that a client is gone without a word (`session.keepalive` times
    `session.keepalive_misses`).
    """

    action: Literal["exit", "suspend"] = "exit"
    start: float = 2.0
    stop: float = 1.0
    keepalive: float = 300.0


class Login(msgspec.Struct, frozen=True):
    """A client that logs in as `user`. `wants` is the first session that it opens ("nothing": `ssh -N`).

    `person` and `fingerprint` identify the owner of the key.
    """

    person: str
    fingerprint: str
    user: str = "dev"
    wants: Literal["terminal", "sftp", "command", "nothing"] = "command"


class Agent(Protocol):
    """The client's side of a connection."""

    def logged_in(self, connection: "Connection") -> None:
        """The login was successful, and the first session is open."""

    def refused(self, connection: "Connection") -> None:
        """The server has let the client know that the machine is asleep for want of use, and closed the connection."""

    def closed(self, connection: "Connection") -> None:
        """The server has closed the connection, since the machine stops."""


class Connection:
    """A TCP connection to the machine. `login` None: a stranger, who does not log in."""

    def __init__(self, machine: "Machine", name: str, peer: str, login: Login | None, agent: Agent | None) -> None:
        self.name = name
        self.peer = peer
        self.login = login
        self.agent = agent
        self.traffic = Traffic()
        self.state: Literal["waiting", "open", "closed"] = "waiting"
        self.is_refused = False
        self._machine = machine

    def use(self, seconds: float, kind: Kind, *, by_itself: bool = False) -> None:
        """Use it from now on for `seconds`. Nothing happens on a connection that is not open.

        `by_itself`: there is no person, but the client does something when it has connected.
        """
        if self.state == "open":
            now = self._machine.clock.now
            use = Use(now, now + seconds, kind, by_itself)
            self.traffic.add(use)
            self._machine.use_added(self, use)

    def open_session(self, *, terminal: bool = False) -> None:
        """Open another session on it."""
        if self.state == "open":
            self.traffic.open_session(self._machine.clock.now, terminal=terminal)
            now = self._machine.clock.now
            self._machine.use_added(self, Use(now, now, "typed", by_itself=True))
            if terminal:
                self._machine.person_shown(self)

    def close(self, *, goodbye: bool = True) -> None:
        """The client closes it. While it waits for a machine that starts, the server will still see it come and go."""
        if self.state == "open":
            self._machine.close(self, goodbye=goodbye)
        self.state = "closed"

    def vanish(self) -> None:
        """The client is gone without a word, which the server notices later."""
        self.agent = None
        self._machine.clock.after(self._machine.hardware.keepalive, lambda: self.close(goodbye=False))


class Machine:
    """`new_server` makes the server of each start; by default it is ours with `rules`. The machine is asleep at first.

    After the simulation, call `finish`, and look at `outcome`.
    """

    def __init__(
        self,
        clock: Clock,
        rules: Rules,
        hardware: Hardware | None = None,
        new_server: Callable[["Machine"], Server] | None = None,
    ) -> None:
        self.clock = clock
        self.hardware = hardware or Hardware()
        self.state: State = "asleep"
        self.traffic: dict[str, Traffic] = {}
        self.jobs: dict[int, Job] = {}
        self.probation = Probation()
        self.outcome = Outcome()
        self._new_server = new_server or (lambda machine: IdleServer(rules, machine))
        self._server: Server = NO_SERVER
        self._connections: dict[str, Connection] = {}
        self._waiting: list[Connection] = []
        self._last_used: dict[str, float] = {}
        self._stopped_under: dict[str, float] = {}
        self._names = count(1)
        self._began = clock.now
        self._woken_by = ""
        self._logins = 0
        self._stopped: Stopped | None = None
        self._asleep_since = clock.now

    # -- for agents ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the machine by hand or by a deploy, if it is asleep."""
        if self.state == "asleep":
            self._start("")

    def connect(self, peer: str, login: Login | None = None, agent: Agent | None = None) -> Connection:
        """Connect, which wakes the machine if it is asleep. The agent is called once the connection is served."""
        connection = Connection(self, f"c{next(self._names)}", peer, login, agent)
        if self.state == "awake":
            self._serve(connection)
        else:
            self._waiting.append(connection)
            if self.state == "asleep":
                self._start(peer)
        return connection

    def run_job(self, job: Job) -> None:
        """Begin a job in the background. Nothing happens if the machine is not awake."""
        if self.state == "awake":
            pid = next(self._names)
            self.jobs[pid] = job
            self._proceed(pid)
            self._server.job_added()

    def hold(self, seconds: float, reason: str = "") -> str:
        """Hold the machine up for so long, if it is awake. Returns the hold's name."""
        name = f"h{next(self._names)}"
        self.tell(HoldStarted(hold=name, user="dev", seconds=seconds, reason=reason, pid=0))
        return name

    def release(self, hold: str) -> None:
        """End a hold."""
        self.tell(HoldEnded(hold=hold, user="dev", why="released"))

    def tell(self, event: AnyEvent) -> None:
        """Pass an event to the server, if the machine is awake."""
        if self.state == "awake":
            self._server.observe(event)

    def wanted_by(self, person: str) -> None:
        """A person wants to use the machine now. Note it if it has stopped.

        A stop under their connection is the one that counts, also if the machine was awake again since, for others.
        """
        if self.state in ("asleep", "stopping") and self._stopped is not None:
            left = self._last_used.get(person)
            left = None if left is None else min(left, self._stopped.at)
            under = self._stopped_under.pop(person, None)
            stopped = self._stopped.at if under is None else under
            self.outcome.found.append(Found(self.clock.now, person, left, stopped, under is not None))

    def finish(self) -> None:
        """End the simulation: the last span in which the machine was awake ends now."""
        if self.state != "asleep":
            self._note_awake()

    # -- for connections and the server -------------------------------------------------------------------------

    def use_added(self, connection: Connection, use: Use) -> None:
        """A connection is used."""
        if connection.login is not None and not use.by_itself:
            self._last_used[connection.login.person] = use.end
            self._stopped_under.pop(connection.login.person, None)
        self._server.use_added(use)

    def person_shown(self, connection: Connection) -> None:
        """A terminal or SFTP was opened, which only a person does."""
        if connection.name in self.probation.on:
            self._server.observe(ClientUsed(conn=connection.name, user=""))

    def close(self, connection: Connection, *, goodbye: bool) -> None:
        """The connection ends."""
        connection.state = "closed"
        self._connections.pop(connection.name, None)
        self.traffic.pop(connection.name, None)
        self._server.observe(_closed(connection, goodbye=goodbye))

    def stop(self, why: str) -> None:
        """Stop, whoever is connected."""
        now = self.clock.now
        self.state = "stopping"
        self._server.end()
        self._server.observe(ServerStopping(reason="idle", detail=why))
        connections = list(self._connections.values())
        open_ = [
            Open(one.name, one.login.person, one.traffic.last_use(now)) for one in connections if one.login is not None
        ]
        exits = self.hardware.action == "exit"
        killed = [job for job in self.jobs.values() if exits and not job.over]
        self._stopped = Stopped(now, why, tuple(open_), tuple(job.name for job in killed if job.wanted))
        self.outcome.stops.append(self._stopped)
        self._stopped_under |= {one.person: now for one in open_ if one.last_use is not None}
        for connection in connections:
            self.close(connection, goodbye=False)
        for job in self.jobs.values():
            job.pause(now)
        if exits:
            self.jobs.clear()
        self.clock.after(self.hardware.stop, self._asleep)
        for connection in connections:
            if connection.agent is not None and connection.is_refused:
                connection.agent.refused(connection)
            elif connection.agent is not None:
                connection.agent.closed(connection)

    # -- from asleep to awake and back --------------------------------------------------------------------------

    def _asleep(self) -> None:
        self._note_awake()
        self.state = "asleep"
        self._asleep_since = self.clock.now
        if self.hardware.action == "exit":
            self._server = NO_SERVER
        else:
            self._server.observe(StopStep(step="suspend", outcome="ok", result="done", seconds=self.hardware.stop))
        if self._waiting:
            self._start(self._waiting[0].peer)

    def _start(self, woken_by: str) -> None:
        self.state = "starting"
        self._began, self._woken_by, self._logins = self.clock.now, woken_by, 0
        self.clock.after(self.hardware.start, self._awake)

    def _awake(self) -> None:
        self.state = "awake"
        if self._server is NO_SERVER:
            self.probation = Probation(self.probation.absent)
            self._server = self._new_server(self)
        else:
            self._server.observe(MachineResumed(seconds=self.clock.now - self._asleep_since))
        for pid in tuple(self.jobs):
            self._proceed(pid)
        waiting, self._waiting = self._waiting, []
        self._server.begin()
        for connection in waiting:
            if self.state == "awake":
                self._serve(connection)
            else:  # it has stopped again
                self._waiting.append(connection)

    def _note_awake(self) -> None:
        self.outcome.awake.append(Awake(self._began, self.clock.now, self._woken_by, self._logins))

    # -- connections and jobs -----------------------------------------------------------------------------------

    def _serve(self, connection: Connection) -> None:
        """Accept a connection, and log its client in."""
        gone = connection.state == "closed"
        connection.state = "open"
        self._connections[connection.name] = connection
        self._server.observe(ConnectionOpened(conn=connection.name, peer=connection.peer, peer_port=0))
        if gone:
            self.close(connection, goodbye=False)
        elif connection.login is not None:
            self._log_in(connection, connection.login)

    def _log_in(self, connection: Connection, login: Login) -> None:
        """Let the client in, or refuse it since it may have come back by itself."""
        self._logins += 1
        received = self._server.receive(login.user, _identity(login))
        self.traffic[connection.name] = connection.traffic
        self._server.observe(_authenticated(connection, login, received))
        if received is not None and received.asleep and login.wants not in PERSONAL:
            connection.is_refused = True
            # The answer to its first request ends the connection; without one it may stay for a moment.
            self.clock.after(REFUSED_SECONDS if login.wants == "nothing" else 0.0, partial(self._refuse, connection))
            return
        if login.wants != "nothing":
            connection.traffic.open_session(self.clock.now, terminal=login.wants == "terminal")
        if login.wants in PERSONAL:
            self.person_shown(connection)
        if connection.agent is not None:
            connection.agent.logged_in(connection)

    def _refuse(self, connection: Connection) -> None:
        if connection.state != "open":
            return
        self.close(connection, goodbye=False)
        if connection.agent is not None:
            connection.agent.refused(connection)

    def _proceed(self, pid: int) -> None:
        """The job runs until it is over, or paused before that."""
        end = self.jobs[pid].proceed(self.clock.now)
        self.clock.at(end, lambda: self._end_if_over(pid))

    def _end_if_over(self, pid: int) -> None:
        job = self.jobs.get(pid)
        if job is not None and job.running:
            job.pause(self.clock.now)
            if job.over:
                del self.jobs[pid]
            else:
                job.proceed(self.clock.now)


def _identity(login: Login) -> Identity:
    return Identity(login.person, None, login.fingerprint)


def _authenticated(connection: Connection, login: Login, received: Return | None) -> ConnectionAuthenticated:
    return ConnectionAuthenticated(
        conn=connection.name,
        peer=connection.peer,
        user=login.user,
        fingerprint=login.fingerprint,
        source="",
        client="",
        cipher="",
        seconds=0.0,
        identity=_identity(login),
        probation=None if received is None else received.leash,
    )


def _closed(connection: Connection, *, goodbye: bool) -> ConnectionClosed:
    login = connection.login
    return ConnectionClosed(
        conn=connection.name,
        peer=connection.peer,
        user=login.user if login else "",
        reason="",
        seconds=0.0,
        bytes_in=0,
        bytes_out=0,
        goodbye=goodbye,
        identity=_identity(login) if login else None,
    )
