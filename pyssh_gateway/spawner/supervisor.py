"""The spawner's life: it keeps a monitor running, serves its requests and those of postauth processes, and reaps.

Single-threaded and without an event loop, because it forks. It sleeps in one poll(2) on the sockets to the monitor and
postauth processes, the signal pipe, the processes that are starting and the services' output, and makes no system call
while nothing happens. It never waits anywhere else, least of all for a user's process or the monitor. It ends when the
monitor has ended for good.

As the first process of a machine or a container, it does all that an init must: it reaps orphans, and it has handlers
for stop signals, which the kernel does not deliver to a first process without handlers.
"""

import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from pyssh_gateway.config.types import Service
from pyssh_gateway.events import BootStep
from pyssh_gateway.ipc import log_files
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.boot.progress import Booting
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.spawner.late_sockets import LateSockets
from pyssh_gateway.spawner.links.event_queue import News
from pyssh_gateway.spawner.links.guard import guarded
from pyssh_gateway.spawner.log_files import LogFiles, LogWork
from pyssh_gateway.spawner.monitor_process import Monitor
from pyssh_gateway.spawner.processes import subreaper
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.motd import Motd
from pyssh_gateway.spawner.processes.server_process import ServerProcesses
from pyssh_gateway.spawner.processes.user_servers import UserServers
from pyssh_gateway.spawner.reload import Reloading
from pyssh_gateway.spawner.requests import Permissions, Requests
from pyssh_gateway.spawner.sampling.sampler import Sampler
from pyssh_gateway.spawner.servers import Servers, Watched
from pyssh_gateway.spawner.services import Services

STOP_MARGIN_SECONDS = 2.0
"""How much longer than its drain time the monitor may take to end before it is killed. After its end, the remaining
postauth processes have the same time."""

SAME_SIGNAL_SECONDS = 0.2
"""Stop signals that arrive within this time of the first count as the same one: a signal to a whole process group
arrives once directly and once more through make, which passes it on."""

SERVICES_AFTER_SECONDS = 1.0
"""Services start after the first session, or this long after the monitor. A login that waits for this very start has a
network to cross, and should not share the processors with them: a service may be as slow as dockerd."""

BOOT_SECONDS = 60.0
"""How long services wait for the boot steps at most: a file system that hangs must not prevent them."""

