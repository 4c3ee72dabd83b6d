"""One connection on which somebody has logged in, as the monitor knows it. The connection itself is postauth's.

What postauth reports is only its account's claim. The monitor adds who the client is, from where, and since when.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from pyssh_gateway.core.access import policy
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.revocations import revoked_by
from pyssh_gateway.core.control import ConnectionReport, SessionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import (
    Algorithms,
    AnyEvent,
    ConnectionClosed,
    Event,
    Identity,
    PreviousLogin,
    SessionClosed,
    SessionOpened,
)
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.monitor.connected.login import Login, Told, digest
from pyssh_gateway.monitor.connected.revocation import REVOKED_SECONDS, Opened, Revocation
from pyssh_gateway.monitor.in_force import InForce

E = TypeVar("E", bound=Event)

SIGNATURES_AT_ONCE = 64
SIGNATURE_SECONDS = 0.2
"""How many rekeys of a connection are signed without delay, and the seconds for each one after that. OpenSSH's clients
rekey after an hour, or after some GiB. A client that is told to rekey every 64 KiB becomes slower by this, but is not
cut off. An RSA signature may take 2 ms, so a connection takes at most a hundredth of a processor from the monitor."""

SIGNATURES_WAITING = 2
"""How many signatures may wait. A connection has one rekey at a time; a process that asks for more breaks the
protocol."""

PROCESS_ENDED = "its process ended"
"""The reason for the end of connections whose postauth process is gone."""

PROCESS_SILENT = "its process did not answer"
"""The same for a process that was killed because it did not answer. Its user may have stopped it, so it is no bug of
ours."""


class Looks(Protocol):
    """What is asked of the sources of keys."""

    async def look_up(self, spec: str) -> bool:
        """Have the source asked again; returns whether the result is certain."""

    def used(self, spec: str, peer: str, in_vain: tuple[str, ...]) -> None:
        """A key of that source has let somebody in."""


class People(Protocol):
    """The people's keys, as they are now."""

    @property
    def snapshot(self) -> KeySnapshot:
        """All of them."""

    @property
    def looks(self) -> Looks:
        """Has the sources of keys asked again."""


def _no_previous(_who: Identity) -> None:
    """Nobody has been here before."""


class ClientServices(msgspec.Struct, frozen=True):
    """What a client needs beside its process. `clock` is Unix time; `start` begins a task that somebody else owns.

    `previous` is the last login of a person, before the one that is no event yet.
    """

    people: People
    in_force: InForce
    publish: Callable[[AnyEvent], None]
    start: Callable[[Coroutine[Any, Any, None], str], object]
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop
    previous: Callable[[Identity], PreviousLogin | None] = _no_previous


class Process(Protocol):
    """The postauth process of a connection."""

    def tell(self, message: ipc.FromMonitor) -> None:
        """Send it a message; nothing waits for it."""


class Session:
    """One session, as postauth reports it. Only the beginning of a command's text is kept, because it may be long."""

    def __init__(self, opened: SessionOpened) -> None:
        self.opened = msgspec.structs.replace(opened, command=opened.command[: ipc.MAX_TEXT], requested="")
        self.figures = ipc.SessionFigures(opened.session, 0, 0, 0.0)

    @property
    def tty(self) -> str:
        """The terminal's path; empty without one."""
        return self.opened.tty

    def report(self) -> SessionReport:
        """The session's figures, for the answers to people."""
        told, now = self.opened, self.figures
        return SessionReport(
            told.session, told.kind, told.command, told.tty, now.bytes_in, now.bytes_out, told.pid, now.seconds
        )


