"""The listening sockets beside the one for clients: for people on the machine who ask, and for Prometheus.

No client needs them, so one that can't be had is said and is no reason not to start.
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
"""What it means not to have one of the sockets beside the one for clients."""


def _bind_control(path: str, say: Say) -> socket.socket | None:
    """The socket at which people on the machine ask; without it everything else works, so that is no reason to stop.

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
    """The socket at which figures are served. As with `_bind_control`, nothing else needs it."""
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
    """All of them, made now or, where another server still has one, as soon as it can be had.

    `listen` makes a listening TCP socket, or raises `OSError`; `say` is for the person who started us.
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
