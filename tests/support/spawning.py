"""Processes of the spawner's in a test: waiting for what the spawner itself never waits for."""

import os
import select
import time

from pyssh_gateway.spawner.processes.process import Child, Inherited, Starting
from pyssh_gateway.spawner.processes.signalling import Signals
from tests.support.waiting import PATIENCE, until

OPEN_FILES = (512, 1024)
INHERITED = Inherited(OPEN_FILES)


def ready(starting: Starting) -> Child:
    """The process when it is what it is to be, or has died on the way."""
    poller = select.poll()
    poller.register(starting.ready, select.POLLIN)
    try:
        assert poller.poll(PATIENCE * 1000), f"{starting.child} is not ready within {PATIENCE} s"
    finally:
        os.close(starting.ready)
    return starting.child


def send_signal(child: Child, number: int) -> None:
    """Send `number` to the child's group as its account, and wait until that has been done."""
    signals = Signals()
    signals.send(child.pid, child.uid, number, time.monotonic())

    def done() -> bool:
        for helper in signals.helpers:
            if os.waitpid(helper, os.WNOHANG)[0]:
                signals.reaped(helper, time.monotonic())
        return not signals.active

    until(done, what="end of the helper")
