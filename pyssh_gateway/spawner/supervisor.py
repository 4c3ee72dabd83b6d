"""The spawner's life: it keeps a gateway running, does what the gateway asks, reaps, and ends with it.

Single-threaded and without an event loop, because it forks. It sleeps in one poll(2) on the gateway's socket, the
signal pipe, the processes that are starting and what services write, and makes no system call while nothing happens.
It never waits anywhere else, least of all for what a user's process or the gateway does.

Where it is the first process of a machine or a container, it is all that an init has to be: it reaps what others leave
behind, and stop signals reach it although the kernel keeps them from a first process that has no handlers.
"""

import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from pyssh_gateway.config.types import Service
from pyssh_gateway.events import BootStep
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import gateway_process
from pyssh_gateway.spawner.boot.progress import Booting
from pyssh_gateway.spawner.crashes import CRASH_PERIOD_SECONDS, Crash, Crashes
from pyssh_gateway.spawner.event_queue import News
from pyssh_gateway.spawner.gateway_process import CRASHED
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.spawner.late_sockets import LateSockets
from pyssh_gateway.spawner.link import Link
from pyssh_gateway.spawner.outbox import STUCK_SECONDS
from pyssh_gateway.spawner.processes import oom, process, subreaper
from pyssh_gateway.spawner.processes.reaping import next_ended
from pyssh_gateway.spawner.reload import Reloading
from pyssh_gateway.spawner.requests import Permissions, Requests
from pyssh_gateway.spawner.sampling import Sampler
from pyssh_gateway.spawner.services import Services
from pyssh_gateway.system.signals import unix_name

STOP_MARGIN_SECONDS = 2.0
"""How much longer than its drain time the gateway may take to leave before it is killed."""

SAME_SIGNAL_SECONDS = 0.2
"""Stop signals that arrive within this time of the first are the same wish: what is sent to a whole process group comes
once directly and once more through make, which passes it on."""

SERVICES_AFTER_SECONDS = 1.0
"""Services start when the first session has, or so long after the gateway: a login that waits for this very start has a
network to cross and would share the processors with them. A service may be as slow as dockerd."""

BOOT_SECONDS = 60.0
"""Services wait for what is made at boot, and no longer than this: a file system that hangs does not keep them away."""

MAX_HELD = 1000
"""Requests that wait for an account to be made. More than people ask for in that time."""

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

UNUSABLE = 2
"""The gateway's exit code for what starting it again won't change: the machine or the configuration is wrong."""


RunGateway = Callable[[socket.socket, int, tuple[Crash, ...]], int]
"""The gateway's body: its end of the socket pair, its generation (from 1) and the crashes before it -> exit code."""


AnyRequest = TypeVar("AnyRequest", bound=protocol.Request)


