"""One client that has logged in, until its connection ends: asyncssh's callbacks, and the monitor's orders.

Events of the connection are reported to the monitor, which knows the user. The events made here name no user.
"""

import asyncio
import os
import pwd
import time
import traceback
from collections.abc import Callable
from itertools import islice
from sys import exc_info
from typing import Any, NoReturn, cast

import asyncssh
import msgspec

from pyssh_gateway.core.compat import takes_eow
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.launch import CONTROL_VARIABLE, Account
from pyssh_gateway.core.windows import Budget
from pyssh_gateway.events import ConnectionClosed, RequestDenied
from pyssh_gateway.ipc.postauth import (
    Announce,
    ConnectionFigures,
    EndConnection,
    Negotiated,
    Revoke,
    SessionFigures,
    TakeConnection,
    Told,
)
from pyssh_gateway.ipc.spawner_client import PostauthSpawnerClient, SpawnRefused
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.connection import Connection
from pyssh_gateway.postauth.context import AuthFile, SessionContext
from pyssh_gateway.postauth.drains import Drains
from pyssh_gateway.postauth.forwards.forward import ForwardContext
from pyssh_gateway.postauth.forwards.forwarding import Forwarding
from pyssh_gateway.postauth.forwards.sockets import Sockets
from pyssh_gateway.postauth.orders.asleep import WHY, Asleep
from pyssh_gateway.postauth.orders.revoked import Revoked
from pyssh_gateway.postauth.recording.tape import Tapes
from pyssh_gateway.postauth.session import Session
from pyssh_gateway.ssh.disconnects import end_reason, was_lost
from pyssh_gateway.system.environment import read_system_environment

TAKEN_SECONDS = 0.25
"""How long a disconnect waits for the client to close a session that has ended: half of what a stop waits for
connections to close. If OpenSSH's client reads both in one read, it forgets the exit status and exits with 255."""


class Shared(msgspec.Struct, frozen=True):
    """What all connections of the account have in common.

    `publish` gets events, `once_logged` is as in `SessionContext`. `taken` is called when a client has been told that
    its login succeeded, with the connection, the client's version and the cipher; `crashed` with the connection and the
    traceback of a bug of ours, `gone` when a connection has ended. `command_directory` is as in `core.launch.plan`.
    """

    spawner: PostauthSpawnerClient
    drains: Drains
    sockets: Sockets
    revoked: Revoked
    tapes: Tapes
    publish: Callable[[Told], None]
    once_logged: Callable[[Callable[[], None]], None]
    taken: Callable[[str, str, Negotiated], None]
    crashed: Callable[[str, str], None]
    gone: Callable[[str], None]
    command_directory: bytes = b""
    budget: Budget = msgspec.field(default_factory=Budget)
    now: Callable[[], float] = time.monotonic


