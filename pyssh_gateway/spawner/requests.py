"""What the gateway may have from the spawner: processes, signals to them, key files. It permits from tables.

The gateway is the process that the network reaches, so whatever it says of itself counts for nothing here. Nothing here
waits: a process that has been forked is told of when it is ready, which its account may put off. Whether the gateway
lives, and what else the spawner does, is not known here.
"""

import os
import time
from collections.abc import Callable, Mapping

import msgspec

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import key_files
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import Child, Inherited, Starting
from pyssh_gateway.spawner.processes.signalling import Signals
from pyssh_gateway.spawner.processes.turns import Turns
from pyssh_gateway.spawner.sampling import Sampler
from pyssh_gateway.spawner.stop_commands import StopCommands, start_command, start_suspend

LAST_MOMENT_SECONDS = 0.25
"""A session that ended this shortly before its gateway crashed ended with it: the kernel closes a dying process's
terminals before its sockets, so that the report of such an end may still find a socket that nobody reads."""

STARTING_PER_ACCOUNT = 4
"""Processes of one account that are on their way at a time; its next request waits. Each takes some ten milliseconds of
a processor until it is the account's program, and others' processes get theirs meanwhile."""

SAMPLES_WAITING = 8
"""Samples that wait for the one that is being taken. The gateway looks for two or three reasons at a time."""

ForProcesses = (
    protocol.Spawn
    | protocol.MakeSockets
    | protocol.Signal
    | protocol.ReadKeys
    | protocol.RunHook
    | protocol.Suspend
    | protocol.SampleActivity
)
"""The requests that are answered here."""

InTurn = protocol.Spawn | protocol.MakeSockets | protocol.Signal
"""Those of them that wait for their account's turn; a signal if what it is for does."""

Report = Callable[[protocol.Report, list[int]], None]


class Permissions(msgspec.Struct, frozen=True):
    """What the gateway may ask for, whatever it says: processes as these accounts, these key files, these commands.

    Of each key file it is known which accounts it lets in to: those have a say in who may own it.
    """

    users: frozenset[str]
    key_files: Mapping[str, frozenset[str]]
    stop: StopCommands = StopCommands()


class _Start:
    """A process that was forked for the request `number` and is not ready yet; `signals` wait for that."""

    def __init__(self, number: int, starting: Starting, due: float, peer: str) -> None:
        self.number = number
        self.child = starting.child
        self.ready = starting.ready
        self.due = due
        self.peer = peer
        self.signals: dict[int, None] = {}


