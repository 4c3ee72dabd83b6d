"""A server to which every client is one that has come back by itself.

As a program (`python -m`), it is a `Server.wrapper`: the rest of the command line is the server's own, and is run with
each connection handed over as the monitor hands over that of such a client.
"""

import runpy
import sys
from functools import partial

from pyssh_gateway.ipc.postauth import TakeConnection

TEXT = "asleep for want of use; connect again to wake it"

WRAPPER = [sys.executable, "-m", __name__]


def main(command: list[str]) -> None:
    """Run `PYTHON -m MODULE ARGUMENTS...` here instead."""
    from pyssh_gateway.monitor.arrivals import handing_over  # only in the server's process: tests may not need it

    setattr(handing_over, "TakeConnection", partial(TakeConnection, asleep=TEXT))  # noqa: B010 - mypy would refuse it
    _, _, module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