class Client(asyncssh.SSHServer):
    """One connection's owner. `login` is the user name that its client has logged in with."""

    def __init__(self, told: TakeConnection, login: str, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self.id = told.conn
        self.sessions: dict[str, Session] = {}
        self.budget = shared.budget
        self.forwarding: Forwarding
        self._told = told
        self._login = login
        self._shared = shared
        self._loop = loop
        self._opened_at = shared.now() - told.opened_seconds
        self._connection: Connection | None = None
        self._sessions_opened = 0
        self._counted = Counters()
        self._cut_off = False
        self._close_reason = ""
        self._goodbye: tuple[asyncio.Handle, str] | None = None
        self._revoked = {"log": told.unlogged} if told.unlogged else {}
        self._auth_file = AuthFile(told.auth_info, self._no_auth_file)
        self._asleep = Asleep(told.asleep, loop, disconnect=self.disconnect, deny=self._slept_through)

    # -- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The connection has been taken over; its client is about to be told that its login succeeded."""
        connection = self._connection = cast(Connection, conn)
        shared = self._shared
        self.forwarding = Forwarding(
            ForwardContext(
                conn=self.id,
                user=self._login,
                rules=self._told.rules.forwarding,
                sockets=shared.sockets,
                publish=shared.publish,
                now=shared.now,
                on_network=connection.on_writable,
                spawn_task=connection.create_task,
                is_closed=connection.is_closed,
                asleep=self._asleep,
                forbidden=" ".join(self._told.closed.decode("utf-8", "replace").split()) or None,
            ),
            self._loop,
        )
        self.forwarding.revoke(self._why_revoked)
        if self._close_reason:  # a disconnect was ordered before there was a connection
            self.disconnect(self._close_reason)

    def auth_completed(self) -> None:
        """USERAUTH_SUCCESS has been sent."""
        connection = self._made
        connection.authenticated()
        algorithms = connection.negotiated
        self._shared.taken(self.id, self._version, algorithms)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its sessions have been told already."""
        self._forget_goodbye()
        self._asleep.close()
        self._auth_file.remove()
        self.forwarding.close()
        connection = self._made
        goodbye = bool(self._close_reason) or not was_lost(exc, self._cut_off)
        self._ended(self._close_reason or end_reason(exc), connection.bytes_in, connection.bytes_out, goodbye=goodbye)

    def never_made(self, reason: str) -> None:
        """The connection could not be taken over."""
        self._ended(reason, 0, 0, goodbye=False)

    def _ended(self, reason: str, bytes_in: int, bytes_out: int, *, goodbye: bool) -> None:
        closed = ConnectionClosed(
            conn=self.id,
            peer=self._told.endpoints.peer,
            user="",
            reason=reason,
            seconds=round(self._shared.now() - self._opened_at, 3),
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            goodbye=goodbye,
        )
        self._shared.tapes.when_told(self.id, lambda: self._shared.publish(closed))
        self._shared.gone(self.id)

    def internal_error(self, error: Any = None) -> None:
        """A bug of ours ended the connection."""
        parts = error if error and error[0] is not None else exc_info()
        text = "".join(traceback.format_exception(*parts)) if parts[0] is not None else "unknown"
        self._shared.crashed(self.id, text)

    @property
    def _made(self) -> Connection:
        if self._connection is None:  # asyncssh calls back after `connection_made` alone
            raise RuntimeError("there is no connection yet")
        return self._connection

    @property
    def _version(self) -> str:
        return str(self._made.get_extra_info("client_version", ""))

    # -- the monitor's orders -------------------------------------------------------------------------------------

    def obey(self, order: Announce | EndConnection | Revoke) -> None:
        """Carry out an order of the monitor."""
        match order:
            case Announce(text=text):
                self.announce(text)
            case EndConnection(reason=reason, revoked=revoked):
                sessions = tuple(self.sessions.values()) if revoked else ()
                self.disconnect(reason)  # first, so that the client gets this reason
                for session in sessions:
                    session.end_processes(self._shared.revoked)
            case Revoke(reason=why, cause=cause):
                self._revoke(why, cause)

    def disconnect(self, reason: str) -> None:
        """Disconnect, after the client has answered the end of its sessions, or after `TAKEN_SECONDS`."""
        if self._connection is None:
            self._close_reason = reason
        elif not self._takes_an_end:
            self._say_goodbye(reason)
        elif self._goodbye is None:
            self._goodbye = self._loop.call_later(TAKEN_SECONDS, self._say_goodbye, reason), reason

    @property
    def _takes_an_end(self) -> bool:
        """Whether there is a session whose end was sent and has not been answered yet."""
        return any(session.is_over for session in self.sessions.values())

    def _say_goodbye(self, reason: str) -> None:
        self._forget_goodbye()
        self._close_reason = reason
        self._made.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    def _forget_goodbye(self) -> None:
        if self._goodbye is not None:
            self._goodbye[0].cancel()
            self._goodbye = None

    def announce(self, text: str) -> None:
        """Show `text` on every terminal of the connection."""
        for session in tuple(self.sessions.values()):
            session.announce(text)

    def _revoke(self, reason: str | None, cause: str) -> None:
        """Open nothing more, for `reason`; None: allow it again, unless something else forbids it."""
        self._revoked.pop(cause, None)
        if reason is not None:
            self._revoked[cause] = reason
        if self._connection is not None:
            self.forwarding.revoke(self._why_revoked)

    @property
    def _why_revoked(self) -> str | None:
        return next(iter(self._revoked.values()), None)

    def figures(self, most_sessions: int) -> ConnectionFigures:
        """The connection's counters so far, and its running sessions, `most_sessions` of them at most."""
        connection = self._connection
        reports = filter(None, (session.record.report() for session in self.sessions.values()))
        return ConnectionFigures(
            conn=self.id,
            bytes_in=0 if connection is None else connection.bytes_in,
            bytes_out=0 if connection is None else connection.bytes_out,
            counters=self._counters(),
            sessions=tuple(
                SessionFigures(report.session, report.bytes_in, report.bytes_out, report.seconds)
                for report in islice(reports, most_sessions)
            ),
        )

    def _counters(self) -> Counters:
        """The totals over the whole connection, which the idle rules judge its use by."""
        total = self._counted
        if self._connection is not None:
            total += Counters(worked=self.forwarding.bytes_moved)
        for session in self.sessions.values():
            total += session.counters
        return total

    # -- channels -------------------------------------------------------------------------------------------------

    def session_requested(self) -> tuple[SessionChannel, Session]:
        """A session channel, if the connection may have one more."""
        connection, shared, told = self._made, self._shared, self._told
        if connection.no_more_sessions:
            self._refuse("session", "the client said that it would open no more sessions")
        if (why := self._why_revoked) is not None:
            self._refuse("session", why)
        running = sum(not session.is_over for session in self.sessions.values())
        # Sessions that have ended but whose channel the client has not closed yet must be bounded, too.
        if running >= told.sessions or len(self.sessions) >= 2 * told.sessions:
            self._refuse("session", f"{told.sessions} sessions are open on this connection already")
        self._sessions_opened += 1
        session_id = f"{self.id}.{self._sessions_opened}"
        context = SessionContext(
            conn=self.id,
            session=session_id,
            user=self._login,
            identity=told.identity,
            endpoints=told.endpoints,
            spawner=shared.spawner,
            account=lambda: own_account(self._login),
            drains=shared.drains,
            publish=shared.publish,
            once_logged=shared.once_logged,
            now=shared.now,
            system_env=self._system_env,
            on_network=connection.on_writable,
            on_closed=self._session_closed,
            rules=told.rules,
            agent_path=lambda: self.forwarding.agent_path,
            end_x11=self.forwarding.end_x11,
            asleep=self._asleep,
            tapes=shared.tapes,
            recorded=told.recorded,
            banner=told.banner,
            command_directory=shared.command_directory,
            client_takes_eow=takes_eow(self._version.encode("utf-8", "replace")),
            auth_file=self._auth_file.path,
        )
        session = self.sessions[session_id] = Session(context, self._loop)
        channel = connection.create_server_channel()
        channel.accept_env = told.rules.accept_env
        return channel, session

    def _system_env(self) -> dict[bytes, bytes]:
        place = {CONTROL_VARIABLE: self._told.control} if self._told.control else {}
        return read_system_environment(self._told.timezone) | place

    def _session_closed(self, session_id: str, cut_off: bool) -> None:
        session = self.sessions.pop(session_id)
        self._counted += session.counters
        self._cut_off |= cut_off
        if self._goodbye is not None and not self._takes_an_end:
            handle, reason = self._goodbye
            handle.cancel()
            # Not at once: a lost connection ends all its sessions before `connection_lost` is called.
            self._goodbye = self._loop.call_soon(self._say_goodbye, reason), reason

    def _no_auth_file(self, reason: str) -> None:
        self._shared.publish(RequestDenied(conn=self.id, user="", request="session.expose_auth_info", reason=reason))

    def _slept_through(self, request: str) -> None:
        self._shared.publish(RequestDenied(conn=self.id, user="", request=request, reason=WHY))

    def _refuse(self, request: str, reason: str) -> NoReturn:
        """Refuse to open a channel, and log it."""
        self._shared.publish(RequestDenied(conn=self.id, user="", request=request, reason=reason))
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)


def own_account(login: str) -> Account:
    """The passwd entry of the account that this process runs as. Raises SpawnRefused.

    Found by the login name if that has this process's uid: several names may share one uid, and user directories know
    aliases.
    """
    uid = os.getuid()
    try:
        entry = pwd.getpwnam(login)
    except (KeyError, ValueError):
        entry = None
    if entry is None or entry.pw_uid != uid:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise SpawnRefused(f"there is no account {login} on this machine") from None
        login = entry.pw_name
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, login)