class Supervisor:
    """Runs gateways, one at a time, until one ends on its own account."""

    def __init__(
        self,
        run_gateway: RunGateway,
        permissions: Permissions,
        drain: float,
        *,
        terminal: Terminal,
        reloading: Reloading,
        services: tuple[Service, ...] = (),
        booting: Booting | None = None,
        late: LateSockets | None = None,
        oom_score: int | None = None,
    ) -> None:
        self._run_gateway = run_gateway
        self._permissions = permissions
        self._stop_within = drain + STOP_MARGIN_SECONDS
        inherited = process.Inherited(resource.getrlimit(resource.RLIMIT_NOFILE), oom_score)
        self._oom_score = oom_score
        self._generation = 0
        self._crashes = Crashes()
        self._start_at: float | None = None
        self._stop_asked_at: float | None = None
        self._kill_at: float | None = None
        self._gateway = 0
        self._signals, self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        sampler = Sampler(self._not_sessions, lambda: self._link)
        self._requests = Requests(permissions, inherited, report=self._report, say=say, sampler=sampler)
        self._late = late or LateSockets({}, {}, say)
        self._terminal, self._reloading = terminal, reloading
        reloading.on_outcome = self._reread
        # -- boot and services
        self._news = News()
        self._link = Link.closed(self._news)
        self._booting = booting
        self._boot_until = 0.0
        self._held: list[protocol.Request] = []
        self._services = Services(services, self._news.add, inherited)
        self._services_at: float | None = None
        self._stop_request: int | None = None
        self._code: int | None = None

    def run(self) -> int:
        """Keep the gateway running; returns the exit code for the whole program."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # those that `serve` has kept for us
        subreaper.adopt()
        now = time.monotonic()
        self._boot_until = now + BOOT_SECONDS
        if self._services:
            self._services_at = now + SERVICES_AFTER_SECONDS
        self._start_at = now
        self._tick()
        while self._code is None or self._services.running:
            self._wait()
            code = self._handle_signals()
            if code is not None:
                self._code = code
                self._stop_services()
                self._reloading.close()
            self._take_turns()
            self._tick()
        self._requests.finish()
        return self._code

    def _wait(self) -> None:
        """Sleep until something arrives (a signal, a request, what a service wrote) or is due, and take it."""
        link, booting, pending = self._link, self._booting, self._requests.pending
        # Without room for their lines they wait in the pipe, and then the service does.
        pipes = [] if self._news.full and self._code is None else self._services.pipes
        poller = select.poll()
        for descriptor in (self._signals, *pending, *pipes):
            poller.register(descriptor, select.POLLIN)
        if link.is_open:
            poller.register(link, link.events)
        if booting is not None:
            poller.register(booting, select.POLLIN)
        for descriptor, happened in poller.poll(self._timeout()):
            if descriptor == link.fileno():
                if happened & select.POLLOUT:
                    link.send_more()
                if happened & ~select.POLLOUT:
                    self._serve(link)
            elif descriptor in pending:
                self._requests.ready(descriptor)
            elif booting is not None and descriptor == booting.fileno():
                self._hear_of_boot(booting)
            elif descriptor in pipes:
                self._services.read(descriptor, time.monotonic())

    def _timeout(self) -> float | None:
        """How long to sleep at most, in milliseconds."""
        if self._requests.has_turns:
            return 0
        next_at = self._next_at()
        return None if next_at is None else max(0.0, next_at - time.monotonic()) * 1000

    def _next_at(self) -> float | None:
        """When there is something to do although nothing has happened."""
        times = [self._services.next_at(), self._requests.next_at(), self._late.next_at(), self._start_at]
        times.append(self._reloading.next_at())
        if self._gateway:
            times += [self._kill_at, self._link.stuck_at]
        if self._services_at is not None:
            times.append(self._services_at if self._booting is None else max(self._services_at, self._boot_until))
        return min((at for at in times if at is not None), default=None)

    def _tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._gateway and self._kill_at is not None and now >= self._kill_at:
            say("the gateway did not stop in time; killing it")
            self._kill_at = None
            self._signal_gateway(signal.SIGKILL)
        if self._link.stuck_at is not None and now >= self._link.stuck_at:
            self._link.drop()
            self._kill_gateway(f"it has not read a report for {STUCK_SECONDS:.0f} s")
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._start_gateway(now)
        self._requests.tick(now)
        self._late.tick(now)
        self._reloading.tick(now)
        if self._services_at is None:
            self._services.tick(now)
        elif now >= self._services_at and (self._booting is None or now >= self._boot_until):
            self._services_at = None
            self._services.start(now)
        if self._stop_request is not None and not self._services.running:
            self._link.send_more()  # how they ended comes before that they have
            self._report(protocol.Done(self._stop_request))
            self._stop_request = None

    # -- boot and services ------------------------------------------------------------------------------------------

    def _hear_of_boot(self, booting: Booting) -> None:
        """Take one step that was done at boot, and serve the requests that have waited for it."""
        step = booting.read()
        if step is None:
            self._booting = None
        else:
            self._news.add(BootStep(step=step.step, outcome=step.outcome))
        held, self._held = self._held, []
        for request in held:
            self._answer(request)

    def _stop_services(self) -> None:
        """Have the services end, and start none that has not been yet. The gateway waits for that, and has time to."""
        self._services_at = None
        if self._services.stopping:
            return
        self._services.stop(time.monotonic())
        if self._kill_at is not None:
            self._kill_at += self._services.stop_seconds

    def _reread(self) -> None:
        """The configuration has been read again: what the gateway may ask for goes by it, and the gateway is told."""
        self._permissions = self._reloading.permissions
        self._requests.permit(self._permissions)
        self._stop_within = self._reloading.config.stop.drain + STOP_MARGIN_SECONDS
        self._report(protocol.Reread())

    # -- the gateway ------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> int | None:
        """Act on the signals that arrived; the exit code when it is over."""
        try:
            arrived = os.read(self._signals, 4096)
        except BlockingIOError:
            return None
        for number in arrived:
            now = time.monotonic()
            if number == signal.SIGHUP and not self._terminal.is_gone():
                self._reloading.ask(now)
            elif number in STOP_SIGNALS:
                self._reloading.close()
                if self._stop_asked_at is None:
                    self._stop_asked_at = now
                    self._kill_at = now + self._stop_within
                    if self._services.stopping:
                        self._kill_at += self._services.stop_seconds
                    self._signal_gateway(signal.SIGTERM)
                    if self._start_at is not None:  # there is none, and none can be started at present
                        self._start_at = None
                        return 0
                elif now - self._stop_asked_at > SAME_SIGNAL_SECONDS:
                    self._signal_gateway(signal.SIGKILL)
                    self._services.kill()
                    return 128 + number
        return self._reap()

    def _start_gateway(self, now: float) -> None:
        """Fork the next gateway. If that can't be now, it is tried again, for as long as makes sense."""
        try:
            with suppress(OSError):  # somebody who closed our output does not keep the gateway away
                sys.stdout.flush()
                sys.stderr.flush()
            ours, theirs = protocol.socket_pair()
            try:
                pid = process.fork()
            except BaseException:
                ours.close()
                theirs.close()
                raise
        except OSError as error:
            self._start_at = self._crashes.not_started(now)
            then = "giving up" if self._start_at is None else "trying again"
            say(f"can't start the gateway: {error.strerror}; {then}")
            if self._start_at is None:
                self._code = CRASHED
                self._stop_services()
            return
        self._generation += 1
        if pid == 0:
            self._become_gateway(ours, theirs)
        self._crashes.started()
        theirs.close()
        self._gateway, self._link = pid, Link(ours, self._news)

    def _become_gateway(self, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        """In the forked process: let go of all that is the spawner's."""

        def run() -> int:
            oom.for_gateway(self._oom_score)
            ours.close()
            self._services.forget()
            if self._booting is not None:
                self._booting.close()
            for descriptor in (self._signals, self._wakeup):
                os.close(descriptor)
            return self._run_gateway(theirs, self._generation, self._crashes.latest)

        gateway_process.be(run)

    def _serve(self, link: Link) -> None:
        """Take the requests that have come: what starts a process waits for its turn, the rest is answered."""
        try:
            requests, there = link.receive()
        except protocol.ProtocolError as error:
            self._kill_gateway(str(error))
            return
        for request in requests:
            self._answer(request)
        if not there:  # the gateway is gone, or about to be, with its log to write; the reaping says how
            link.close()

    def _answer(self, request: protocol.Request) -> None:
        """Do what the gateway asks, now or when what that needs is there."""
        self._guarded(request, self._do)

    def _guarded(self, request: AnyRequest, do: Callable[[AnyRequest], None]) -> None:
        """Serve `request`. One that leads to a bug of ours costs itself and nothing else."""
        try:
            do(request)
        except Exception:  # noqa: BLE001 - whatever it was, others' sessions and the next requests go on
            say(f"internal error in a request ({type(request).__name__}):\n{traceback.format_exc()}")
            if not isinstance(request, protocol.Signal):
                self._report(protocol.Refused(request.id, "internal error; the server's standard error has more"))

    def _take_turns(self) -> None:
        """Start one process for each account that waits for one and may have it now."""
        for request in self._requests.next_round():
            self._guarded(request, self._requests.do)
            if isinstance(request, protocol.Spawn) and self._services_at is not None:
                self._services_at = time.monotonic()

    def _do(self, request: protocol.Request) -> None:
        if self._booting is not None and self._booting.delays(request, self._permissions.users):
            if len(self._held) < MAX_HELD:
                self._held.append(request)
            else:
                self._report(protocol.Refused(request.id, "the machine is starting, and too much waits for that"))
            return
        match request:
            case protocol.AwaitAccount(id=number):
                self._report(protocol.Done(number))
            case protocol.AwaitSocket():
                self._late.ask(request, self._report)
            case protocol.StopServices(id=number):
                self._stop_request = number
                self._stop_services()
            case protocol.Reload():
                self._reloading.ask(time.monotonic())
            case protocol.TakeConfig() | protocol.OpenLog():
                self._reloading.answer(request, self._report)
            case _:
                self._requests.answer(request)

    def _not_sessions(self, spawner: int) -> set[int]:
        """Our children that run for no session: the gateway, the makers of sockets, services, what works at boot."""
        booting = set() if self._booting is None else {self._booting.pid}
        return {self._gateway} | booting | self._services.processes(spawner) | self._requests.not_sessions()

    def _report(self, report: protocol.Report, descriptors: list[int] | None = None) -> None:
        self._link.report(report, descriptors or [])

    def _reap(self) -> int | None:
        """Collect every child that has ended; the exit code if the gateway ended and no other is to follow it."""
        gateway, gateway_status = self._gateway, None
        while (ended := next_ended(self._requests.signals, time.monotonic())) is not None:
            pid, status = ended
            if pid == self._gateway:
                gateway_status = status
                self._gateway = 0
            elif not self._requests.reaped(pid, status) and not self._reloading.reaped(pid, status):
                self._services.reaped(pid, status, time.monotonic())
        return None if gateway_status is None else self._gateway_ended(gateway, gateway_status)

    def _gateway_ended(self, pid: int, status: int) -> int | None:
        self._held.clear()
        self._late.forget()
        self._stop_request = None
        code = os.waitstatus_to_exitcode(status)
        if code in {0, UNUSABLE} or self._stop_asked_at is not None:
            self._requests.forget(hang_up=False)
            return max(code, 0)
        now = time.monotonic()
        cause = f"exit code {code}" if code > 0 else unix_name(-code)
        crash = Crash(pid, cause, self._requests.sessions_of_a_crash())
        say(f"the gateway (pid {crash.pid}) ended with {cause}; ending its {crash.sessions} sessions")
        self._requests.forget(hang_up=True)
        self._link.close()
        if self._crashes.add(crash, now):
            say(f"that was crash {len(self._crashes.latest)} within {CRASH_PERIOD_SECONDS:.0f} s; giving up")
            return CRASHED
        self._start_at = now
        if self._services_at is None:
            self._services.keep_running(now)  # the gateway may have had them stopped
        return None

    def _kill_gateway(self, why: str) -> None:
        say(f"killing the gateway: {why}")
        self._signal_gateway(signal.SIGKILL)

    def _signal_gateway(self, number: int) -> None:
        if self._gateway:
            with suppress(ProcessLookupError):
                os.kill(self._gateway, number)


def say(text: str) -> None:
    """The spawner has no log of its own: what it has to say goes to standard error, a line at a time."""
    with suppress(OSError):
        os.write(2, f"pyssh-gateway: {text}\n".encode(errors="backslashreplace"))
