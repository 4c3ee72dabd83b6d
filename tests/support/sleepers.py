"""A server to which every client is one that has come back by itself.

As a program (`python -m`), it is a `Server.wrapper`: the rest of the command line is the server's own, and is run with
each connection handed over as the monitor hands over that of such a client.
"""

import runpy
import sys
from typing import Any

from pyssh_gateway.ipc.postauth import TakeConnection

TEXT = "asleep for want of use; connect again to wake it"

WRAPPER = [sys.executable, "-m", __name__]


def main(command: list[str]) -> None:
    """Run `PYTHON -m MODULE ARGUMENTS...` here instead."""
    from pyssh_gateway.monitor.arrivals import handing_over  # only in the server's process: tests may not need it

    setattr(handing_over, "TakeConnection", _taken)  # noqa: B010 - mypy would refuse it
    run_here(command)


def _taken(**fields: Any) -> TakeConnection:  # noqa: ANN401 - the message's
    return TakeConnection(**(fields | {"asleep": TEXT}))


def run_here(command: list[str]) -> None:
    """Run `PYTHON -m MODULE ARGUMENTS...` in this process."""
    _, _, module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
