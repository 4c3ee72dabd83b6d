"""The requests that the monitor may make of the spawner, which permits them from tables.

The monitor decides who gets in. This module limits the monitor itself to what the administrator has configured,
whatever the monitor asks for. Nothing here waits. It does not know whether the monitor is alive, nor the other work of
the spawner.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from pyssh_gateway.core.recordings.rules import Recording
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import key_files
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.children import Children, Report
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import SpawnError
from pyssh_gateway.spawner.sampling.sampler import Sampler
from pyssh_gateway.spawner.servers import Servers
from pyssh_gateway.spawner.stop_commands import StopCommands, start_command, start_suspend, start_warning

SAMPLES_WAITING = 8
"""How many samples may wait while one is taken. The monitor asks for two or three at a time, for different reasons."""

FromTables = (
    protocol.StartPreauth
    | protocol.StartPostauth
    | protocol.Kill
    | protocol.AwaitAccount
    | protocol.ReadKeys
    | protocol.RunHook
    | protocol.RunWarning
    | protocol.Suspend
    | protocol.SampleActivity
)
"""The requests that are answered here."""


class Permissions(msgspec.Struct, frozen=True):
    """The tables of what the monitor may ask for: processes as these accounts, these key files, these commands.

    `key_files` has for each key file the accounts that its keys can log in to, which decide who may own the file.
    `chroots` are the root directories of accounts that have one of their own, with the tokens of `login.chroot`;
    `recording` says whose sessions may be recorded (None: nobody's).
    """

    users: frozenset[str]
    key_files: Mapping[str, frozenset[str]]
    stop: StopCommands = StopCommands()
    chroots: Mapping[str, str] = MappingProxyType({})
    recording: Recording | None = None


class Requests:
    """Serves one monitor after the other, with `servers`; it starts the commands of a stop itself.

    `report` sends an answer with its descriptors, and closes them. `inherited` is restored in the commands. Times are
    `time.monotonic()`'s.
    """

    def __init__(
        self,
        permissions: Permissions,
        inherited: Inherited,
        *,
        report: Report,
        records: LoginRecorder,
        servers: Servers,
        sampler: Sampler,
    ) -> None:
        self._permissions = permissions
        self._inherited = inherited
        self._report = report
        self._servers = servers
        self._sampler = sampler
        self._samples: list[int] = []
        self.children = Children(report, records)
        self.permit(permissions)

    def permit(self, permissions: Permissions) -> None:
        """Use these tables from now on."""
        self._permissions = permissions
        self._servers.permit(permissions.users, permissions.chroots, permissions.recording)

    def answer(self, request: FromTables) -> None:
        """Do what the monitor asks, if that is permitted."""
        stop, inherited = self._permissions.stop, self._inherited
        match request:
            case protocol.StartPreauth():
                self._servers.start_preauth(request)
            case protocol.StartPostauth():
                self._servers.start_postauth(request)
            case protocol.Kill(process=number):
                self._servers.kill(number)
                self.children.kill(number)
            case protocol.AwaitAccount(id=number, user=user):
                self._look_at_account(number, user)
            case protocol.ReadKeys(id=number, path=path):
                self._open_keys(number, path)
            case protocol.RunHook(id=number, index=index):
                self.children.start(number, lambda: start_command(stop, index, inherited=inherited))
            case protocol.RunWarning(id=number, index=index, seconds=seconds, people=people):
                self.children.start(number, lambda: start_warning(stop, index, seconds, people, inherited=inherited))
            case protocol.Suspend(id=number):
                self.children.start(number, lambda: start_suspend(stop, inherited=inherited))
            case protocol.SampleActivity(id=number) if len(self._samples) < SAMPLES_WAITING:
                self._samples.append(number)  # `tick` takes it, after the requests before it
            case protocol.SampleActivity(id=number):
                self._report(protocol.Refused(number, "the samples before are still being taken"), [])

    def _look_at_account(self, number: int, user: str) -> None:
        """Report whether an account may be used at present."""
        if user not in self._permissions.users:
            reason = f"{user:.{process.SHOWN}} is not an account that may log in"
            self._report(protocol.Refused(number, reason), [])
            return
        try:
            account = process.find_account(user)
        except SpawnError as error:
            self._report(protocol.Refused(number, str(error)), [])
            return
        self._report(protocol.AccountReady(number, process.refusal_now(account) or b""), [])

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

    def _sample(self, number: int, now: float) -> None:
        """Start a sample."""
        try:
            self._sampler.begin(number, now)
        except OSError as error:
            self._report(protocol.Refused(number, f"can't start a process: {error.strerror}"), [])

    # -- for the loop -----------------------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return min((at for at in (self.children.next_at(), self._sampler.next_at()) if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        self.children.tick(now)
        self._sampler.tick(now)
        while self._samples and not self._sampler.busy:
            self._sample(self._samples.pop(0), now)

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status` (of waitpid(2)); returns whether it was started for the monitor."""
        return self.children.reaped(pid, status) or self._sampler.reaped(pid)

    def forget(self) -> None:
        """The monitor that has asked is gone: forget its samples and children."""
        self._samples.clear()
        self.children.forget(hang_up=False)
