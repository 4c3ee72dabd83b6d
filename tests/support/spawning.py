"""Processes of the spawner in a test, which waits where the spawner itself never waits."""

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
    """The object that starts sessions' processes, with none forked ahead."""
    return SessionChildren(INHERITED, SERVERS)


def have_one_ahead(ahead: ForkedAhead) -> int:
    """Fork one process ahead of need; its pid, once it waits for its assignment."""
    ahead.expect(0.0)
    ahead.tick(0.0)
    (pid,) = ahead.pids
    # It does not sleep before it waits for that.
    until(lambda: getattr(processes.find(pid), "state", "") == "S", what="a process that waits to be told")
    return pid


def ready(starting: Starting) -> Child:
    """The process once it has become what it should be, or has died on the way."""
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
