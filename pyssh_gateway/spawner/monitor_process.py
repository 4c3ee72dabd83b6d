"""The monitor's life as the spawner sees it: forked, started again when it crashes, asked to stop, killed.

This module does not know the monitor's requests, nor the other processes.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.crash import Crash
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.crashes import CRASH_PERIOD_SECONDS, Crashes
from pyssh_gateway.spawner.links.event_queue import News
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.links.outbox import STUCK_SECONDS
from pyssh_gateway.spawner.processes import server_process
from pyssh_gateway.spawner.processes.server_process import ServerProcesses
from pyssh_gateway.system.signals import HANDED_ON, unix_name

CRASHED = 1
"""The exit code of a monitor with a bug, and the spawner's when it could not be kept running."""

UNUSABLE = 2
"""The monitor's exit code for a wrong machine or configuration, which another start would not change."""

REGISTRY_BYTES = (1024 + 64) * 1024
"""Size of the registry: the table of clients that are connected, and how far the log has been written. Parts that are
not written to take no memory."""


def make_registry() -> int:
    """The memory file in which a monitor keeps the connected clients for the next monitor; only monitors get it."""
    registry = os.memfd_create("pyssh-gateway-registry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    server_process.seal(registry, REGISTRY_BYTES)
    return registry


class Monitor:
    """Runs one monitor after the other. Times are `time.monotonic()`'s.

    `on_start` is called when a monitor has been forked, before anything is read from it.
    """

    def __init__(
        self,
        processes: ServerProcesses,
        inherited: Inherited,
        news: News,
        say: Callable[[str], None],
        on_start: Callable[[], None],
    ) -> None:
        self._processes = processes
        self._inherited = inherited
        self._news = news
        self._say = say
        self._on_start = on_start
        self._registry = make_registry()
        self._generation = 0
        self._crashes = Crashes()
        self._start_at: float | None = None
        self._kill_at: float | None = None
        self.pid = 0
        self.link: Link[protocol.MonitorRequest] = Link.closed(protocol.decode_monitor_request)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        times = [self._start_at, *([self._kill_at, self.link.stuck_at] if self.pid else [])]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> int | None:
        """Do what is due at `now`; returns the exit code of the whole program if no monitor can be started."""
        if self.pid and self._kill_at is not None and now >= self._kill_at:
            self._say("the monitor did not stop in time; killing it")
            self._kill_at = None
            self.signal(signal.SIGKILL)
        if self.link.stuck_at is not None and now >= self.link.stuck_at:
            self.link.drop()
            self.kill(f"it has not read a report for {STUCK_SECONDS:.0f} s")
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            return self._start(now)
        return None

    # -- its start --------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Start a monitor: the next `tick` forks it."""
        self._start_at = now

    def _start(self, now: float) -> int | None:
        """Fork the next monitor. If that fails, `tick` tries again until `Crashes` gives up."""
        child.flush()
        generation = self._generation + 1
        try:
            ours, theirs = protocol.socket_pair()
            try:
                self.pid = server_process.start_monitor(
                    self._processes,
                    theirs,
                    self._registry,
                    generation=generation,
                    crashes=self._crashes.latest,
                    inherited=self._inherited,
                )
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            self._start_at = self._crashes.not_started(now)
            then = "giving up" if self._start_at is None else "trying again"
            self._say(f"can't start the monitor: {error.strerror}; {then}")
            return CRASHED if self._start_at is None else None
        self._generation = generation
        self._crashes.started()
        self.link = Link(ours, protocol.decode_monitor_request, self._news)
        self._on_start()
        return None

    # -- its end ------------------------------------------------------------------------------------------------------

    def stop(self, number: int, now: float, within: float) -> bool:
        """Ask the monitor to stop within `within` seconds. False: there is none, as none could be started so far.

        `number` is the signal that asks the server to stop. The monitor is told which it was, for its log.
        """
        self._kill_at = now + within
        self.signal(HANDED_ON[signal.Signals(number)])
        waiting, self._start_at = self._start_at is not None, None
        return not waiting

    def allow_more(self, seconds: float) -> None:
        """Allow a stop that has begun to take `seconds` longer: the monitor has to wait for something."""
        if self._kill_at is not None:
            self._kill_at += seconds

    def kill(self, why: str) -> None:
        """Kill the monitor; the next one is started when it is reaped."""
        self._say(f"killing the monitor: {why}")
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send the monitor a signal, if there is a monitor."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, status: int, *, stopping: bool) -> int | None:
        """The monitor was reaped with `status` (of waitpid(2)). Returns the exit code if no other is to be started."""
        pid, self.pid = self.pid, 0
        self.link.close()
        code = os.waitstatus_to_exitcode(status)
        if code in {0, UNUSABLE} or stopping:
            return max(code, 0)
        now = time.monotonic()
        cause = f"exit code {code}" if code > 0 else unix_name(-code)
        self._say(f"the monitor (pid {pid}) ended with {cause}; sessions go on")
        if self._crashes.add(Crash(pid, cause, 0), now):
            self._say(f"that was crash {len(self._crashes.latest)} within {CRASH_PERIOD_SECONDS:.0f} s; giving up")
            return CRASHED
        self.start(now)
        return None
