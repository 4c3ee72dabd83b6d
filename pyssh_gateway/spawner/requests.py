"""What the gateway may have from the spawner: processes, signals to them, key files. It permits from tables.

The gateway is the process that the network reaches, so whatever it says of itself counts for nothing here. Whether it
lives, and what else the spawner does, is not known here.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from pyssh_gateway.spawner import key_files, login_records, process, protocol
from pyssh_gateway.spawner.stop_commands import StopCommands, start_command, start_suspend

LAST_MOMENT_SECONDS = 0.25
"""A session that ended this shortly before its gateway crashed ended with it: the kernel closes a dying process's
terminals before its sockets, so that the report of such an end may still find a socket that nobody reads."""

ForProcesses = (
    protocol.Spawn | protocol.MakeSockets | protocol.Signal | protocol.ReadKeys | protocol.RunHook | protocol.Suspend
)
"""The requests that are answered here."""

Report = Callable[[protocol.Report, list[int]], None]


class Permissions(msgspec.Struct, frozen=True):
    """What the gateway may ask for, whatever it says: processes as these accounts, these key files, these commands.

    Of each key file it is known which accounts it lets in to: those have a say in who may own it.
    """

    users: frozenset[str]
    key_files: Mapping[str, frozenset[str]]
    stop: StopCommands = StopCommands()


class Requests:
    """Serves one gateway after the other, and knows the processes that were started for the present one.

    `report` sends an answer with its descriptors, which stay ours; `say` is for what nobody has asked. Processes get
    `open_files` as their RLIMIT_NOFILE.
    """

    def __init__(
        self, permissions: Permissions, open_files: tuple[int, int], *, report: Report, say: Callable[[str], None]
    ) -> None:
        self._permissions = permissions
        self._open_files = open_files
        self._report = report
        self._say = say
        self._children: dict[int, tuple[int, process.Child]] = {}
        self._ended: list[float] = []
        self._told: set[str] = set()

    def permit(self, permissions: Permissions) -> None:
        """Go by these tables from now on."""
        self._permissions = permissions

    def answer(self, request: ForProcesses) -> None:
        """Do what the gateway asks, if it may."""
        match request:
            case protocol.Spawn(id=number, plan=plan) if self._permits(number, plan.user):
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
            case protocol.MakeSockets(id=number, user=user) if self._permits(number, user):
                self._started(number, lambda: process.start_socket_maker(user, open_files=self._open_files))
            case protocol.Signal(id=number, number=signal_number):
                for started_by, child in self._children.values():
                    if started_by == number:
                        with suppress(OSError):  # no room for a process now: the signal is lost, as kill(1)'s would be
                            process.send_signal(child, signal_number)
            case protocol.ReadKeys(id=number, path=path):
                self._open_keys(number, path)
            case protocol.RunHook(id=number, index=index):
                stop, open_files = self._permissions.stop, self._open_files
                self._started(number, lambda: start_command(stop, index, open_files=open_files))
            case protocol.Suspend(id=number):
                stop, open_files = self._permissions.stop, self._open_files
                self._started(number, lambda: start_suspend(stop, open_files=open_files))

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status`, as waitpid(2) gives it; whether it is one of these."""
        if pid not in self._children:
            return False
        number, child = self._children.pop(pid)
        self._report(_exited(number, status), [])
        if child.is_session:
            now = time.monotonic()
            self._ended = [when for when in self._ended if now - when < LAST_MOMENT_SECONDS] + [now]
        if child.tty:
            self._record(login_records.record_logout, pid=pid, tty=child.tty)
        return True

    def not_sessions(self) -> set[int]:
        """The processes that were started for no session."""
        return {pid for pid, (_, child) in self._children.items() if not child.is_session}

    def sessions_of_a_crash(self) -> int:
        """How many sessions the gateway had when it crashed, which was just now."""
        now = time.monotonic()
        ended = sum(now - when < LAST_MOMENT_SECONDS for when in self._ended)
        self._ended.clear()
        return ended + sum(child.is_session for _, child in self._children.values())

    def forget(self, *, hang_up: bool) -> None:
        """Their gateway is gone, and so are their terminals: nobody will be told of their ends."""
        for pid, (_, child) in self._children.items():
            if child.tty:
                if hang_up:
                    process.hang_up(child)
                self._record(login_records.record_logout, pid=pid, tty=child.tty)
        self._children.clear()

    def _permits(self, number: int, user: str) -> bool:
        """Whether a process may be started as `user`; the answer is given if not."""
        if user in self._permissions.users:
            return True
        self._report(protocol.Refused(number, f"{user} is not an account that may log in"), [])
        return False

    def _started(self, number: int, start: Callable[[], process.Child]) -> process.Child | None:
        """Start a process for request `number` and report how that went."""
        try:
            child = start()
        except process.SpawnError as error:
            self._report(protocol.Refused(number, str(error)), [])
            return None
        self._children[child.pid] = (number, child)
        self._report(protocol.Spawned(number, child.pid, child.tty), child.descriptors)
        protocol.close_all(child.descriptors)
        return child

    def _open_keys(self, number: int, path: str) -> None:
        if path not in self._permissions.key_files:
            self._report(protocol.Refused(number, f"{path} is not a key file of the configuration"), [])
            return
        try:
            descriptor = key_files.open_trusted(path, self._permissions.key_files[path])
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            self._report(protocol.Refused(number, f"can't read {path}: {error.strerror or error}", missing), [])
            return
        self._report(protocol.KeysOpened(number), [descriptor])
        os.close(descriptor)

    def _record(self, record: Callable[..., tuple[str, ...]], **facts: object) -> None:
        """Keep the machine's login records (who, last), if it has any and we may write them."""
        if os.geteuid() != 0:
            return
        for problem in record(when=time.time(), **facts):
            if problem not in self._told:
                self._told.add(problem)
                self._say(problem)


def _exited(number: int, status: int) -> protocol.Exited:
    if os.WIFSIGNALED(status):
        return protocol.Exited(number, None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return protocol.Exited(number, os.WEXITSTATUS(status), None, core_dumped=False)
