"""A suspend of the machine: the settings for it, and what the server sees of it."""

import os
import signal
import time
from contextlib import suppress

from tests.support import processes
from tests.support.fly_api import FakeFlyApi
from tests.support.forwards import free_port
from tests.support.server import Server, Settings
from tests.support.waiting import until

SOON = "200ms"
"""The idle time of a server without logins."""

FROZEN_SECONDS = 1.5
"""How long the simulated suspend lasts: longer than the clocks' deviation on a busy machine."""


def freeze(server: Server) -> None:
    """Simulate a suspend as seen from inside: every process stands still, and time has passed when they go on."""
    os.kill(server.pid, signal.SIGSTOP)  # first, since this process starts others
    family = [process.pid for process in processes.descendants(server.pid)]
    for pid in family:
        with suppress(ProcessLookupError):  # it has just ended on its own
            os.kill(pid, signal.SIGSTOP)
    thawed = time.monotonic() + FROZEN_SECONDS
    until(lambda: time.monotonic() >= thawed, what="end of the suspend")
    for pid in (*reversed(family), server.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def suspending(api: FakeFlyApi, timeout: str = SOON) -> Settings:
    """The settings of a server that suspends its machine.

    The port is fixed: a port that the kernel chose would change when the listener is opened again.
    """
    stop = {"action": "suspend", "fly_api": api.path}
    return {"listen": {"port": free_port()}, "stop": stop, "idle": {"timeout": timeout}}
