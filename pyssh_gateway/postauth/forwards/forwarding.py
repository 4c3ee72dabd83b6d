"""Forwarding (RFC 4254 section 7, OpenSSH's PROTOCOL section 2.4): channels joined to sockets.

`sockets` makes the sockets; this module only joins them to channels. One `Forwarding` belongs to one connection and
ends with it.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import asyncssh
import msgspec

from pyssh_gateway.core import forwarding as rules_module
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.events import ForwardListening, RequestDenied
from pyssh_gateway.postauth.forwards.forward import Forward, ForwardContext
from pyssh_gateway.postauth.forwards.sockets import Listening, SocketFailed
from pyssh_gateway.system.accepting import Acceptor

MAX_FORWARDS = 1000
"""Forwarded connections that one client may have open; each takes three descriptors. A browser behind -D opens tens."""

MAX_OFFERS = 256
"""Forwarded connections that the client has not accepted yet. A suspended client accepts none, while anybody may
connect to its listeners."""

MAX_LISTENERS = 100
"""Listeners that one client may have open."""

X11_PORT = 6000
FIRST_DISPLAY = 10
MAX_DISPLAYS = 90
"""Display numbers start at 10, above those of real X servers (sshd's X11DisplayOffset). Each display has its port."""

XAUTH = shutil.which("xauth", path="/usr/bin:/usr/local/bin:/usr/X11R6/bin")
"""Stores a display's cookie where programs on this machine find it; without it X11 forwarding is refused."""

OPEN_SECONDS = 60.0
"""How long the client may take to answer when the server opens a forwarded channel."""


Peer = tuple[str, int]
OpenChannel = Callable[[Peer, Forward], Awaitable[object]]


class Forwarding:
    """All forwarding of one connection."""

    def __init__(self, context: ForwardContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._forwards = 0
        self._live: set[Forward] = set()
        self._bytes_moved = 0
        self._offers = 0
        self._listeners: dict[tuple[str, int] | str, Listening] = {}
        self._agent: Listening | None = None
        self._agent_lock = asyncio.Lock()
        self._closed = False
        self._revoked: str | None = None

    @property
    def bytes_moved(self) -> int:
        """Bytes through all forwarded connections so far, both ways."""
        return self._bytes_moved + sum(forward.bytes_moved for forward in self._live)

    @property
    def agent_path(self) -> bytes:
        """The agent's socket, for SSH_AUTH_SOCK; empty if none is forwarded."""
        return self._agent.path if self._agent is not None else b""

    def close(self) -> None:
        """The connection has ended: end its listeners, and those that are still being made."""
        self._closed = True
        listeners = list(self._listeners.values())
        if self._agent is not None:
            listeners.append(self._agent)
        for listening in listeners:
            self._context.sockets.forget(listening)
        self._listeners.clear()
        self._agent = None

    def revoke(self, reason: str | None) -> None:
        """Open nothing more, for `reason`; None: allow it again. Open forwards go on until the connection ends.

        Listeners stay open and drop new connections: if a port were released, another process could take it before it
        is wanted back.
        """
        self._revoked = reason

    @property
    def _stopped(self) -> str | None:
        """Why nothing at all may be opened at present; None if the rules decide."""
        return self._revoked or self._context.forbidden

    # -- from the client outwards -------------------------------------------------------------------------------

    async def connect_tcp(self, host: str, port: int) -> Forward:
        """`direct-tcpip`. Raises `ChannelOpenError`."""
        name = f"{host}:{port}"
        self._check("direct-tcpip", name, rules_module.may_connect(self._context.rules, host, port))
        return await self._connect("direct-tcpip", name, self._context.sockets.connect_tcp(host, port))

    async def connect_unix(self, path: str) -> Forward:
        """`direct-streamlocal@openssh.com`. Raises `ChannelOpenError`."""
        self._check("direct-streamlocal", path, rules_module.may_connect_unix(self._context.rules))
        connecting = self._context.sockets.connect_unix(os.fsencode(path))
        return await self._connect("direct-streamlocal", path, connecting)

    async def _connect(self, kind: str, target: str, connecting: Awaitable[socket.socket]) -> Forward:
        self._forwards += 1  # before the socket exists, so that many requests at once are counted, too
        try:
            sock = await connecting
        except SocketFailed as error:
            self._forwards -= 1
            self._deny(kind, target, str(error))
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(error)) from error
        except BaseException:
            self._forwards -= 1
            raise
        if self._context.is_closed():  # its channel is gone, and nothing else would close the socket
            self._forwards -= 1
            sock.close()
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the connection is closed")
        sock.setblocking(False)
        return self._forward(kind, target, sock)

    # -- from here towards the client ---------------------------------------------------------------------------

    async def listen_tcp(self, conn: asyncssh.SSHServerConnection, host: str, port: int) -> int | None:
        """`tcpip-forward`: the port that is listened on; None if the request fails."""
        reason = rules_module.may_listen(self._context.rules, host, port)
        addresses = rules_module.listen_addresses(host, self._context.rules.gateway_ports)
        asking = partial(self._context.sockets.listen_tcp, addresses, port)
        listening = await self._listen("tcpip-forward", f"{host}:{port}", reason, asking)
        if listening is None:
            return None
        self._keep((host, listening.port), listening)

        def open_channel(peer: Peer, forward: Forward) -> Awaitable[object]:
            return conn.create_connection(lambda: forward, host, listening.port, *peer)

        self._accept_from(listening, "forwarded-tcpip", f"{host}:{listening.port}", open_channel)
        return listening.port

    async def listen_unix(self, conn: asyncssh.SSHServerConnection, path: str) -> bool:
        """`streamlocal-forward@openssh.com`: whether the listener was made."""
        rules = self._context.rules
        asking = partial(
            self._context.sockets.listen_unix,
            os.fsencode(path),
            rules.socket_mask,
            unlink=rules.socket_unlink,
        )
        listening = await self._listen("streamlocal-forward", path, rules_module.may_listen_unix(rules), asking)
        if listening is None:
            return False
        self._keep(path, listening)

        def open_channel(_peer: Peer, forward: Forward) -> Awaitable[object]:
            return conn.create_unix_connection(lambda: forward, path)  # type: ignore[arg-type,return-value]  # has a session's methods

        self._accept_from(listening, "forwarded-streamlocal", path, open_channel)
        return True

    def cancel(self, where: tuple[str, int] | str) -> bool:
        """`cancel-tcpip-forward`, and the same for unix sockets: whether there was such a listener."""
        listening = self._listeners.pop(where, None)
        if listening is None:
            return False
        self._context.sockets.forget(listening)
        return True

    async def listen_agent(self, conn: asyncssh.SSHServerConnection) -> bool:
        """`auth-agent-req@openssh.com`: whether the client's agent can be reached from here now."""
        reason = None
        if not self._context.rules.agent:
            reason = "agent forwarding is not permitted"
        async with self._agent_lock:  # sessions of one connection may ask at once, and share one socket
            if self._agent is not None:
                return True
            self._agent = await self._listen("auth-agent-req", "", reason, self._context.sockets.listen_agent)
        if self._agent is None:
            return False

        def open_channel(_peer: Peer, forward: Forward) -> Awaitable[object]:
            return conn.create_agent_channel().open(lambda: forward)  # type: ignore[arg-type,return-value]  # has a session's methods

        self._accept_from(self._agent, "auth-agent", os.fsdecode(self._agent.path), open_channel)
        return True

    async def listen_x11(self, conn: Any, screen: int, protocol: str, cookie: str) -> X11Display | None:
        """`x11-req` (RFC 4254 section 6.3.1): a display connected to the client's; None if the request fails.

        A display is only taken if its port is free on every loopback address: a process that listened on one of them
        could collect cookies there.
        """
        reason = None
        display = rules_module.x11_display(0, screen, protocol, cookie)
        if not self._context.rules.x11:
            reason = "X11 forwarding is not permitted"
        elif XAUTH is None:
            reason = "there is no xauth on this machine"
        elif display is None:
            reason = "the cookie is not one"
        listening = await self._listen("x11-req", "", reason, self._free_display)
        if listening is None or display is None:
            return None
        number = listening.port - X11_PORT
        self._keep(("x11", listening.port), listening)

        def open_channel(peer: Peer, forward: Forward) -> Awaitable[object]:
            opened: Awaitable[object] = conn.create_x11_channel().open(lambda: forward, *peer)
            return opened

        self._accept_from(listening, "x11", f"localhost:{number}", open_channel)
        return msgspec.structs.replace(display, number=number)

    def end_x11(self, display: X11Display) -> None:
        """The session that the display was for is over."""
        self.cancel(("x11", X11_PORT + display.number))

    async def _free_display(self) -> Listening:
        for number in range(FIRST_DISPLAY, FIRST_DISPLAY + MAX_DISPLAYS):
            with suppress(SocketFailed):  # taken by another session
                return await self._context.sockets.listen_tcp(rules_module.LOOPBACK, X11_PORT + number, alone=True)
        raise SocketFailed("no display number is free")

    async def _listen(
        self, request: str, target: str, reason: str | None, asking: Callable[[], Awaitable[Listening]]
    ) -> Listening | None:
        """A new listener, unless there is a `reason` to refuse it or too many are open."""
        reason = self._stopped or reason
        if reason is None and len(self._listeners) >= MAX_LISTENERS:
            reason = f"{MAX_LISTENERS} listeners are open on this connection already"
        if reason is None:
            try:
                listening = await asking()
            except SocketFailed as error:
                reason = str(error)
            else:
                if not self._closed:
                    self._context.asleep.waits(_named(request, target))
                    return listening
                self._context.sockets.forget(listening)
                reason = "the connection is closed"
        self._deny(request, target, reason)
        return None

    def _keep(self, where: tuple[str, int] | str, listening: Listening) -> None:
        """Remember the listener, and end an older one at the same place (a socket whose file has been removed)."""
        self.cancel(where)
        self._listeners[where] = listening

    def _accept_from(self, listening: Listening, kind: str, target: str, open_channel: OpenChannel) -> None:
        context = self._context
        context.publish(ForwardListening(conn=context.conn, user=context.user, kind=kind, target=target))

        def take(sock: socket.socket, address: object) -> None:
            is_stopped = self._stopped is not None or context.asleep.refusal is not None
            if is_stopped or self._forwards >= MAX_FORWARDS or self._offers >= MAX_OFFERS:
                sock.close()
                return
            self._forwards += 1
            self._offers += 1
            peer = address[:2] if isinstance(address, tuple) else ("", 0)
            context.spawn_task(self._offer(sock, kind, target, partial(open_channel, peer)))

        for sock in listening.sockets:
            Acceptor(self._loop, sock, take).start()

    async def _offer(
        self, sock: socket.socket, kind: str, target: str, open_channel: Callable[[Forward], Awaitable[object]]
    ) -> None:
        """Open a channel to the client for an accepted connection, which is closed if the client refuses."""
        try:
            forward = self._forward(kind, target, sock)
        except asyncssh.ChannelOpenError as error:
            self._offers -= 1
            self._deny(kind, target, error.reason)
            return
        opened = False
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await open_channel(forward)
            opened = True
        except (asyncssh.ChannelOpenError, TimeoutError) as error:
            self._deny(kind, target, f"the client refused: {error}")
        finally:
            self._offers -= 1
            if not opened:
                forward.release()

    # -- both ---------------------------------------------------------------------------------------------------

    def _forward(self, kind: str, target: str, sock: socket.socket) -> Forward:
        """`sock`, ready to be joined to a channel. The caller has counted it already."""

        def released() -> None:
            self._forwards -= 1
            self._live.discard(forward)
            self._bytes_moved += forward.bytes_moved

        try:
            forward = Forward(self._loop, sock, self._context, kind=kind, target=target, on_released=released)
        except OSError as error:
            sock.close()
            self._forwards -= 1
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "no descriptors are left") from error
        self._live.add(forward)
        return forward

    def _check(self, kind: str, target: str, reason: str | None) -> None:
        asleep = self._context.asleep
        if self._stopped is None and asleep.refusal is not None:
            asleep.refused(_named(kind, target))
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asleep.refusal)
        reason = self._stopped or reason
        if reason is None and self._forwards >= MAX_FORWARDS:
            reason = f"{MAX_FORWARDS} connections are forwarded already"
        if reason is not None:
            self._deny(kind, target, reason)
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)

    def _deny(self, kind: str, target: str, reason: str) -> None:
        context, request = self._context, _named(kind, target)
        context.publish(RequestDenied(conn=context.conn, user=context.user, request=request, reason=reason))


def _named(kind: str, target: str) -> str:
    """A request's name in the log."""
    return f"{kind} {target}" if target else kind
