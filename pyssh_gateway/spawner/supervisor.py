"""The spawner's life: it keeps a gateway running, does what the gateway asks, reaps, and ends with it.

Single-threaded and without an event loop, because it forks. It sleeps in one poll(2) on the gateway's socket and the
signal pipe and makes no system call while nothing happens.
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

from pyssh_gateway.spawner import key_files, login_records, process, protocol

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

LAST_MOMENT_SECONDS = 0.25
"""A session that ended this shortly before its gateway crashed ended with it: the kernel closes a dying process's
terminals before its sockets, so that the report of such an end may still find a socket that nobody reads."""

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


class Permissions(msgspec.Struct, frozen=True):
    """What the gateway may ask for, whatever it says: processes as these accounts, and these key files."""

    users: frozenset[str]
    key_files: frozenset[str]


RunGateway = Callable[[socket.socket, int, tuple[Crash, ...]], int]
"""The gateway's body: its end of the socket pair, its generation (from 1) and the crashes before it -> exit code."""


class Supervisor:
    """Runs gateways, one at a time, until one ends on its own account."""

    def __init__(self, run_gateway: RunGateway, permissions: Permissions, drain: float) -> None:
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
        self._children: dict[int, tuple[int, process.Child]] = {}
        self._ended: list[float] = []
        self._told: set[str] = set()

    def run(self) -> int:
        """Keep the gateway running; returns the exit code for the whole program."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        self._start_gateway()
        while True:
            self._wait()
            code = self._handle_signals()
            if code is not None:
                return code

    def _wait(self) -> None:
        """Sleep until a signal or a request arrives, and serve the request."""
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        control = self._control
        if control is not None:
            poller.register(control, select.POLLIN)
        timeout = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic()) * 1000
        for descriptor, _ in poller.poll(timeout):
            if control is not None and descriptor == control.fileno():
                self._serve(control)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._say("the gateway did not stop in time; killing it")
            self._kill_at = None
            self._signal_gateway(signal.SIGKILL)

    def _handle_signals(self) -> int | None:
        """Act on the signals that arrived; the exit code when it is over."""
        try:
            arrived = os.read(self._signals, 4096)
        except BlockingIOError:
            return None
        for number in arrived:
            if number in STOP_SIGNALS:
                now = time.monotonic()
                if self._stop_asked_at is None:
                    self._stop_asked_at = now
                    self._kill_at = now + self._stop_within
                    self._signal_gateway(signal.SIGTERM)
                elif now - self._stop_asked_at > SAME_SIGNAL_SECONDS:
                    self._signal_gateway(signal.SIGKILL)
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
            if not packet:  # the gateway is gone; the reaping says how
                control.close()
                self._control = None
                return
            self._answer(protocol.decode_request(packet))
        except (protocol.ProtocolError, ConnectionError) as error:
            self._say(f"killing the gateway: {error}")
            self._signal_gateway(signal.SIGKILL)

    def _answer(self, request: protocol.Request) -> None:
        match request:
            case protocol.Spawn(id=number, plan=plan):
                if plan.user not in self._permissions.users:
                    self._report(protocol.Refused(number, f"{plan.user} is not an account that may log in"))
                    return
                child = self._started(number, lambda: process.start(plan, open_files=self._open_files))
                if child is not None and child.tty:
                    self._record(
                        login_records.record_login,
                        user=child.user,
                        uid=child.uid,
                        pid=child.pid,
                        tty=child.tty,
                        peer=plan.peer,
                    )
            case protocol.MakeSockets(id=number, user=user):
                if user not in self._permissions.users:
                    self._report(protocol.Refused(number, f"{user} is not an account that may log in"))
                    return
                self._started(number, lambda: process.start_socket_maker(user, open_files=self._open_files))
            case protocol.Signal(id=number, number=signal_number):
                for started_by, child in self._children.values():
                    if started_by == number:
                        with suppress(OSError):  # no room for a process now: the signal is lost, as kill(1)'s would be
                            process.send_signal(child, signal_number)
            case protocol.ReadKeys(id=number, path=path):
                self._open_keys(number, path)

    def _record(self, record: Callable[..., tuple[str, ...]], **facts: object) -> None:
        """Keep the machine's login records (who, last), if it has any and we may write them."""
        if os.geteuid() != 0:
            return
        for problem in record(when=time.time(), **facts):
            if problem not in self._told:
                self._told.add(problem)
                self._say(problem)

    def _started(self, number: int, start: Callable[[], process.Child]) -> process.Child | None:
        """Start a process for request `number` and report how that went."""
        try:
            child = start()
        except process.SpawnError as error:
            self._report(protocol.Refused(number, str(error)))
            return None
        self._children[child.pid] = (number, child)
        self._report(protocol.Spawned(number, child.pid, child.tty), child.descriptors)
        protocol.close_all(child.descriptors)
        return child

    def _open_keys(self, number: int, path: str) -> None:
        if path not in self._permissions.key_files:
            self._report(protocol.Refused(number, f"{path} is not a key file of the configuration"))
            return
        try:
            descriptor = key_files.open_trusted(path, self._permissions.users)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            self._report(protocol.Refused(number, f"can't read {path}: {error.strerror or error}", missing))
            return
        self._report(protocol.KeysOpened(number), [descriptor])
        os.close(descriptor)

    def _report(self, report: protocol.Report, descriptors: list[int] | None = None) -> None:
        """Send `report`, waiting for room if the gateway is busy; one that is gone needs none."""
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [protocol.encode(report)], descriptors or [])
        except BlockingIOError:
            self._say(f"killing the gateway: it has not read a report for {SEND_SECONDS} s")
            self._signal_gateway(signal.SIGKILL)
        except OSError:  # the gateway is gone, or too many descriptors are on their way
            pass

    def _reap(self) -> int | None:
        """Collect every child that has ended; the exit code if the gateway ended and no other is to follow it."""
        gateway_status = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._gateway:
                gateway_status = status
            elif pid in self._children:
                number, child = self._children.pop(pid)
                self._report(_exited(number, status))
                if child.is_session:
                    now = time.monotonic()
                    self._ended = [when for when in self._ended if now - when < LAST_MOMENT_SECONDS] + [now]
                if child.tty:
                    self._record(login_records.record_logout, pid=pid, tty=child.tty)
        return None if gateway_status is None else self._gateway_ended(gateway_status)

    def _gateway_ended(self, status: int) -> int | None:
        code = os.waitstatus_to_exitcode(status)
        if code in {0, UNUSABLE} or self._stop_asked_at is not None:
            self._forget_children(hang_up=False)
            return max(code, 0)
        now = time.monotonic()
        cause = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        running = sum(child.is_session for _, child in self._children.values())
        ended = sum(now - when < LAST_MOMENT_SECONDS for when in self._ended)
        self._ended.clear()
        crash = Crash(self._gateway, cause, running + ended)
        self._crashes = [entry for entry in self._crashes if now - entry[0] < CRASH_PERIOD_SECONDS]
        self._crashes.append((now, crash))
        self._say(f"the gateway (pid {crash.pid}) ended with {cause}; ending its {crash.sessions} sessions")
        self._forget_children(hang_up=True)
        if self._control is not None:
            self._control.close()
            self._control = None
        if len(self._crashes) > MAX_CRASHES:
            self._say(f"that was crash {len(self._crashes)} within {CRASH_PERIOD_SECONDS:.0f} s; giving up")
            return CRASHED
        self._start_gateway()
        return None

    def _forget_children(self, *, hang_up: bool) -> None:
        """Their gateway is gone, and so are their terminals: nobody will be told of their ends."""
        for pid, (_, child) in self._children.items():
            if child.tty:
                if hang_up:
                    process.hang_up(child)
                self._record(login_records.record_logout, pid=pid, tty=child.tty)
        self._children.clear()

    def _signal_gateway(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._gateway, number)

    @staticmethod
    def _say(text: str) -> None:
        """The spawner has no log of its own: what it has to say goes to standard error, a line at a time."""
        with suppress(OSError):
            os.write(2, f"pyssh-gateway: {text}\n".encode())


def _exited(number: int, status: int) -> protocol.Exited:
    if os.WIFSIGNALED(status):
        return protocol.Exited(number, None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return protocol.Exited(number, os.WEXITSTATUS(status), None, core_dumped=False)
