"""The log's files: opened and closed for the monitor, which has given up its rights; compressed and deleted.

A monitor that was taken over can spoil the file that it writes to, but no earlier one. Compressing takes long, so a
child does it, which only handles the files' names: it has another child, in a sandbox and without rights, read each
file. `startup` passes in what is done, so that the spawner knows no format.
"""

import os
import pwd
import signal
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc import log_files, spawner
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from pyssh_gateway.system import privileges
from pyssh_gateway.system.accounts import monitor_account
from pyssh_gateway.system.confinement import confine
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import SEALER

TIDY_SECONDS = 900
"""How long it may take: the largest file, of 1 GiB, on a slow disk."""

NICENESS = 19
"""The priority of the children, which nobody waits for (nice(1))."""

Compress = Callable[[int, int], None]
"""Compress what can be read from one descriptor to another one. Raises an exception."""

Report = Callable[[spawner.Report, list[int]], None]


class LogWork(msgspec.Struct, frozen=True):
    """What is done with the files.

    `open` gives the descriptors for `Opened`, and `seal` does after it has closed the file with this first line and
    this inode; both are quick, and raise OSError. `tidy` and `compress` run in children. `tidy` gets the configuration,
    and a function that has a file compressed without the server's rights, which raises OSError.
    """

    open: Callable[[], list[int]]
    seal: Callable[[int, int], list[int]]
    tidy: Callable[[Config, Compress], None]
    compress: Compress


class LogFiles:
    """Answers the monitor, and has one child at a time. `config` gives the configuration in force."""

    def __init__(self, work: LogWork, config: Callable[[], Config], inherited: Inherited) -> None:
        self._work = work
        self._config = config
        self._inherited = inherited
        self._pid = 0
        self._again = False
        self._is_closed = False

    def answer(self, request: log_files.Request, report: Report) -> None:
        """Do what the monitor asks."""
        if isinstance(request, log_files.TidyLog):
            self._tidy()
            return
        try:
            if isinstance(request, log_files.OpenLog):
                descriptors = self._work.open()
            else:
                descriptors = self._work.seal(request.first, request.inode)
        except OSError as error:
            report(spawner.Refused(request.id, str(error)), [])
            return
        report(spawner.Opened(request.id), descriptors)

    @property
    def pids(self) -> set[int]:
        """The child, if there is one."""
        return {self._pid} - {0}

    def reaped(self, pid: int) -> bool:
        """The child `pid` has ended; returns whether it was this one. What it has not done is done the next time."""
        if not self._pid or pid != self._pid:
            return False
        self._pid = 0
        if self._again:
            self._tidy()
        return True

    def close(self) -> None:
        """The server ends: end the child, and start no other."""
        self._is_closed = True
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _tidy(self) -> None:
        self._again = bool(self._pid)
        if self._pid or self._is_closed:
            return
        setup = Setup(
            descriptors=(NULL, NULL, 2),
            inherited=self._inherited.for_stranger(),
            complain=child.on_standard_error("pyssh-gateway: the files of the log: "),
        )
        with suppress(OSError):  # no process is left: the next time
            self._pid = child.start(setup, self._tidy_up)

    # -- in the child -------------------------------------------------------------------------------------------

    def _tidy_up(self) -> int:
        signal.alarm(TIDY_SECONDS)  # nobody else ends it
        os.nice(NICENESS)
        config = self._config()
        account = monitor_account(config.account) if os.geteuid() == 0 else None
        seccomp.prepare(SEALER)  # while everything can be imported
        self._work.tidy(config, lambda source, target: self._compress(source, target, account))
        return 0

    def _compress(self, source: int, target: int, account: pwd.struct_passwd | None) -> None:
        def become() -> None:
            if account is not None:
                os.setgroups([])
                privileges.become(account.pw_uid, account.pw_gid)

        def work() -> int:
            signal.alarm(TIDY_SECONDS)
            privileges.end_with_parent(parent)
            confine(SEALER)
            self._work.compress(source, target)
            return 0

        parent = os.getpid()
        setup = Setup(
            descriptors=(NULL, NULL, 2),
            kept=frozenset({source, target}),
            prepare=become,
            complain=child.on_standard_error("pyssh-gateway: a file of the log can't be compressed: "),
        )
        _, status = os.waitpid(child.start(setup, work), 0)
        if status:
            raise OSError("a file could not be compressed")
