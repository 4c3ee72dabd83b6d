"""The spawner's life: it keeps a gateway running, does what the gateway asks, reaps, and ends with it.

Single-threaded and without an event loop, because it forks. It sleeps in one poll(2) on the gateway's socket, the
signal pipe and what services write, and makes no system call while nothing happens.

Where it is the first process of a machine or a container, it is all that an init has to be: it reaps what others leave
behind, and stop signals reach it although the kernel keeps them from a first process that has no handlers.
"""

import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.config import Service
from pyssh_gateway.events import BootStep
from pyssh_gateway.signal_names import unix_name
from pyssh_gateway.spawner import activity, orphans, process, protocol
from pyssh_gateway.spawner.booting import Booting
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.spawner.news import News
from pyssh_gateway.spawner.reload import Reloading
from pyssh_gateway.spawner.requests import Permissions, Requests
from pyssh_gateway.spawner.services import Services

MAX_CRASHES = 5
CRASH_PERIOD_SECONDS = 60.0
"""A gateway that dies more often than `MAX_CRASHES` times in this period will not get better by starting it again; the
platform is better placed to decide, so the spawner gives up."""

STOP_MARGIN_SECONDS = 2.0
"""How much longer than its drain time the gateway may take to leave before it is killed."""

SEND_SECONDS = 5
"""How long the gateway may leave a report unread before it counts as stuck: its loop never blocks on purpose."""

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

CRASHED = 1
"""The spawner's exit code when the gateway could not be kept running."""

UNUSABLE = 2
"""The gateway's exit code for what starting it again won't change: the machine or the configuration is wrong."""


class Crash(msgspec.Struct, frozen=True):
    """How the gateway before this one ended, for the log."""

    pid: int
    cause: str
    sessions: int