class Requests:
    """Serves one gateway after the other, and knows the processes that were started for the present one.

    `report` sends an answer with its descriptors, which it closes; `say` is for what nobody has asked. Processes get
    `inherited` back. Times are `time.monotonic()`'s.
    """

    def __init__(
        self,
        permissions: Permissions,
        inherited: Inherited,
        *,
        report: Report,
        say: Callable[[str], None],
        sampler: Sampler,
    ) -> None:
        self._permissions = permissions
        self._inherited = inherited
        self._report = report
        self._children: dict[int, tuple[int, Child]] = {}
        self._starting: dict[int, _Start] = {}
        self._ended: list[float] = []
        self._records = LoginRecorder(say)
        self._turns: Turns[InTurn] = Turns()
        self.signals = Signals()
        self._sampler = sampler
        self._samples: list[int] = []

    # -- whose turn it is -----------------------------------------------------------------------------------------

    @property
    def has_turns(self) -> bool:
        """Whether `next_round` has anything now."""
        return self._turns.any_ready(self._may_start)

    def next_round(self) -> list[InTurn]:
        """The next requests, one of each account that may have it now: to be done with `do`."""
        return self._turns.round(self._may_start)

    def _may_start(self, account: str) -> bool:
        """Whether a process of `account` may be started now, or too many are on their way."""
        return sum(start.child.user == account for start in self._starting.values()) < STARTING_PER_ACCOUNT

    def _queue_of(self, request: ForProcesses) -> str:
        """The account in whose queue `request` waits; empty: in none."""
        match request:
            case protocol.Spawn(plan=plan) if plan.user in self._permissions.users:
                return plan.user
            case protocol.MakeSockets(user=user) if user in self._permissions.users:
                return user
            case protocol.Signal():  # it waits only if what it is for does
                return next((account for account, other in self._turns.items() if other.id == request.id), "")
            case _:
                return ""

    # -- requests -------------------------------------------------------------------------------------------------

    def permit(self, permissions: Permissions) -> None:
        """Go by these tables from now on."""
        self._permissions = permissions

    def answer(self, request: ForProcesses) -> None:
        """Do what the gateway asks, if it may, or have it wait for its turn."""
        match request:
            case protocol.Spawn() | protocol.MakeSockets() | protocol.Signal() if account := self._queue_of(request):
                if not self._turns.add(account, request) and not isinstance(request, protocol.Signal):
                    self._report(protocol.Refused(request.id, f"too many processes of {account} are to be started"), [])
            case _:
                self.do(request)

    def do(self, request: ForProcesses) -> None:
        """Do what the gateway asks, if it may, now."""
        stop, inherited = self._permissions.stop, self._inherited
        match request:
            case protocol.Spawn(id=number, plan=plan) if self._permits(number, plan.user):
                self._start(number, lambda: process.start(plan, inherited=inherited), plan.peer)
            case protocol.MakeSockets(id=number, user=user) if self._permits(number, user):
                self._start(number, lambda: process.start_socket_maker(user, inherited=inherited))
            case protocol.Signal(id=number, number=signal_number):
                self._signal(number, signal_number)
            case protocol.ReadKeys(id=number, path=path):
                self._open_keys(number, path)
            case protocol.RunHook(id=number, index=index):
                self._start(number, lambda: start_command(stop, index, inherited=inherited))
            case protocol.Suspend(id=number):
                self._start(number, lambda: start_suspend(stop, inherited=inherited))
            case protocol.SampleActivity(id=number) if len(self._samples) < SAMPLES_WAITING:
                self._samples.append(number)  # taken when what was asked for before has had its turn
            case protocol.SampleActivity(id=number):
                self._report(protocol.Refused(number, "the samples before are still being taken"), [])

    def _sample(self, number: int, now: float) -> None:
        """Have a sample taken."""
        try:
            self._sampler.begin(number, now)
        except OSError as error:
            self._report(protocol.Refused(number, f"can't start a process: {error.strerror}"), [])

    def _permits(self, number: int, user: str) -> bool:
        """Whether a process may be started as `user`; the answer is given if not."""
        if user in self._permissions.users:
            return True
        self._report(protocol.Refused(number, f"{user} is not an account that may log in"), [])
        return False

    def _start(self, number: int, start: Callable[[], Starting], peer: str = "") -> None:
        """Start a process for request `number`; it is reported when it is ready."""
        try:
            starting = start()
        except process.SpawnError as error:
            self._report(protocol.Refused(number, str(error)), [])
            return
        due = time.monotonic() + process.READY_SECONDS
        self._starting[starting.ready] = _Start(number, starting, due, peer)

    def _signal(self, number: int, signal_number: int) -> None:
        for start in self._starting.values():
            if start.number == number:
                start.signals[signal_number] = None
        for started_by, child in self._children.values():
            if started_by == number:
                self.signals.send(child.pid, child.uid, signal_number, time.monotonic())

    def _open_keys(self, number: int, path: str) -> None:
        if path not in self._permissions.key_files:
            self._report(protocol.Refused(number, f"{path} is not a key file of the configuration"), [])
            return
        try:
            descriptor = key_files.open_trusted(path, self._permissions.key_files[path])
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            self._report(protocol.Refused(number, error.strerror or str(error), missing), [])
            return
        self._report(protocol.KeysOpened(number), [descriptor])

    # -- what the loop has to know, and says ------------------------------------------------------------------------

    @property
    def pending(self) -> list[int]:
        """The descriptors to poll: one has something when its process is ready, or dead."""
        return list(self._starting)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        times = [self.signals.next_at(), self._records.next_at(), self._sampler.next_at()]
        times += [start.due for start in self._starting.values()]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        for start in [start for start in self._starting.values() if now >= start.due]:
            self.ready(start.ready)
        self.signals.tick(now)
        self._records.tick(now)
        self._sampler.tick(now)
        while self._samples and not self._sampler.busy:
            self._sample(self._samples.pop(0), now)

    def ready(self, descriptor: int) -> None:
        """The process behind a descriptor of `pending` is ready, or has died, or has had its time: report it."""
        start = self._starting.pop(descriptor, None)
        if start is None:
            return
        os.close(start.ready)
        child = start.child
        self._children[child.pid] = (start.number, child)
        self._report(protocol.Spawned(start.number, child.pid, child.tty), child.descriptors)
        if child.tty:
            self._records.login(child, start.peer)
        for number in start.signals:
            self.signals.send(child.pid, child.uid, number, time.monotonic())

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status`, as waitpid(2) gives it; whether it is one of these."""
        for start in self._starting.values():
            if start.child.pid == pid:
                start.signals.clear()
                self.ready(start.ready)
                break
        if pid not in self._children:
            return self._sampler.reaped(pid) or self.signals.reaped(pid, time.monotonic())
        number, child = self._children.pop(pid)
        self._report(_exited(number, status), [])
        if child.is_session:
            now = time.monotonic()
            self._ended = [when for when in self._ended if now - when < LAST_MOMENT_SECONDS] + [now]
        if child.tty:
            self._records.logout(child)
        return True

    def not_sessions(self) -> set[int]:
        """The processes that run for no session."""
        others = {start.child.pid for start in self._starting.values() if not start.child.is_session}
        others |= {pid for pid, (_, child) in self._children.items() if not child.is_session}
        return others | set(self.signals.helpers)

    def sessions_of_a_crash(self) -> int:
        """How many sessions the gateway had when it crashed, which was just now."""
        now = time.monotonic()
        ended = sum(now - when < LAST_MOMENT_SECONDS for when in self._ended)
        self._ended.clear()
        return ended + sum(child.is_session for _, child in self._children.values())

    def forget(self, *, hang_up: bool) -> None:
        """Their gateway is gone, and so are their terminals: nobody will be told of their ends."""
        self._turns.clear()
        self._samples.clear()
        for start in self._starting.values():  # nobody has their descriptors: they find them closed
            os.close(start.ready)
            process.close(start.child.descriptors)
        self._starting.clear()
        for child in [child for _, child in self._children.values() if child.tty]:
            if hang_up:
                process.hang_up(child)
            self._records.logout(child)
        self._children.clear()

    def finish(self) -> None:
        """It is over: write down what waits for a lock."""
        self._records.finish()


def _exited(number: int, status: int) -> protocol.Exited:
    if os.WIFSIGNALED(status):
        return protocol.Exited(number, None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return protocol.Exited(number, os.WEXITSTATUS(status), None, core_dumped=False)
