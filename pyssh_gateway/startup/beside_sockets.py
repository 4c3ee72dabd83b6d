"""The listening sockets beside the one for clients: the control socket and the one for Prometheus.

No client needs them, so one that can't be bound is reported, and does not prevent the start.
"""

import errno
import socket
import time
from collections.abc import Callable

from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc import control_socket
from pyssh_gateway.spawner.late_sockets import LateSockets, Occupied

Say = Callable[[str], None]
Listen = Callable[[tuple[str, int]], socket.socket]

WITHOUT = {
    "control": "pyssh-gateway status and keys will not reach this server (set control to another path)",
    "metrics": "there will be no figures (set it to another place)",
}
"""The consequence of not having one of these sockets."""


def _bind_control(path: str, say: Say) -> socket.socket | None:
    """The control socket, for commands on this machine. All else works without it, so a failure is only reported.

    Raises `Occupied` if another server has it.
    """
    try:
        return control_socket.bind_control(path)
    except control_socket.AnotherListens as error:
        raise Occupied(str(error)) from None
    except control_socket.ControlSocketError as error:
        say(f"{error}; {WITHOUT['control']}")
        return None


def _bind_metrics(place: str, listen: Listen, say: Say) -> socket.socket | None:
    """The socket for metrics. As with `_bind_control`, a failure is only reported."""
    try:
        if place.startswith("/"):
            return control_socket.bind_control(place)
        address, _, port = place.rpartition(":")
        return listen((address.removeprefix("[").removesuffix("]"), int(port)))
    except control_socket.AnotherListens as error:
        raise Occupied(f"metrics.listen: {error}") from None
    except control_socket.ControlSocketError as error:
        say(f"metrics.listen: {error}; {WITHOUT['metrics']}")
    except OSError as error:
        problem = f"metrics.listen: can't listen on {place}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            raise Occupied(problem) from None
        say(f"{problem}; {WITHOUT['metrics']}")
    return None


def begin(config: Config, listen: Listen, say: Say) -> LateSockets:
    """All of these sockets, bound now or, if another server still has one, as soon as it is free.

    `listen` makes a listening TCP socket, or raises `OSError`; `say` tells the person who started the server.
    """
    places: dict[str, Callable[[], socket.socket | None]] = {}
    path = control_socket.server_path(config.control, config.keys_dir)
    if path is not None:
        places["control"] = lambda: _bind_control(path, say)
    if config.metrics.listen != "off":
        places["metrics"] = lambda: _bind_metrics(config.metrics.listen, listen, say)
    sockets = LateSockets(places, WITHOUT, say)
    sockets.begin(time.monotonic())
    return sockets