class Client:
    """A connection with its sessions, counters, and the rights of its process to ask for signatures.

    `in_vain` are the keys that its client had offered before; `hassh_server` and `algorithms` are for the log.
    `settled` is set when its process has taken it, or it is `over`.
    """

    def __init__(self, login: Login, process: Process, services: ClientServices) -> None:
        self.login = login
        self.in_vain: tuple[str, ...] = ()
        self.hassh_server = ""
        self.algorithms: Algorithms | None = None
        self.settled = asyncio.Event()
        self.over = False
        self.sessions: dict[str, Session] = {}
        self.counters = Counters()
        self.traffic = (0, 0)
        self._process = process
        self._services = services
        self._opened_at = services.loop.time() - max(0.0, services.clock() - login.opened)
        self._is_named = False
        self._signatures = float(SIGNATURES_AT_ONCE)
        self._signed_at = services.loop.time()
        identity = login.identity
        self._revocation = Revocation(
            Opened(
                conn=self.id,
                peer=login.endpoints.peer,
                user=login.user,
                identity=identity,
                holds=self._holds,
                why_not=self._why_revoked,
                look_up=self._look_up,
                publish=services.publish,
                announce=self._announce,
                revoke=self._revoke,
                end=self._end_revoked,
            ),
            self._seconds_to_revoked_end,
            services.loop,
            self._start,
        )

    @property
    def id(self) -> str:
        """Its name in the log."""
        return self.login.conn

    @property
    def user(self) -> str:
        """The account; empty until its client has been told that it has logged in."""
        return self.login.user if self.login.taken else ""

    @property
    def identity(self) -> Identity:
        """The person."""
        return self.login.identity

    @property
    def seconds(self) -> float:
        """For how long the connection has been there."""
        return self._services.loop.time() - self._opened_at

    def report(self) -> ConnectionReport:
        """Since when it is connected, and what runs."""
        return ConnectionReport(
            conn=self.id,
            user=self.user,
            identity=self.identity,
            peer=self.login.endpoints.peer,
            since=self._services.clock() - self.seconds,
            sessions=tuple(session.report() for session in self.sessions.values()),
            bytes_in=self.traffic[0],
            bytes_out=self.traffic[1],
        )

    # -- what its process is told -------------------------------------------------------------------------------

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""
        self._process.tell(ipc.EndConnection(self.id, reason))

    def recheck_key(self) -> None:
        """The keys have changed: see whether the one that let this client in is still good, and act if it is not."""
        if self.user:
            self._revocation.check()

    def _announce(self, text: str) -> None:
        self._process.tell(ipc.Announce(self.id, f"pyssh-gateway: {text}"))

    def _end_revoked(self, reason: str) -> None:
        self._process.tell(ipc.EndConnection(self.id, reason, revoked=True))

    def _revoke(self, reason: str | None) -> None:
        self._process.tell(ipc.Revoke(self.id, reason))

    def block(self, reason: str) -> None:
        """Have it open nothing more, because of the log; empty: it may again, if its key may."""
        self._process.tell(ipc.Revoke(self.id, reason or None, "log"))

    # -- the key ------------------------------------------------------------------------------------------------

    def _holds(self) -> bool:
        return policy.still_holds(self.login.user, self.login.accepted, self._services.people.snapshot)

    def _why_revoked(self) -> str:
        if self.login.user not in self._services.in_force.rules:  # the configuration was read again
            return f"nobody may log in as {self.login.user} any more"
        snapshot, accepted = self._services.people.snapshot, self.login.accepted
        return (
            revoked_by(snapshot.revoked, accepted.signer, accepted.certificate)
            or f"the key {self.identity.fingerprint} of {self.identity.person} has been revoked"
        )

    async def _look_up(self) -> bool:
        return await self._services.people.looks.look_up(self.login.accepted.key.source)

    def _seconds_to_revoked_end(self) -> float | None:
        return REVOKED_SECONDS if self._services.in_force.config.keys.on_revoke == "end" else None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._services.start(work, f"revocation of {self.id}")

    # -- what its process says ----------------------------------------------------------------------------------

    def taken(self, client: str, cipher: str, algorithms: ipc.Negotiated | None = None) -> None:
        """The process has told the client that it has logged in. Raises ProtocolError the second time."""
        if self._is_named:
            raise ProtocolError(f"{self.id} is said to be taken twice")
        self._is_named = bool(client)
        self.login = msgspec.structs.replace(self.login, taken=True, client=client, cipher=cipher)
        if algorithms is not None:
            self.algorithms = Algorithms(**msgspec.structs.asdict(algorithms))
        self.settled.set()

    def authenticated(self, publish: Callable[[AnyEvent], None] | None = None) -> None:
        """Publish the login, with `publish` if that is given: from here on the client counts as logged in."""
        told = Told(self.hassh_server, self.algorithms, self._services.previous(self.identity))
        (publish or self._services.publish)(self.login.authenticated(self.seconds, told))
        self._services.people.looks.used(self.login.accepted.key.source, self.login.endpoints.peer, self.in_vain)
        self.recheck_key()  # the keys may have changed since the decision

    def happened(self, event: ipc.Told, publish: Callable[[AnyEvent], None]) -> None:
        """Publish an event, with whose connection it is. Raises ProtocolError for an event that can't happen now."""
        match event:
            case ConnectionClosed():
                traffic = event.bytes_in, event.bytes_out
                self.closed(event.reason, event.goodbye, traffic=traffic, publish=publish)
                return
            case _ if not self.login.taken:
                raise ProtocolError(f"something happens on {self.id}, which is not taken yet")
            case SessionOpened(session=session):
                if session in self.sessions or len(self.sessions) >= self.login.sessions:
                    raise ProtocolError(f"{session} is opened twice, or one too many on {self.id}")
                self.sessions[session] = Session(self._claimed(event))
            case SessionClosed(session=session):
                self.sessions.pop(session, None)
        publish(self._claimed(event))

    def is_over(self) -> None:
        """The connection is over, which an earlier monitor has logged."""
        self.over = True
        self.settled.set()
        self._revocation.close()

    def closed(
        self,
        reason: str,
        goodbye: bool,
        *,
        traffic: tuple[int, int] | None = None,
        publish: Callable[[AnyEvent], None] | None = None,
    ) -> None:
        """The connection is over."""
        self.is_over()
        bytes_in, bytes_out = self.traffic if traffic is None else traffic
        (publish or self._services.publish)(
            ConnectionClosed(
                conn=self.id,
                peer=self.login.endpoints.peer,
                user=self.user,
                reason=reason,
                seconds=round(self.seconds, 3),
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                goodbye=goodbye,
                identity=self.identity if self.user else None,
                client=self.login.client,
                hassh=self.login.hassh,
            )
        )

    def figures(self, told: ipc.ConnectionFigures) -> None:
        """Take over the figures of its process's report."""
        self.counters = told.counters
        self.traffic = told.bytes_in, told.bytes_out
        for figures in told.sessions:
            session = self.sessions.get(figures.session)
            if session is not None:
                session.figures = figures

    def adopt_session(self, told: ipc.SessionFigures) -> None:
        """Add a session that was opened before this monitor started."""
        if told.session not in self.sessions:
            self.sessions[told.session] = Session(
                self._claimed(
                    SessionOpened(
                        conn=self.id,
                        session=told.session,
                        user="",
                        kind=told.kind,
                        command=told.command.decode("utf-8", "surrogateescape"),
                        tty=told.tty,
                        term="",
                        pid=told.pid,
                    )
                )
            )

    def seconds_to_signature(self, blob: bytes | None) -> float | None:
        """How long a rekey with the host key `blob` (None: there is none) waits to be signed; None: it never is."""
        now = self._services.loop.time()
        earned = (now - self._signed_at) / SIGNATURE_SECONDS
        self._signatures = min(SIGNATURES_AT_ONCE, self._signatures + earned)
        self._signed_at = now
        left = self._signatures - 1
        if blob is None or left < -SIGNATURES_WAITING or digest(blob) not in self.login.host_keys:
            return None
        self._signatures = left
        return max(0.0, -left * SIGNATURE_SECONDS)

    def may_be_proved(self, keys: int) -> bool:
        """Whether it may have proofs of that many host keys; they count against the limit of its whole life."""
        left = self.login.proofs_left - keys
        self.login = msgspec.structs.replace(self.login, proofs_left=max(0, left))
        return left >= 0

    def _claimed(self, event: E) -> E:
        """An event that the account claims, with the connection and the identity known to the monitor."""
        return msgspec.structs.replace(event, conn=self.id, user=self.login.user, identity=self.identity)