MAX_HELD = 1000
"""How many requests may wait for an account to be made: more than users make in that time."""

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Supervisor:
    """Runs monitors, one at a time, until one ends by itself, and serves their requests."""

    def __init__(
        self,
        processes: ServerProcesses,
        permissions: Permissions,
        drain: float,
        *,
        user_servers: UserServers,
        terminal: Terminal,
        reloading: Reloading,
        log_work: LogWork,
        services: tuple[Service, ...] = (),
        booting: Booting | None = None,
        late: LateSockets | None = None,
        oom_score: int | None = None,
    ) -> None:
        self._processes = processes
        self._permissions = permissions
        self._stop_within = drain + STOP_MARGIN_SECONDS
        self._stop_asked_at: float | None = None
        self._code: int | None = None
        self._signals, self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._late = late or LateSockets({}, {}, say)
        self._terminal, self._reloading = terminal, reloading
        reloading.on_outcome = self._reread
        # -- the server's processes
        inherited = Inherited(resource.getrlimit(resource.RLIMIT_NOFILE), oom_score)
        self._news = News()
        self._records = LoginRecorder(say)
        self._servers = Servers(
            processes,
            user_servers,
            inherited,
            report=self._send,
            records=self._records,
            say=say,
            on_spawn=self._session_started,
        )
        self._monitor = Monitor(processes, inherited, self._news, say, on_start=self._servers.introduce)
        sampler = Sampler(self._not_sessions, lambda: self._monitor.link)
        self._requests = Requests(
            permissions,
            inherited,
            report=self._send,
            records=self._records,
            servers=self._servers,
            sampler=sampler,
        )
        self._log_files = LogFiles(log_work, lambda: reloading.config, inherited)
        self._motd = Motd(inherited, say, enabled=reloading.config.session.update_motd)
        # -- boot and services
        self._booting = booting
        self._boot_until = 0.0
        self._held: list[protocol.MonitorRequest] = []
        self._services = Services(services, self._news.add, inherited)
        self._services_at: float | None = None
        self._stop_request: int | None = None

    def run(self) -> int:
        """Keep the monitor running; returns the exit code for the whole program."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # those that `serve` has kept for us
        subreaper.adopt()
        now = time.monotonic()
        self._boot_until = now + BOOT_SECONDS
        if self._services:
            self._services_at = now + SERVICES_AFTER_SECONDS
        self._motd.want(now)
        self._monitor.start(now)
        self._tick()
        self._processes.import_ssh()  # in parallel with the monitor, which loads keys now
        while self._code is None or self._services.running or self._servers.running:
            self._wait()
            self._handle_signals()
            self._tick()
        self._records.finish()
        return self._code

    def _wait(self) -> None:
        """Sleep until something arrives (a signal, a request, a service's output) or is due; handle what arrived."""
        poller = select.poll()
        acts = {}
        for descriptor, events, act in self._watched():
            poller.register(descriptor, events)
            acts[descriptor] = act
        for descriptor, happened in poller.poll(self._timeout()):
            acts[descriptor](happened)

    def _watched(self) -> Iterator[Watched]:
        """The descriptors to poll."""
        link, booting, children = self._monitor.link, self._booting, self._requests.children
        yield self._signals, select.POLLIN, _nothing
        if link.is_open and link.events:
            yield link.fileno(), link.events, self._hear_monitor
        for descriptor in children.pending:
            yield descriptor, select.POLLIN, partial(children.ready, descriptor)
        yield from self._servers.watched()
        if booting is not None:
            yield booting.fileno(), select.POLLIN, partial(self._hear_of_boot, booting)
        # While there is no room for services' lines, leave them in the pipe; when that is full, the service waits.
        for pipe in [] if self._news.full and self._code is None else self._services.pipes:
            yield pipe, select.POLLIN, partial(self._hear_service, pipe)

    def _timeout(self) -> float | None:
        """How long to sleep at most, in milliseconds."""
        next_at = self._next_at()
        return None if next_at is None else max(0.0, next_at - time.monotonic()) * 1000

    def _next_at(self) -> float | None:
        """When the next thing is due, if nothing happens before."""
        parts = (self._services, self._requests, self._servers, self._monitor, self._late, self._reloading, self._motd)
        times = [part.next_at() for part in (*parts, self._records)]
        if self._services_at is not None:
            times.append(self._services_at if self._booting is None else max(self._services_at, self._boot_until))
        return min((at for at in times if at is not None), default=None)

    def _tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        code = self._monitor.tick(now)
        if code is not None:
            self._end(code)
        for part in (self._requests, self._servers, self._records, self._late, self._reloading, self._motd):
            part.tick(now)
        if self._services_at is None:
            self._services.tick(now)
        elif now >= self._services_at and (self._booting is None or now >= self._boot_until):
            self._services_at = None
            self._services.start(now)
        if self._stop_request is not None and not self._services.running:
            self._monitor.link.send_more()  # the events of their ends go before the answer
            self._report(protocol.Done(self._stop_request))
            self._stop_request = None

    def _end(self, code: int) -> None:
        """There is no monitor any more, and there will be none: end the server's other processes, then the spawner."""
        self._code = code
        self._stop_services()
        self._reloading.close()
        self._log_files.close()
        self._motd.close()
        self._servers.leave(time.monotonic(), STOP_MARGIN_SECONDS)

    # -- boot and services ------------------------------------------------------------------------------------------

    def _hear_of_boot(self, booting: Booting, _happened: int) -> None:
        """Read one step that was done at boot, and serve the requests that have waited for it."""
        step = booting.read()
        if step is None:
            self._booting = None
        else:
            self._news.add(BootStep(step=step.step, outcome=step.outcome))
        held, self._held = self._held, []
        for request in held:
            self._answer(request)

    def _hear_service(self, pipe: int, _happened: int) -> None:
        self._services.read(pipe, time.monotonic())

    def _session_started(self, greets: bool) -> None:
        """A session has started: start the services now, and, if it showed the message of the day, refresh that."""
        if greets:
            self._motd.want(time.monotonic())
        if self._services_at is not None:
            self._services_at = time.monotonic()

    def _stop_services(self) -> None:
        """Stop the services, and start no others. The monitor waits for their end, and gets the time for it."""
        self._services_at = None
        if self._services.stopping:
            return
        self._services.stop(time.monotonic())
        self._monitor.allow_more(self._services.stop_seconds)

    def _reread(self) -> None:
        """The configuration has been read again: apply its permissions and settings, and tell the monitor."""
        self._permissions = self._reloading.permissions
        self._requests.permit(self._permissions)
        self._stop_within = self._reloading.config.stop.drain + STOP_MARGIN_SECONDS
        self._motd.enabled = self._reloading.config.session.update_motd
        self._report(protocol.Reread())

    # -- requests of the monitor --------------------------------------------------------------------------------------

    def _hear_monitor(self, happened: int) -> None:
        """Handle the events `happened` on the monitor's link."""
        link = self._monitor.link
        if happened & select.POLLOUT:
            link.send_more()
        if not happened & ~select.POLLOUT or not link.events & select.POLLIN:
            return
        try:
            request = link.take()
        except protocol.ProtocolError as error:
            self._monitor.kill(str(error))
            link.close()
            return
        if request is not None:
            self._answer(request)

    def _answer(self, request: protocol.MonitorRequest) -> None:
        """Serve a request of the monitor, now or when the account that it needs has been made."""
        guarded(request, self._do, self._send, say)

    def _do(self, request: protocol.MonitorRequest) -> None:
        if self._booting is not None and self._booting.delays(request, self._permissions.users):
            if len(self._held) < MAX_HELD:
                self._held.append(request)
            else:
                self._report(protocol.Refused(request.id, "the machine is starting, and too much waits for that"))
            return
        match request:
            case protocol.AwaitSocket():
                self._late.ask(request, self._send)
            case protocol.StopServices(id=number):
                self._stop_request = number
                self._stop_services()
            case protocol.Reload():
                self._reloading.ask(time.monotonic())
            case protocol.TakeConfig():
                self._reloading.answer(request, self._send)
            case log_files.OpenLog() | log_files.SealLog() | log_files.TidyLog():
                self._log_files.answer(request, self._send)
            case _:
                self._requests.answer(request)

    def _report(self, report: protocol.Report) -> None:
        self._send(report, [])

    def _send(self, report: protocol.Report, descriptors: list[int]) -> None:
        """Send to the present monitor."""
        self._monitor.link.report(report, descriptors)

    def _not_sessions(self, spawner: int) -> set[int]:
        """Our children that run for no session: the server's own processes, services, processes of a boot or a stop."""
        ours = {self._monitor.pid} | self._servers.pids | self._requests.children.pids | self._reloading.pids
        ours |= self._motd.pids | self._log_files.pids
        if self._booting is not None:
            ours.add(self._booting.pid)
        return ours | self._services.processes(spawner)

    # -- signals and ends ---------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        """Act on the signals that arrived."""
        try:
            arrived = os.read(self._signals, 4096)
        except BlockingIOError:
            return
        # Sorted, so that SIGINT comes before SIGTERM: if both have arrived, the Ctrl-C is what a person meant.
        for number in sorted(arrived):
            now = time.monotonic()
            if number == signal.SIGHUP and not self._terminal.is_gone():
                self._reloading.ask(now)
            elif number in STOP_SIGNALS:
                self._stop(number, now)
        self._reap()

    def _stop(self, number: int, now: float) -> None:
        """A stop signal has arrived: end the server. A second one kills everything at once."""
        self._reloading.close()
        if self._stop_asked_at is None:
            self._stop_asked_at = now
            seconds = self._services.stop_seconds if self._services.stopping else 0.0
            if not self._monitor.stop(number, now, self._stop_within + seconds):
                self._end(0)
        elif now - self._stop_asked_at > SAME_SIGNAL_SECONDS:
            self._monitor.signal(signal.SIGKILL)
            self._end(128 + number)
            self._services.kill()
            self._servers.kill_all(now)

    def _reap(self) -> None:
        """Reap every child that has ended. The monitor comes last, so that the next one is not told of the others."""
        monitor_status = None
        while (ended := _next_ended()) is not None:
            pid, status = ended
            if pid == self._monitor.pid:
                monitor_status = status
            elif self._motd.reaped(pid) or self._log_files.reaped(pid):
                pass
            elif not any(part.reaped(pid, status) for part in (self._servers, self._requests, self._reloading)):
                self._services.reaped(pid, status, time.monotonic())
        if monitor_status is not None:
            self._monitor_ended(monitor_status)

    def _monitor_ended(self, status: int) -> None:
        self._held.clear()
        self._late.forget()
        self._stop_request = None
        self._requests.forget()
        self._servers.monitor_gone()
        code = self._monitor.ended(status, stopping=self._stop_asked_at is not None)
        if self._code is not None:
            return
        if code is not None:
            self._end(code)
        elif self._services_at is None:
            self._services.keep_running(time.monotonic())  # the monitor that ended may have stopped them


def _next_ended() -> tuple[int, int] | None:
    """The next child that has ended and its status, as from waitpid(2); None: none at present."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _nothing(_happened: int) -> None:
    """For the signal pipe: `run` handles the signals after everything else."""


def say(text: str) -> None:
    """Write a message to standard error, a line at a time: the spawner has no log of its own."""
    with suppress(OSError):
        os.write(2, f"pyssh-gateway: {text}\n".encode(errors="backslashreplace"))
