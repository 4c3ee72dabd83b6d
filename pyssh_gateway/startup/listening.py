"""The sockets at which clients arrive: bound by ourselves, or passed by whoever started us.

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
"""How long to try for a port that is taken, and how often: a monitor without its spawner lets go within milliseconds. A
person who starts a second server by mistake does not want to wait for longer to be told."""


class CannotStart(Exception):
    """Why the server can't start; `problems` has one line for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def open_sockets(endpoints: tuple[Endpoint, ...] | None, environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that we were started with, or else one at each of `endpoints`; none where those are not known.

    Raises CannotStart.
    """
    return inherited(environ) or listen_at_each(endpoints or ())


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that we were started with (systemd); where they listen is not for us to say."""
    try:
        sockets = list(socket_activation.take(environ, os.getpid()))
    except socket_activation.ActivationError as error:
        raise CannotStart(str(error)) from None
    for sock in sockets:
        say(f"accepts connections at {shown_name(sock)}, on the socket that it was started with")
    return list(sockets)


def listen_at_each(endpoints: tuple[Endpoint, ...]) -> list[socket.socket]:
    """A listening socket at each of `endpoints`. Raises CannotStart, with a line for each that can't be had."""
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
    """A listening socket; from here on a client's connection succeeds. `ipv6_only`: `::` does not mean IPv4, too.

    Where another server listens it is tried again for a moment: the monitor of a server that was killed lets go of its
    port as soon as it notices.
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
    """Where the server of a configuration listens, if it is not given sockets."""
    address = config.listen.address
    return endpoints_of(address if isinstance(address, str) else list(address), config.listen.port) or ()


def unavailable(endpoints: tuple[Endpoint, ...]) -> dict[Endpoint, OSError]:
    """Which of `endpoints` a server could not listen on now, and why. Nobody can connect there meanwhile."""
    problems = {}
    for endpoint in endpoints:
        try:
            _bound(endpoint, ipv6_only=_has_ipv4(endpoint[1], endpoints)).close()
        except OSError as error:
            problems[endpoint] = error
    return problems


def _bound(endpoint: Endpoint, *, ipv6_only: bool) -> socket.socket:
    """A socket that is bound and does not listen yet: where another one listens, that fails. Raises `OSError`."""
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
    """Whether an IPv4 address is listed with that port: a socket for both would be in its way."""
    return any(":" not in other and number == port for other, number in endpoints)


def shown_name(sock: socket.socket) -> str:
    """Where `sock` listens."""
    return shown_endpoint(*sock.getsockname()[:2])


def say(text: str) -> None:
    """A line for the person who started us; that nobody can hear it is no reason not to start."""
    try:
        os.write(2, f"pyssh-gateway: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        return
