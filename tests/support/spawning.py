"""Processes of the spawner's in a test: waiting for what the spawner itself never waits for."""

import os
import select

from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.processes.forked_ahead import ForkedAhead
from pyssh_gateway.spawner.processes.process import Child, Starting
from pyssh_gateway.spawner.processes.session_child import SessionChildren
from pyssh_gateway.startup.serve import user_servers
from tests.support import processes
from tests.support.waiting import PATIENCE, until

OPEN_FILES = (512, 1024)
INHERITED = Inherited(OPEN_FILES)
SERVERS = user_servers()


def session_children() -> SessionChildren:
    """What starts them, with nothing forked ahead."""
    return SessionChildren(INHERITED, SERVERS)


def have_one_ahead(ahead: ForkedAhead) -> int:
    """Fork one that nobody needs yet; its pid, once it waits to be told."""
    ahead.expect(0.0)
    ahead.tick(0.0)
    (pid,) = ahead.pids
    # Nothing that it does before makes it sleep.
    until(lambda: getattr(processes.find(pid), "state", "") == "S", what="a process that waits to be told")
    return pid


def ready(starting: Starting) -> Child:
    """The process when it is what it is to be, or has died on the way."""
    poller = select.poll()
    poller.register(starting.ready, select.POLLIN)
    try:
        assert poller.poll(PATIENCE * 1000), f"{starting.child} is not ready within {PATIENCE} s"
    finally:
        os.close(starting.ready)
    return starting.child


def ended(pid: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), what="end of the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
