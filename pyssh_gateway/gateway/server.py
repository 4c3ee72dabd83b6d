"""One client, from its first byte to its last: asyncssh's callbacks, answered by `core.access.policy`, told to the bus.

A security decision in here never awaits: the snapshot that a key was found in is the one that it is judged by. Before
it, the key files are read; and before it is said that nobody knows a key, there may be a new look at the sources, and
then everything is decided anew.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from sys import exc_info
from typing import Any, Literal, NoReturn, cast

import asyncssh
import msgspec
from asyncssh.packet import String

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.access import policy
from pyssh_gateway.core.access.authorized_keys import KeySnapshot, fingerprint
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.core.compat import takes_eow
from pyssh_gateway.core.control import ConnectionReport
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.login_rules import LoginRules, restrict
from pyssh_gateway.core.windows import Budgets
from pyssh_gateway.events import (
    AnyEvent,
    AuthAttempt,
    ConnectionAuthenticated,
    ConnectionClosed,
    Identity,
    InternalError,
    OnesEvent,
    RequestDenied,
)
from pyssh_gateway.gateway.connection import Connection
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.ipc.socket_client import SocketMakers
from pyssh_gateway.ipc.spawner_client import SpawnerClient
from pyssh_gateway.monitor.revocation import KEY_REVOKED, REVOKED_SECONDS, Opened, Revocation
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.drains import Drains
from pyssh_gateway.postauth.forward import ForwardContext
from pyssh_gateway.postauth.forwarding import Forwarding
from pyssh_gateway.postauth.session import Session, SessionContext
from pyssh_gateway.ssh.disconnects import end_reason, was_lost
from pyssh_gateway.ssh.signatures import certificate_verified, read_proof, verified

MAX_ALGORITHM = 64
"""Characters kept of an algorithm's name that nobody has accepted (RFC 4251 section 6 has no longer ones)."""


class Services(msgspec.Struct, frozen=True):
    """What every client needs of the gateway. `released` is called once, when one has authenticated or gone.

    `read_files` returns when it is known what the key files say; `look_again` (peer, fingerprint) when it is not worth
    waiting any longer for news of a key, or when the connection has waited enough; `look_up` (source) when a key that
    is gone from there was looked up again, with whether that is certain; `key_used` (source, fingerprints offered in
    vain) is told who got in by what; `banner` (connection) makes what a login shell shows first. `clock` is Unix time.
    """

    limits: Limits
    registry: Registry
    spawner: SpawnerClient
    drains: Drains
    sockets: SocketMakers
    rules: Mapping[str, LoginRules]
    publish: Callable[[AnyEvent], None]
    snapshot: Callable[[], KeySnapshot]
    read_files: Callable[[Patience], Awaitable[None]]
    look_again: Callable[[str, str, Patience], Awaitable[None]]
    look_up: Callable[[str], Awaitable[bool]]
    key_used: Callable[[str, str, tuple[str, ...]], None]
    turned_away: Callable[[str, tuple[str, ...]], None]
    system_env: Callable[[], dict[bytes, bytes]]
    released: Callable[[str], None]
    banner: Callable[[str], bytes]
    end_revoked: bool = True
    budgets: Budgets = msgspec.field(default_factory=Budgets)
    now: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time


