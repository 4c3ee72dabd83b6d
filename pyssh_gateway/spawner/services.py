"""Services, programs that run as long as the server does: started, their output logged, restarted, stopped in order.

Part of the spawner's one loop: nothing here waits. The supervisor reports what has happened (a child was reaped, a pipe
can be read, time has passed), asks when to call again, and gets the events for the log. Services and sessions are
independent of each other.
"""

import os
import pwd
import signal
from collections.abc import Callable, Iterable
from typing import NoReturn

from pyssh_gateway.config.types import Service
from pyssh_gateway.core.launch import ROOT_PATH, USER_PATH
from pyssh_gateway.core.services.restarts import next_delay
from pyssh_gateway.core.services.service_output import ServiceOutput as Lines
from pyssh_gateway.events import ServiceEnded, ServiceOutput, ServiceStarted
from pyssh_gateway.ipc.spawner import ServiceEvent
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from pyssh_gateway.spawner.processes import subreaper
from pyssh_gateway.system.signals import unix_name

READ_BYTES = 64 * 1024
"""One read of a service's output: a pipe's default size."""

KILLED_SECONDS = 1.0
"""How long a service may take to end after SIGKILL. One that takes longer hangs in the kernel, and is given up."""

MARK = b"PYSSH_SERVICE"
"""The environment variable that marks a service's processes, also those that outlive their parent (containerd-shim)."""

SHELL = "/bin/sh"
_CANNOT_EXEC = 127

Tell = Callable[[ServiceEvent], None]


class _Run:
    """One service, and its present run. `group` is its process group while any process of it may be left, else 0."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.pid = 0
        self.group = 0
        self.pipe = -1
        self.lines = Lines()
        self.since = 0.0
        self.starts = 0
        self.pause: float | None = None
        self.due: float | None = None
        # -- at the stop
        self.asked = False
        self.kill_at: float | None = None
        self.killed = False

    def signal(self, number: int) -> bool:
        """Send `number` to every process of the service; returns whether there was one."""
        if self.group:
            try:
                os.killpg(self.group, number)
                return True
            except ProcessLookupError:
                if self.pid:  # just forked: it leads no group yet
                    os.kill(self.pid, number)
                    return True
                self.group = 0  # from here on the number may be reused by another process
            except PermissionError:  # we are not root, and the remaining processes have another uid
                return True
        return False


class Services:
    """All services of the configuration, in its order. Times are `time.monotonic()`'s."""

    def __init__(self, wanted: Iterable[Service], tell: Tell, inherited: Inherited) -> None:
        self._runs = [_Run(service) for service in wanted]
        self._tell = tell
        self._inherited = inherited
        self._stopping = False

    def __bool__(self) -> bool:
        return bool(self._runs)

    # -- what the loop reads --------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether any process of any service may be left."""
        return any(run.group for run in self._runs)

    @property
    def stopping(self) -> bool:
        """Whether a stop has begun."""
        return self._stopping

    @property
    def pipes(self) -> list[int]:
        """The descriptors to poll for reading, then to pass to `read`."""
        return [run.pipe for run in self._runs if run.pipe >= 0 and not run.lines.full]

    def processes(self, parent: int) -> set[int]:
        """The services' processes that are children of `parent`, the spawner: those started, and orphans of theirs."""
        ours = {run.pid for run in self._runs if run.pid}
        return ours | subreaper.marked_children(MARK, parent) if self._runs else ours

    @property
    def stop_seconds(self) -> float:
        """How long a stop may take at most."""
        return sum(run.service.stop_timeout + KILLED_SECONDS for run in self._runs if run.group)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        times = [run.lines.due for run in self._runs if run.pipe >= 0]
        times += [run.kill_at if self._stopping and run.group else run.due for run in self._runs]
        return min((at for at in times if at is not None), default=None)

    # -- what the loop calls --------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Start every service; from here on they are kept running."""
        for run in self._runs:
            run.due = now
        self.tick(now)

    def keep_running(self, now: float) -> None:
        """The services are needed after all: start those that have been stopped, if a stop has begun."""
        if self._stopping:
            self._stopping = False
            for run in self._runs:
                run.asked, run.killed, run.kill_at = False, False, None
                run.due = None if run.pid else now
            self.tick(now)

    def stop(self, now: float) -> None:
        """Begin to stop them in reverse order, one at a time. The stop is complete when `running` is false."""
        self._stopping = True
        for run in self._runs:
            run.due = None
        self.tick(now)

    def kill(self) -> None:
        """Kill them now, without waiting for their end."""
        self._stopping = True
        for run in self._runs:
            run.due = None
            run.signal(signal.SIGKILL)
            run.group = 0

    def read(self, pipe: int, now: float) -> None:
        """Read a service's output from `pipe`, a descriptor of `pipes` that can be read."""
        for run in self._runs:
            if run.pipe == pipe:
                self._take(run, now)

    def reaped(self, pid: int, status: int, now: float) -> None:
        """The child `pid`, a service or not, has ended with `status` (of waitpid(2))."""
        for run in self._runs:
            if run.pid == pid:
                self._ended(run, status, now)
            elif not run.pid:
                run.signal(0)  # notice the end of its last process: then the group's number can be reused

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        for run in self._runs:
            if run.pipe >= 0 and run.lines.due is not None and now >= run.lines.due:
                self._say(run, run.lines.tick(now))
            if run.due is not None and now >= run.due:
                self._start(run, now)
        if self._stopping:
            self._stop_next(now)

    # -- starting -------------------------------------------------------------------------------------------------

    def _start(self, run: _Run, now: float) -> None:
        run.due = None
        run.signal(signal.SIGKILL)  # leftovers of the run before would be in its way
        run.group = 0
        self._close(run)
        service = run.service
        try:
            entry = pwd.getpwnam(service.user)
        except KeyError:
            self._failed(run, now, f"there is no account {service.user} on this machine")
            return
        if os.geteuid() not in {0, entry.pw_uid}:
            cause = f"needs root: it runs as {service.user}, and the server does not run as root"
            self._tell(ServiceEnded(service=service.name, pid=0, cause=cause, again=None))
            return
        try:
            run.pid, run.pipe = _fork_service(service, entry, self._inherited)
        except OSError as error:
            self._failed(run, now, f"can't start a process: {error.strerror}")
            return
        run.group, run.since, run.lines = run.pid, now, Lines()
        self._tell(ServiceStarted(service=service.name, pid=run.pid, restarts=run.starts))
        run.starts += 1

    def _failed(self, run: _Run, now: float, cause: str) -> None:
        run.pause = next_delay(run.pause, 0.0)
        run.due = now + run.pause
        self._tell(ServiceEnded(service=run.service.name, pid=0, cause=cause, again=run.pause))

    # -- ending ---------------------------------------------------------------------------------------------------

    def _ended(self, run: _Run, status: int, now: float) -> None:
        """The first process has ended. Keep the pipe open: other processes may write, and would die without it."""
        self._drain(run, now)
        pid, run.pid = run.pid, 0
        if not self._stopping:
            run.pause = next_delay(run.pause, now - run.since)
            run.due = now + run.pause
            run.signal(signal.SIGTERM)
        again = None if self._stopping else run.pause
        self._tell(ServiceEnded(service=run.service.name, pid=pid, cause=_cause(status), again=again))

    def _stop_next(self, now: float) -> None:
        """Go on with the stop: ask the last service that runs, wait for all its processes, kill those that stay."""
        for run in reversed(self._runs):
            if not run.signal(signal.SIGTERM if not run.asked else 0):
                self._drain(run, now)
                self._close(run)
                continue
            if not run.asked:
                run.asked = True
                run.kill_at = now + run.service.stop_timeout
            elif run.kill_at is not None and now >= run.kill_at:
                if run.killed:
                    run.group = 0
                    continue
                run.killed = True
                run.signal(signal.SIGKILL)
                run.kill_at = now + KILLED_SECONDS
            return

    def _drain(self, run: _Run, now: float) -> None:
        """Read all output that is available."""
        while run.pipe >= 0 and not run.lines.full and self._take(run, now):
            pass

    def _take(self, run: _Run, now: float) -> bool:
        """Read the available output once, and close the pipe at its end; returns whether there may be more."""
        data = _read(run.pipe)
        if data is None:
            return False
        self._say(run, run.lines.feed(data, now))
        if not data:
            self._close(run)
        return bool(data)

    def _close(self, run: _Run) -> None:
        if run.pipe >= 0:
            self._say(run, run.lines.end())
            os.close(run.pipe)
            run.pipe = -1

    def _say(self, run: _Run, lines: list[str]) -> None:
        for line in lines:
            self._tell(ServiceOutput(service=run.service.name, line=line))