RunGateway = Callable[[socket.socket, int, tuple[Crash, ...]], int]
"""The gateway's body: its end of the socket pair, its generation (from 1) and the crashes before it -> exit code."""


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
    ) -> None:
        self._run_gateway = run_gateway
        self._permissions = permissions
        self._stop_within = drain + STOP_MARGIN_SECONDS
        self._open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._generation = 0
        self._crashes: list[tuple[float, Crash]] = []
        self._stop_asked_at: float | None = None
        self._kill_at: float | None = None
        self._gateway = 0
        self._control: socket.socket | None = None
        self._signals, self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._requests = Requests(permissions, self._open_files, report=self._report, say=self._say)
        self._terminal, self._reloading = terminal, reloading
        reloading.on_outcome = self._reread
        # -- boot and services
        self._news = News()
        self._booting = booting
        self._boot_until = 0.0
        self._held: list[protocol.Request] = []
        self._services = Services(services, self._news.add, self._open_files)
        self._services_at: float | None = None
        self._stop_request: int | None = None
        self._code: int | None = None

    def run(self) -> int:
        """Keep the gateway running; returns the exit code for the whole program."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # those that `serve` has kept for us
        orphans.adopt()
        now = time.monotonic()
        self._boot_until = now + BOOT_SECONDS
        if self._services:
            self._services_at = now + SERVICES_AFTER_SECONDS
        self._start_gateway()
        while self._code is None or self._services.running:
            self._wait()
            code = self._handle_signals()
            if code is not None:
                self._code = code
                self._stop_services()
                self._reloading.close()
            self._tick()
        return self._code

    def _wait(self) -> None:
        """Sleep until something arrives (a signal, a request, what a service wrote) or is due, and take it."""
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        control, booting = self._control, self._booting
        if control is not None:
            poller.register(control, select.POLLIN | (select.POLLOUT if self._news.waiting else 0))
        if booting is not None:
            poller.register(booting, select.POLLIN)
        # Without room for their lines they wait in the pipe, and then the service does.
        pipes = [] if self._news.full and self._code is None else self._services.pipes
        for pipe in pipes:
            poller.register(pipe, select.POLLIN)
        next_at = self._next_at()
        timeout = None if next_at is None else max(0.0, next_at - time.monotonic()) * 1000
        for descriptor, happened in poller.poll(timeout):
            if control is not None and descriptor == control.fileno():
                if happened & select.POLLOUT:
                    self._news.send(control)
                if happened & ~select.POLLOUT:
                    self._serve(control)
            elif booting is not None and descriptor == booting.fileno():
                self._hear_of_boot(booting)
            elif descriptor in pipes:
                self._services.read(descriptor, time.monotonic())

    def _next_at(self) -> float | None:
        """When there is something to do although nothing has happened."""
        times = [self._kill_at if self._gateway else None, self._services.next_at(), self._reloading.next_at()]
        if self._services_at is not None:
            times.append(self._services_at if self._booting is None else max(self._services_at, self._boot_until))
        return min((at for at in times if at is not None), default=None)

    def _tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._gateway and self._kill_at is not None and now >= self._kill_at:
            self._say("the gateway did not stop in time; killing it")
            self._kill_at = None
            self._signal_gateway(signal.SIGKILL)
        self._reloading.tick(now)
        if self._services_at is None:
            self._services.tick(now)
        elif now >= self._services_at and (self._booting is None or now >= self._boot_until):
            self._services_at = None
            self._services.start(now)
        if self._stop_request is not None and not self._services.running:
            if self._control is not None:
                self._news.send(self._control)  # how they ended comes before that they have
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
                elif now - self._stop_asked_at > SAME_SIGNAL_SECONDS:
                    self._signal_gateway(signal.SIGKILL)
                    self._services.kill()
                    return 128 + number
        return self._reap()

    def _start_gateway(self) -> None:
        self._generation += 1
        ours, theirs = protocol.socket_pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        sys.stdout.flush()
        sys.stderr.flush()
        pid = process.fork()
        if pid == 0:
            self._become_gateway(ours, theirs)
        theirs.close()
        self._gateway, self._control = pid, ours

    def _become_gateway(self, ours: socket.socket, theirs: socket.socket) -> None:
        """The forked gateway: out of the terminal's process group, so that Ctrl-C reaches the spawner alone."""
        code = CRASHED
        try:
            process.default_signals()
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it: a peer that is gone is an error to handle
            os.setsid()
            os.close(self._signals)
            os.close(self._wakeup)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can pass it on
            self._services.forget()
            if self._booting is not None:
                self._booting.close()
            ours.close()
            code = self._run_gateway(theirs, self._generation, tuple(crash for _, crash in self._crashes))
        except BaseException:  # noqa: BLE001 - whatever it was, a gateway must not go on as a second spawner
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _serve(self, control: socket.socket) -> None:
        """Answer one request."""
        try:
            packet, descriptors = protocol.receive(control)
            protocol.close_all(descriptors)
            request = protocol.decode_request(packet) if packet else None
        except ConnectionError:  # it has left without reading all that we had to say
            request = None
        except protocol.ProtocolError as error:
            self._kill_gateway(str(error))
            return
        if request is None:  # the gateway is gone, or about to be, with its log to write; the reaping says how
            control.close()
            self._control = None
            return
        self._answer(request)

    def _answer(self, request: protocol.Request) -> None:
        """Do what the gateway asks, now or when what that needs is there."""
        try:
            self._do(request)
        except protocol.ProtocolError as error:
            self._kill_gateway(str(error))

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
            case protocol.StopServices(id=number):
                self._stop_request = number
                self._stop_services()
            case protocol.SampleActivity(id=number):
                self._report(protocol.Activity(number, activity.sample(os.getpid(), self._not_sessions())))
            case protocol.Reload():
                self._reloading.ask(time.monotonic())
            case protocol.TakeConfig() | protocol.OpenLog():
                self._reloading.answer(request, self._report)
            case _:
                self._requests.answer(request)
                if isinstance(request, protocol.Spawn) and self._services_at is not None:
                    self._services_at = time.monotonic()

    def _not_sessions(self) -> set[int]:
        """Our children that run for no session: the gateway, the makers of sockets, services, what works at boot."""
        booting = set() if self._booting is None else {self._booting.pid}
        return {self._gateway} | booting | self._services.processes() | self._requests.not_sessions()

    def _report(self, report: protocol.Report, descriptors: list[int] | None = None) -> None:
        """Send `report`, waiting for room if the gateway is busy; one that is gone needs none."""
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [protocol.encode(report)], descriptors or [])
        except BlockingIOError:
            self._kill_gateway(f"it has not read a report for {SEND_SECONDS} s")
        except OSError:  # the gateway is gone, or too many descriptors are on their way
            pass

    def _reap(self) -> int | None:
        """Collect every child that has ended; the exit code if the gateway ended and no other is to follow it."""
        gateway, gateway_status = self._gateway, None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._gateway:
                gateway_status = status
                self._gateway = 0
            elif not self._requests.reaped(pid, status) and not self._reloading.reaped(pid, status):
                self._services.reaped(pid, status, time.monotonic())
        return None if gateway_status is None else self._gateway_ended(gateway, gateway_status)

    def _gateway_ended(self, pid: int, status: int) -> int | None:
        self._held.clear()
        self._stop_request = None
        code = os.waitstatus_to_exitcode(status)
        if code in {0, UNUSABLE} or self._stop_asked_at is not None:
            self._requests.forget(hang_up=False)
            return max(code, 0)
        now = time.monotonic()
        cause = f"exit code {code}" if code > 0 else unix_name(-code)
        crash = Crash(pid, cause, self._requests.sessions_of_a_crash())
        self._crashes = [entry for entry in self._crashes if now - entry[0] < CRASH_PERIOD_SECONDS]
        self._crashes.append((now, crash))
        self._say(f"the gateway (pid {crash.pid}) ended with {cause}; ending its {crash.sessions} sessions")
        self._requests.forget(hang_up=True)
        if self._control is not None:
            self._control.close()
            self._control = None
        if len(self._crashes) > MAX_CRASHES:
            self._say(f"that was crash {len(self._crashes)} within {CRASH_PERIOD_SECONDS:.0f} s; giving up")
            return CRASHED
        self._start_gateway()
        if self._services_at is None:
            self._services.keep_running(now)  # the gateway may have had them stopped
        return None

    def _kill_gateway(self, why: str) -> None:
        self._say(f"killing the gateway: {why}")
        self._signal_gateway(signal.SIGKILL)

    def _signal_gateway(self, number: int) -> None:
        if self._gateway:
            with suppress(ProcessLookupError):
                os.kill(self._gateway, number)

    @staticmethod
    def _say(text: str) -> None:
        """The spawner has no log of its own: what it has to say goes to standard error, a line at a time."""
        with suppress(OSError):
            os.write(2, f"pyssh-gateway: {text}\n".encode())