class Client(asyncssh.SSHServer):
    """One connection's owner. `user` is empty until somebody has authenticated."""

    def __init__(self, conn_id: str, endpoints: Endpoints, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self.id = conn_id
        self.user = ""
        self.sessions: dict[str, Session] = {}
        self._endpoints = endpoints
        self._services = services
        self._loop = loop
        self._opened_at = services.now()
        self._sessions_opened = 0
        self._connection: Connection
        self._accepted: policy.Accept | None = None
        self._cut_off = False
        self._counted = Counters()
        self._in_vain: tuple[str, ...] = ()
        # Each of its own: servers that do not answer must not keep a key file, which does, from being read.
        self._file_patience, self._look_patience = Patience(), Patience()
        self._revocation: Revocation
        self._rules: LoginRules
        self._close_reason = ""
        self._cut_off_reason = ""
        self.forwarding: Forwarding

    # -- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The transport is ours; after the login it is another one, to which the connection was handed over."""
        self._connection = cast(Connection, conn)
        self._services.registry.add(self)
        # Between the two there was nothing that could have been ended.
        if self._cut_off_reason:
            self._connection.cut_off(self._cut_off_reason)
        elif self._close_reason:
            self.disconnect(self._close_reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its sessions have been told."""
        registry = self._services.registry
        registry.remove(self)
        if not self.user:
            self._services.released(self.id)
            self._services.turned_away(self._endpoints.peer, self._in_vain)
        else:
            self._revocation.close()
            self.forwarding.close()
            if not registry.is_on(self.user):
                self._services.sockets.end(self.user)
        self._tell(
            ConnectionClosed(
                conn=self.id,
                peer=self._endpoints.peer,
                user=self.user,
                reason=self._close_reason or end_reason(exc),
                seconds=round(self._services.now() - self._opened_at, 3),
                bytes_in=self._connection.bytes_in,
                bytes_out=self._connection.bytes_out,
                goodbye=bool(self._close_reason) or not was_lost(exc, self._cut_off),
            )
        )

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""
        self._close_reason = reason
        self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    def cut_off(self, reason: str) -> None:
        """End a connection on which nobody has authenticated, at once."""
        self._cut_off_reason = reason
        self._connection.cut_off(reason)

    def could_not_go_on(self, error: Exception, text: str) -> None:
        """The connection was handed over, and what it was given to could not take it; `text` is the traceback."""
        self._services.publish(InternalError(where="hand-over", error=text, conn=self.id))
        self.connection_lost(error)

    def internal_error(self, error: Any = None) -> None:
        """A bug of ours ended the connection."""
        parts = error if error and error[0] is not None else exc_info()
        text = "".join(traceback.format_exception(*parts)) if parts[0] is not None else "unknown"
        self._services.publish(InternalError(where="connection", error=text, conn=self.id))

    # -- authentication -----------------------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """True: authentication is needed. asyncssh lets the client in without a key for anything falsy."""
        return True

    def public_key_auth_supported(self) -> bool:
        """The one method that there is."""
        return True

    async def public_key_request(self, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Decide a `publickey` request (RFC 4252 section 7); without a `signature` the key is only offered."""
        attempt = policy.Attempt(
            user=self._connection.wire_user,
            algorithm=self._connection.wire_algorithm,
            blob=blob,
            proof=read_proof(signature) if message else None,
            peer=self._endpoints.peer,
        )
        await self._services.read_files(self._file_patience)
        outcome = self._decide(attempt)
        if isinstance(outcome, policy.Deny) and not outcome.final:
            await self._services.look_again(attempt.peer, fingerprint(blob), self._look_patience)
            outcome = self._decide(attempt)
        # From here to the answer nothing awaits: what was decided is what holds.
        if isinstance(outcome, policy.Deny):
            self._in_vain += () if outcome.final else (fingerprint(blob),)
            self._report(attempt, "denied", reason=outcome.reason)
            return False
        if outcome.certificate is not None and not certificate_verified(outcome.certificate):
            self._report(attempt, "denied", reason="the certificate's signature is wrong")
            return False
        if not message:
            self._report(attempt, "offered", accepted=outcome)
            return True
        signed = String(self._connection.session_id) + message
        # The decision has looked at what a security key says of the touch; without the flag it may be missing.
        if not verified(outcome.signer, signed, signature, touch_required=outcome.options.touch_required):
            self._report(attempt, "denied", accepted=outcome, reason="signature is wrong")
            return False
        self._accepted = outcome
        self._report(attempt, "accepted", accepted=outcome)
        return True

    def _decide(self, attempt: policy.Attempt) -> policy.Accept | policy.Deny:
        return policy.decide(attempt, self._services.snapshot(), self._services.clock())

    def name_refused(self, method: str) -> None:
        """The user name can't be an account's. A key in the request has not been looked at."""
        if method in {"publickey", "none"}:  # `auth_failed` reports the others
            attempt = policy.Attempt(self._connection.wire_user, "", b"", None)
            self._report(attempt, "denied", method=method, reason="unknown account")

    def auth_failed(self, method: str) -> None:
        """Any request was refused; the ones with a key have been reported with their reason already.

        `none` is how clients ask which methods there are (RFC 4252 section 5.2), and every login begins with it.
        """
        if method not in {"publickey", "none"}:
            attempt = policy.Attempt(self._connection.wire_user, "", b"", None)
            self._report(attempt, "denied", method=method, reason="method is not offered")

    def auth_completed(self) -> None:
        """Success has been sent. Synchronous: asyncssh does not wait for anything here before serving channels.

        The connection was handed over since the decision, so what may have changed meanwhile is looked at again.
        """
        accepted = self._accepted
        if accepted is None:  # there is no other way to succeed; if there were, it would be a hole
            self._connection.abort()
            raise asyncssh.PermissionDenied("authenticated without a key")
        user = self._connection.wire_user.decode("ascii")
        if user not in self._services.rules:  # the configuration was read again since the decision
            self._connection.abort()
            raise asyncssh.PermissionDenied("the account may not log in any more")
        self.user = user
        self.budget = self._services.budgets.of(self.user)
        self._rules = restrict(self._services.rules[self.user], accepted.options)
        self.forwarding = Forwarding(
            ForwardContext(
                conn=self.id,
                user=self.user,
                rules=self._rules.forwarding,
                sockets=self._services.sockets,
                publish=self._tell,
                now=self._services.now,
                on_network=self._connection.on_writable,
                spawn_task=self._connection.create_task,
                is_closed=self._connection.is_closed,
            ),
            self._loop,
        )
        self._revocation = Revocation(
            Opened(
                conn=self.id,
                peer=self._endpoints.peer,
                user=self.user,
                identity=accepted.identity,
                holds=lambda: policy.still_holds(self.user, accepted, self._services.snapshot()),
                why_not=lambda: self._why_revoked(accepted.identity),
                look_up=lambda: self._services.look_up(accepted.key.source),
                publish=self._services.publish,
                announce=self._announce,
                revoke=self.forwarding.revoke,
                end=self.disconnect,
            ),
            lambda: REVOKED_SECONDS if self._services.end_revoked else None,
            self._loop,
            self._connection.create_task,
        )
        self._connection.authenticated()
        self._services.released(self.id)
        self._services.publish(
            ConnectionAuthenticated(
                conn=self.id,
                peer=self._endpoints.peer,
                user=self.user,
                fingerprint=accepted.identity.fingerprint,
                source=accepted.key.source,
                client=str(self._connection.get_extra_info("client_version", "")),
                cipher=str(self._connection.get_extra_info("send_cipher", "")),
                seconds=round(self._services.now() - self._opened_at, 3),
                identity=accepted.identity,
            )
        )
        self._services.key_used(accepted.key.source, self._endpoints.peer, self._in_vain)
        self._revocation.check()

    @property
    def identity(self) -> Identity | None:
        """Who it is; None while nobody has authenticated."""
        return self._accepted.identity if self.user and self._accepted is not None else None

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that the connection has carried so far, in and out."""
        return self._connection.bytes_in, self._connection.bytes_out

    def report(self) -> ConnectionReport:
        """Who is on since when, and what runs."""
        bytes_in, bytes_out = self.traffic
        return ConnectionReport(
            conn=self.id,
            user=self.user,
            identity=self.identity,
            peer=self._endpoints.peer,
            since=self._services.clock() - (self._services.now() - self._opened_at),
            sessions=tuple(filter(None, (session.record.report() for session in self.sessions.values()))),
            bytes_in=bytes_in,
            bytes_out=bytes_out,
        )

    def reconfigure(self, services: Services) -> None:
        """Go by another configuration from now on. An open connection keeps the rules of its login, as in sshd."""
        self._services = services

    def recheck_key(self) -> None:
        """The keys have changed: see whether the one that let this client in is still good, and act if it is not."""
        if self.user:
            self._revocation.check()

    def _why_revoked(self, identity: Identity) -> str:
        if self.user not in self._services.rules:  # the configuration was read again
            return f"nobody may log in as {self.user} any more"
        return f"the key {identity.fingerprint} of {identity.person} has been revoked"

    def _announce(self, text: str) -> None:
        for session in self.sessions.values():
            session.announce(f"pyssh-gateway: {text}")

    def _tell(self, event: OnesEvent) -> None:
        """Publish what happens on this connection, with who it is."""
        self._services.publish(msgspec.structs.replace(event, identity=self.identity))

    def _report(
        self,
        attempt: policy.Attempt,
        result: Literal["accepted", "offered", "denied"],
        *,
        method: str = "publickey",
        accepted: policy.Accept | None = None,
        reason: str = "",
    ) -> None:
        certificate = accepted.certificate if accepted is not None else None
        key_type = attempt.algorithm[:MAX_ALGORITHM] if accepted is None else accepted.key.key_type
        known_as = fingerprint(attempt.blob) if attempt.blob else ""
        self._services.publish(
            AuthAttempt(
                conn=self.id,
                peer=self._endpoints.peer,
                user=attempt.user.decode("utf-8", "surrogateescape"),
                method=method,
                result=result,
                reason=reason,
                key_type=key_type if certificate is None else certificate.key_type,
                fingerprint=known_as if accepted is None else accepted.identity.fingerprint,
                source=accepted.key.source if accepted is not None else "",
                identity=accepted.identity if accepted is not None else None,
            )
        )

    # -- channels -----------------------------------------------------------------------------------------------

    def session_requested(self) -> tuple[SessionChannel, Session]:
        """A session channel, if the connection may have one more."""
        if self._connection.no_more_sessions:
            self._refuse("session", "the client said that it would open no more sessions")
        if self._revocation.is_ending:
            self._refuse("session", KEY_REVOKED)
        limit = self._services.limits.sessions_per_connection
        running = sum(not session.is_over for session in self.sessions.values())
        # Sessions whose channel the client has yet to close are few with any honest one; they have to be bounded, too.
        if running >= limit or len(self.sessions) >= 2 * limit:
            self._refuse("session", f"{limit} sessions are open on this connection already")
        self._sessions_opened += 1
        session_id = f"{self.id}.{self._sessions_opened}"
        context = SessionContext(
            conn=self.id,
            session=session_id,
            user=self.user,
            identity=self._accepted.identity,  # type: ignore[union-attr]  # channels come after authentication
            endpoints=self._endpoints,
            spawner=self._services.spawner,
            drains=self._services.drains,
            publish=self._tell,
            now=self._services.now,
            system_env=self._services.system_env,
            on_network=self._connection.on_writable,
            on_closed=self._session_closed,
            rules=self._rules,
            agent_path=lambda: self.forwarding.agent_path,
            end_x11=self.forwarding.end_x11,
            banner=lambda: self._services.banner(self.id),
            client_takes_eow=takes_eow(str(self._connection.get_extra_info("client_version", "")).encode()),
        )
        session = self.sessions[session_id] = Session(context, self._loop)
        channel = self._connection.create_server_channel()
        channel.accept_env = context.rules.accept_env
        return channel, session

    def _session_closed(self, session_id: str, cut_off: bool) -> None:
        session = self.sessions.pop(session_id)
        self._counted = _sum(self._counted, session.counters)
        self._cut_off |= cut_off

    @property
    def counters(self) -> Counters:
        """What the client has moved in all, by which its use is judged."""
        total = _sum(self._counted, Counters(0, self.forwarding.bytes_moved))
        for session in self.sessions.values():
            total = _sum(total, session.counters)
        return total

    def _refuse(self, request: str, reason: str) -> NoReturn:
        """Fail the opening of a channel, and say so in the log."""
        self._deny(request, reason)
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)

    def _deny(self, request: str, reason: str) -> None:
        self._tell(RequestDenied(conn=self.id, user=self.user, request=request, reason=reason))


def _sum(one: Counters, other: Counters) -> Counters:
    return Counters(
        one.typed + other.typed, one.worked + other.worked, one.opened + other.opened, one.shown + other.shown
    )
