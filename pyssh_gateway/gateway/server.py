"""One client, from its first byte to its last: asyncssh's callbacks, answered by `core.policy`, told to the bus.

A security decision in here never awaits: the snapshot that a key was found in is the one that it is judged by.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from sys import exc_info
from typing import Any, Literal, NoReturn, cast

import asyncssh
import msgspec
from asyncssh.packet import PacketDecodeError, SSHPacket, String
from asyncssh.public_key import KeyImportError, decode_ssh_public_key

from pyssh_gateway.config import Limits
from pyssh_gateway.core import policy
from pyssh_gateway.core.authorized_keys import AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.events import (
    AnyEvent,
    AuthAttempt,
    ConnectionAuthenticated,
    ConnectionClosed,
    InternalError,
    RequestDenied,
)
from pyssh_gateway.gateway.channel import SessionChannel
from pyssh_gateway.gateway.connection import Connection
from pyssh_gateway.gateway.forward import ForwardContext
from pyssh_gateway.gateway.forwarding import Forwarding
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.session import Session, SessionContext
from pyssh_gateway.gateway.socket_client import SocketMakers
from pyssh_gateway.gateway.spawner_client import SpawnerClient


class Services(msgspec.Struct, frozen=True):
    """What every client needs of the gateway. `released` is called once, when a peer has authenticated or gone."""

    limits: Limits
    registry: Registry
    spawner: SpawnerClient
    sockets: SocketMakers
    rules: Mapping[str, LoginRules]
    publish: Callable[[AnyEvent], None]
    snapshot: Callable[[], KeySnapshot]
    system_env: Callable[[], dict[bytes, bytes]]
    released: Callable[[str], None]
    now: Callable[[], float] = time.monotonic


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
        self._key: AuthorizedKey | None = None
        self._close_reason = ""
        self.forwarding: Forwarding

    # -- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The transport is ours."""
        self._connection = cast(Connection, conn)
        self._services.registry.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its sessions have been told."""
        registry = self._services.registry
        registry.remove(self)
        if not self.user:
            self._services.released(self._endpoints.peer)
        else:
            self.forwarding.close()
            if not registry.is_on(self.user):
                self._services.sockets.end(self.user)
        self._services.publish(
            ConnectionClosed(
                conn=self.id,
                peer=self._endpoints.peer,
                user=self.user,
                reason=self._close_reason or _reason(exc),
                seconds=round(self._services.now() - self._opened_at, 3),
                bytes_in=self._connection.bytes_in,
                bytes_out=self._connection.bytes_out,
            )
        )

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close."""
        self._close_reason = reason
        self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

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

    def public_key_request(self, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Decide a `publickey` request (RFC 4252 section 7); without a `signature` the key is only offered."""
        attempt = policy.Attempt(
            user=self._connection.wire_user,
            algorithm=self._connection.wire_algorithm,
            blob=blob,
            proof=_algorithm_of(signature) if message else None,
        )
        match policy.decide(attempt, self._services.snapshot()):
            case policy.Deny(reason=reason):
                self._report(attempt, "denied", reason=reason)
                return False
            case policy.Accept(key=key) if not message:
                self._report(attempt, "offered", key=key)
                return True
            case policy.Accept(key=key):
                if not _verified(blob, String(self._connection.session_id) + message, signature):
                    self._report(attempt, "denied", key=key, reason="signature is wrong")
                    return False
                self._key = key
                self._report(attempt, "accepted", key=key)
                return True

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
        """Success has been sent. Synchronous: asyncssh does not wait for anything here before serving channels."""
        key = self._key
        if key is None:  # there is no other way to succeed; if there were, it would be a hole
            self._connection.abort()
            raise asyncssh.PermissionDenied("authenticated without a key")
        self.user = self._connection.wire_user.decode("ascii")
        self.forwarding = Forwarding(
            ForwardContext(
                conn=self.id,
                user=self.user,
                rules=self._services.rules[self.user].forwarding,
                sockets=self._services.sockets,
                publish=self._services.publish,
                now=self._services.now,
                on_network=self._connection.on_writable,
                spawn_task=self._connection.create_task,
                is_closed=self._connection.is_closed,
            ),
            self._loop,
        )
        self._connection.authenticated()
        self._services.released(self._endpoints.peer)
        self._services.publish(
            ConnectionAuthenticated(
                conn=self.id,
                peer=self._endpoints.peer,
                user=self.user,
                fingerprint=key.fingerprint,
                source=key.source,
                client=str(self._connection.get_extra_info("client_version", "")),
                cipher=str(self._connection.get_extra_info("send_cipher", "")),
                seconds=round(self._services.now() - self._opened_at, 3),
            )
        )

    def _report(
        self,
        attempt: policy.Attempt,
        result: Literal["accepted", "offered", "denied"],
        *,
        method: str = "publickey",
        key: AuthorizedKey | None = None,
        reason: str = "",
    ) -> None:
        self._services.publish(
            AuthAttempt(
                conn=self.id,
                peer=self._endpoints.peer,
                user=attempt.user.decode("utf-8", "surrogateescape"),
                method=method,
                result=result,
                reason=reason,
                key_type=key.key_type if key is not None else attempt.algorithm,
                fingerprint=fingerprint(attempt.blob) if attempt.blob else "",
                source=key.source if key is not None else "",
            )
        )

    # -- channels -----------------------------------------------------------------------------------------------

    def session_requested(self) -> tuple[SessionChannel, Session]:
        """A session channel, if the connection may have one more."""
        if self._connection.no_more_sessions:
            self._refuse("session", "the client said that it would open no more sessions")
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
            endpoints=self._endpoints,
            spawner=self._services.spawner,
            publish=self._services.publish,
            now=self._services.now,
            system_env=self._services.system_env,
            on_network=self._connection.on_writable,
            on_closed=self._session_closed,
            rules=self._services.rules[self.user],
            agent_path=lambda: self.forwarding.agent_path,
            end_x11=self.forwarding.end_x11,
        )
        session = self.sessions[session_id] = Session(context, self._loop)
        channel = self._connection.create_server_channel()
        channel.accept_env = context.rules.accept_env
        return channel, session

    def _session_closed(self, session_id: str) -> None:
        del self.sessions[session_id]

    def _refuse(self, request: str, reason: str) -> NoReturn:
        """Fail the opening of a channel, and say so in the log."""
        self._deny(request, reason)
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)

    def _deny(self, request: str, reason: str) -> None:
        self._services.publish(RequestDenied(conn=self.id, user=self.user, request=request, reason=reason))


def _reason(error: Exception | None) -> str:
    """Why a connection ended. A client that simply closes its socket is no error, whatever asyncssh calls it."""
    if error is None:
        return "closed by the client"
    if isinstance(error, asyncssh.ConnectionLost) and str(error) == "Connection lost":
        return "closed by the client without a goodbye"
    return str(error) or type(error).__name__


def _algorithm_of(signature: bytes) -> str:
    """The algorithm that a signature (RFC 4253 section 6.6) says it was made with."""
    try:
        return SSHPacket(signature).get_string().decode("ascii", "backslashreplace")
    except PacketDecodeError:
        return "a malformed signature"


def _verified(blob: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` over `data` was made with the key `blob`; a security key has to have been touched."""
    try:
        key = decode_ssh_public_key(blob)
        key.set_touch_required(True)
        return bool(key.verify(data, signature))
    except (KeyImportError, PacketDecodeError, ValueError):
        return False
