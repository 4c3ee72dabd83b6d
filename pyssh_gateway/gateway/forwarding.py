"""Forwarding (RFC 4254 section 7, OpenSSH's PROTOCOL section 2.4): channels joined to sockets.

The sockets are made by the account's own process (`socket_client`); in here they are only pumped. One `Forwarding`
belongs to one connection and ends with it.
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
from pyssh_gateway.events import ForwardClosed, ForwardListening, ForwardOpened, RequestDenied
from pyssh_gateway.gateway.forward import Forward, ForwardContext
from pyssh_gateway.gateway.socket_client import Listening, SocketFailed

MAX_FORWARDS = 1000
"""Forwarded connections that one client may have open: each takes a descriptor. A browser behind -D opens tens."""

MAX_LISTENERS = 100
"""Listeners that one client may have open."""

ACCEPTED_AT_ONCE = 16
"""Connections taken from a listener in one turn of the loop."""

X11_PORT = 6000
FIRST_DISPLAY = 10
MAX_DISPLAYS = 90
"""Display numbers: from 10, out of the way of real X servers (sshd's X11DisplayOffset); each has a port of its own."""

XAUTH = shutil.which("xauth", path="/usr/bin:/usr/local/bin:/usr/X11R6/bin")
"""Without it no program on this machine could know its display's cookie."""

OPEN_SECONDS = 60.0
"""How long the client may take to answer when a forwarded channel is opened towards it."""


Peer = tuple[str, int]


class Forwarding:
    """All that one connection forwards."""

    def __init__(self, context: ForwardContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._forwards = 0
        self._listeners: dict[tuple[str, int] | str, Listening] = {}
        self._agent: Listening | None = None

    @property
    def agent_path(self) -> bytes:
        """The agent's socket, for SSH_AUTH_SOCK; empty if none is forwarded."""
        return self._agent.path if self._agent is not None else b""

    def close(self) -> None:
        """The connection is gone: so are its listeners."""
        listeners = list(self._listeners.values())
        if self._agent is not None:
            listeners.append(self._agent)
        for listening in listeners:
            self._context.sockets.forget(self._context.user, listening)
        self._listeners.clear()
        self._agent = None

    # -- from the client outwards -------------------------------------------------------------------------------

    async def connect_tcp(self, host: str, port: int) -> Forward:
        """`direct-tcpip`. Raises `ChannelOpenError`."""
        name = f"{host}:{port}"
        self._check("direct-tcpip", name, rules_module.may_connect(self._context.rules, host, port))
        return await self._connect(
            "direct-tcpip", name, self._context.sockets.connect_tcp(self._context.user, host, port)
        )

    async def connect_unix(self, path: str) -> Forward:
        """`direct-streamlocal@openssh.com`. Raises `ChannelOpenError`."""
        self._check("direct-streamlocal", path, rules_module.may_connect_unix(self._context.rules))
        connecting = self._context.sockets.connect_unix(self._context.user, os.fsencode(path))
        return await self._connect("direct-streamlocal", path, connecting)

    async def _connect(self, kind: str, target: str, connecting: Awaitable[socket.socket]) -> Forward:
        try:
            sock = await connecting
        except SocketFailed as error:
            self._deny(kind, target, str(error))
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(error)) from error
        if self._context.is_closed():  # then the channel that this was for will not take it
            sock.close()
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the connection is closed")
        sock.setblocking(False)
        return self._join(kind, target, sock)

    # -- from here towards the client ---------------------------------------------------------------------------

    async def listen_tcp(self, conn: asyncssh.SSHServerConnection, host: str, port: int) -> int | None:
        """`tcpip-forward`: the port, None if there is none."""
        reason = rules_module.may_listen(self._context.rules, host, port)
        if reason is None and len(self._listeners) >= MAX_LISTENERS:
            reason = f"{MAX_LISTENERS} listeners are open on this connection already"
        if reason is None:
            addresses = rules_module.listen_addresses(host, self._context.rules.gateway_ports)
            try:
                listening = await self._context.sockets.listen_tcp(self._context.user, addresses, port)
            except SocketFailed as error:
                reason = str(error)
        if reason is not None:
            self._deny("tcpip-forward", f"{host}:{port}", reason)
            return None
        self._listeners[host, listening.port] = listening

        def open_channel(peer: Peer, forward: Callable[[], Forward]) -> Awaitable[object]:
            return conn.create_connection(forward, host, listening.port, *peer)

        self._accept_from(listening, "forwarded-tcpip", f"{host}:{listening.port}", open_channel)
        return listening.port

    async def listen_unix(self, conn: asyncssh.SSHServerConnection, path: str) -> bool:
        """`streamlocal-forward@openssh.com`: whether there is a listener now."""
        reason = rules_module.may_listen_unix(self._context.rules)
        if reason is None and len(self._listeners) >= MAX_LISTENERS:
            reason = f"{MAX_LISTENERS} listeners are open on this connection already"
        if reason is None:
            try:
                listening = await self._context.sockets.listen_unix(
                    self._context.user,
                    os.fsencode(path),
                    self._context.rules.socket_mask,
                    unlink=self._context.rules.socket_unlink,
                )
            except SocketFailed as error:
                reason = str(error)
        if reason is not None:
            self._deny("streamlocal-forward", path, reason)
            return False
        self._listeners[path] = listening

        def open_channel(_peer: Peer, forward: Callable[[], Forward]) -> Awaitable[object]:
            return conn.create_unix_connection(forward, path)  # type: ignore[arg-type]  # the same methods

        self._accept_from(listening, "forwarded-streamlocal", path, open_channel)
        return True

    def cancel(self, where: tuple[str, int] | str) -> bool:
        """`cancel-tcpip-forward` and its like for unix sockets: whether there was such a listener."""
        listening = self._listeners.pop(where, None)
        if listening is None:
            return False
        self._context.sockets.forget(self._context.user, listening)
        return True

    async def listen_agent(self, conn: asyncssh.SSHServerConnection) -> bool:
        """`auth-agent-req@openssh.com`: whether the client's agent can be reached from here now."""
        if self._context.rules.scope == "none" or not self._context.rules.agent:
            self._deny("auth-agent-req", "", "agent forwarding is not permitted")
            return False
        if self._agent is not None:
            return True
        try:
            self._agent = await self._context.sockets.listen_agent(self._context.user)
        except SocketFailed as error:
            self._deny("auth-agent-req", "", str(error))
            return False

        def open_channel(_peer: Peer, forward: Callable[[], Forward]) -> Awaitable[object]:
            return conn.create_agent_channel().open(forward)  # type: ignore[arg-type]  # the same methods

        self._accept_from(self._agent, "auth-agent", os.fsdecode(self._agent.path), open_channel)
        return True

    async def listen_x11(self, conn: Any, screen: int, protocol: str, cookie: str) -> X11Display | None:
        """`x11-req` (RFC 4254 section 6.3.1): the display that leads to the client's, None if there is none."""
        reason = None
        if self._context.rules.scope == "none" or not self._context.rules.x11:
            reason = "X11 forwarding is not permitted"
        elif XAUTH is None:
            reason = "there is no xauth on this machine"
        elif len(self._listeners) >= MAX_LISTENERS:
            reason = f"{MAX_LISTENERS} listeners are open on this connection already"
        elif (display := rules_module.x11_display(0, screen, protocol, cookie)) is None:
            reason = "the cookie is not one"
        else:
            for number in range(FIRST_DISPLAY, FIRST_DISPLAY + MAX_DISPLAYS):
                port = X11_PORT + number
                with suppress(SocketFailed):  # taken by another session
                    listening = await self._context.sockets.listen_tcp(self._context.user, rules_module.LOOPBACK, port)
                    self._listeners["x11", port] = listening

                    def open_channel(peer: Peer, forward: Callable[[], Forward]) -> Awaitable[object]:
                        return conn.create_x11_channel().open(forward, *peer)  # type: ignore[no-any-return]

                    self._accept_from(listening, "x11", f"localhost:{number}", open_channel)
                    return msgspec.structs.replace(display, number=number)
            reason = "no display number is free"
        self._deny("x11-req", "", reason)
        return None

    def _accept_from(
        self,
        listening: Listening,
        kind: str,
        target: str,
        open_channel: Callable[[Peer, Callable[[], Forward]], Awaitable[object]],
    ) -> None:
        context = self._context
        context.publish(ForwardListening(conn=context.conn, user=context.user, kind=kind, target=target))
        for sock in listening.sockets:
            sock.setblocking(False)
            self._loop.add_reader(sock, self._accept, sock, kind, target, open_channel)

    def _accept(
        self,
        listening: socket.socket,
        kind: str,
        target: str,
        open_channel: Callable[[Peer, Callable[[], Forward]], Awaitable[object]],
    ) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, address = listening.accept()
            except OSError:
                return
            if self._forwards >= MAX_FORWARDS:
                sock.close()
                continue
            peer = address[:2] if isinstance(address, tuple) else ("", 0)
            self._context.spawn_task(self._offer(sock, kind, target, partial(open_channel, peer)))

    async def _offer(
        self,
        sock: socket.socket,
        kind: str,
        target: str,
        open_channel: Callable[[Callable[[], Forward]], Awaitable[object]],
    ) -> None:
        """Open a channel towards the client for an accepted connection, which is closed if the client refuses."""
        forward: Forward | None = None

        def join() -> Forward:
            nonlocal forward
            forward = self._join(kind, target, sock)
            return forward

        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await open_channel(join)
        except (asyncssh.ChannelOpenError, TimeoutError) as error:
            self._deny(kind, target, f"the client refused: {error}")
        finally:
            if forward is None:
                sock.close()

    # -- both ---------------------------------------------------------------------------------------------------

    def _join(self, kind: str, target: str, sock: socket.socket) -> Forward:
        context = self._context
        started = context.now()
        self._forwards += 1
        context.publish(ForwardOpened(conn=context.conn, user=context.user, kind=kind, target=target))

        def closed() -> None:
            self._forwards -= 1
            context.publish(
                ForwardClosed(
                    conn=context.conn,
                    user=context.user,
                    kind=kind,
                    target=target,
                    bytes_in=forward.bytes_in,
                    bytes_out=forward.bytes_out,
                    seconds=round(context.now() - started, 3),
                )
            )

        forward = Forward(self._loop, sock, context, closed)
        return forward

    def _check(self, kind: str, target: str, reason: str | None) -> None:
        if reason is None and self._forwards >= MAX_FORWARDS:
            reason = f"{MAX_FORWARDS} connections are forwarded already"
        if reason is not None:
            self._deny(kind, target, reason)
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)

    def _deny(self, kind: str, target: str, reason: str) -> None:
        context = self._context
        request = f"{kind} {target}" if target else kind
        context.publish(RequestDenied(conn=context.conn, user=context.user, request=request, reason=reason))
