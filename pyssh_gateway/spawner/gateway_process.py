"""Being the gateway: what a fork of the spawner does around the gateway's own code."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from pyssh_gateway.spawner.processes import process

CRASHED = 1
"""The exit code of a gateway with a bug, and the spawner's when it could not be kept running."""


def be(run: Callable[[], int]) -> NoReturn:
    """Do `run` and end with its exit code. Out of the terminal's process group: Ctrl-C reaches the spawner alone."""
    code = CRASHED
    try:
        # SIGPIPE as Python has it: a peer that is gone is an error to handle. SIGHUP until it can be passed on:
        # somebody may send it to all processes of this program.
        process.default_signals({signal.SIGPIPE, signal.SIGHUP})
        os.setsid()
        code = run()
    except BaseException:  # noqa: BLE001 - whatever it was, a gateway must not go on as a second spawner
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
