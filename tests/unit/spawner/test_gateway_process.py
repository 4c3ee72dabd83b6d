"""spawner.gateway_process: what reaches a gateway before it has handlers of its own."""

import os
import signal

from pyssh_gateway.spawner import gateway_process
from pyssh_gateway.spawner.processes import process


def test_a_hangup_while_it_is_forked_ends_no_gateway() -> None:
    """A SIGHUP to all of the server's processes reloads, and does not crash a gateway that has just been forked."""
    pid = process.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGHUP)  # kept until the child lets signals in
        gateway_process.be(lambda: 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