def _fork_service(service: Service, entry: pwd.struct_passwd, inherited: Inherited) -> tuple[int, int]:
    """Start `service` as the account; returns its pid and the reading end of its output's pipe. Raises OSError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(reader, False)
        if os.geteuid() == 0:  # `echo >/dev/stderr` opens it again, which needs its owner
            os.fchown(writer, entry.pw_uid, entry.pw_gid)
        # Like a session's child, but without the account rules: they apply to logins, and a service's account may have
        # no shell or have expired.
        setup = Setup(
            descriptors=(NULL, writer, writer),
            inherited=inherited,
            account=entry,
            failed=_CANNOT_EXEC,
            complain=child.on_standard_error("pyssh-gateway: can't start the service: "),
        )
        pid = child.start(setup, lambda: _run(service, entry))
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return pid, reader


def _run(service: Service, entry: pwd.struct_passwd) -> NoReturn:
    """In the child: become the service."""
    os.execve(SHELL, [SHELL, "-c", service.command], _environment(service.name, entry))


def _environment(name: str, entry: pwd.struct_passwd) -> dict[bytes, bytes]:
    """The environment of a login, and nothing of the server's environment, which may hold tokens."""
    user = os.fsencode(entry.pw_name)
    return {
        b"HOME": os.fsencode(entry.pw_dir) or b"/",
        b"LOGNAME": user,
        MARK: os.fsencode(name),
        b"PATH": ROOT_PATH if entry.pw_uid == 0 else USER_PATH,
        b"SHELL": SHELL.encode(),
        b"USER": user,
    }


def _read(pipe: int) -> bytes | None:
    """The output that can be read now; empty at its end, None if there is none at present."""
    try:
        return os.read(pipe, READ_BYTES)
    except BlockingIOError:
        return None


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else unix_name(-code)
