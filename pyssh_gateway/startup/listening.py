"""The sockets for clients: bound by the server, or passed by the process that started it.

A client may be waiting for this very start, so nothing heavy is imported here.
"""

import errno
import os
import socket
import time
from collections.abc import MutableMapping

from pyssh_gateway.config.source import Endpoint, endpoints_of, shown_endpoint
from pyssh_gateway.startup import socket_activation

TYPE_CHECKING = False  # as in `serve`: nothing heavy before the port is bound
if TYPE_CHECKING:
    from pyssh_gateway.config.types import Config

BACKLOG = 1024
"""Connections that the kernel holds until the monitor accepts them (its own limit, net.core.somaxconn, is 4096)."""

PORT_SECONDS = 1.0
PORT_PAUSE_SECONDS = 0.05
"""How long to try for a port that is in use, and how often. A monitor without its spawner closes its port within
milliseconds. Somebody who starts a second server by mistake should not wait longer for the error."""


class CannotStart(Exception):
    """Why the server can't start; `problems` has one line for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def open_sockets(endpoints: tuple[Endpoint, ...] | None, environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that were passed to us, or else one at each of `endpoints`; none if those are not known.

    Raises CannotStart.
    """
    return inherited(environ) or listen_at_each(endpoints or ())


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that were passed to us (by systemd), which has chosen their addresses."""
    try:
        sockets = list(socket_activation.take(environ, os.getpid()))
    except socket_activation.ActivationError as error:
        raise CannotStart(str(error)) from None
    for sock in sockets:
        say(f"accepts connections at {shown_name(sock)}, on the socket that it was started with")
    return list(sockets)


def listen_at_each(endpoints: tuple[Endpoint, ...]) -> list[socket.socket]:
    """A listening socket at each of `endpoints`. Raises CannotStart, with a line for each that can't be bound."""
    sockets: list[socket.socket] = []
    problems: list[str] = []
    for endpoint in endpoints:
        try:
            sockets.append(listen(endpoint, ipv6_only=_has_ipv4(endpoint[1], endpoints)))
        except CannotStart as error:
            problems += error.problems
    if problems:
        for sock in sockets:
            sock.close()
        raise CannotStart(*problems)
    return sockets


def listen(endpoint: Endpoint, *, ipv6_only: bool = False) -> socket.socket:
    """A listening socket; from here on clients can connect. `ipv6_only`: `::` does not include IPv4.

    If another server listens there, try again for a moment: the monitor of a server that was killed closes its port as
    soon as it notices.
    """
    until = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return listen_once(endpoint, ipv6_only=ipv6_only)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise CannotStart(f"can't listen on {shown_endpoint(*endpoint)}: {error.strerror}") from None
        time.sleep(PORT_PAUSE_SECONDS)


def listen_once(endpoint: Endpoint, *, ipv6_only: bool = False) -> socket.socket:
    """As `listen`, but tried once. Raises `OSError`."""
    sock = _bound(endpoint, ipv6_only=ipv6_only)
    try:
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def endpoints_in(config: "Config") -> tuple[Endpoint, ...]:
    """The endpoints where a server with this configuration listens, unless it is given sockets."""
    address = config.listen.address
    return endpoints_of(address if isinstance(address, str) else list(address), config.listen.port) or ()


def unavailable(endpoints: tuple[Endpoint, ...]) -> dict[Endpoint, OSError]:
    """The `endpoints` on which a server could not listen now, and why. The test never accepts a connection."""
    problems = {}
    for endpoint in endpoints:
        try:
            _bound(endpoint, ipv6_only=_has_ipv4(endpoint[1], endpoints)).close()
        except OSError as error:
            problems[endpoint] = error
    return problems


def _bound(endpoint: Endpoint, *, ipv6_only: bool) -> socket.socket:
    """A socket that is bound, and does not listen yet. Raises `OSError`, also if another socket listens there."""
    family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ipv6_only and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(endpoint)
    except OSError:
        sock.close()
        raise
    return sock


def _has_ipv4(port: int, endpoints: tuple[Endpoint, ...]) -> bool:
    """Whether an IPv4 address is listed with that port: it conflicts with an IPv6 socket that includes IPv4."""
    return any(":" not in other and number == port for other, number in endpoints)


def shown_name(sock: socket.socket) -> str:
    """The address and port where `sock` listens, as text."""
    return shown_endpoint(*sock.getsockname()[:2])


def say(text: str) -> None:
    """Print a line for the person who started the server; errors are ignored, so that they don't prevent the start."""
    try:
        os.write(2, f"pyssh-gateway: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        return
