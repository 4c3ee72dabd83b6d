"""Reading the configuration again while the server runs (SIGHUP).

The file is the administrator's, but its disk may hang and the parser may fail in an unforeseen way, so a short-lived
child reads it. The child writes the outcome to a memory file, which the spawner reads when the child has ended. A child
that takes too long is killed; the spawner never waits for it.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.reread import Reread, decode, encode
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import Setup
from pyssh_gateway.spawner.requests import Permissions

READ_SECONDS = 10
"""How long it may take to read the configuration, and the accounts and files that it names: a start that takes longer
would have failed, too."""

MAX_OUTCOME_BYTES = 16 * 1024 * 1024
"""Sixteen times the largest configuration file."""


Report = Callable[[protocol.Report, list[int]], None]


class Reloading:
    """Reads the configuration again on request, and keeps the one in force.

    `read` runs in the child: it gets the configuration in force and returns the outcome. `permissions_of` gives the
    requests that a configuration permits, quickly. `on_outcome` is called after each reading.
    """

    def __init__(
        self,
        config: Config,
        *,
        read: Callable[[Config], Reread],
        permissions_of: Callable[[Config], Permissions],
    ) -> None:
        self.config = config
        self._read = read
        self._permissions_of = permissions_of
        self._child = 0
        self._file = -1
        self._until = 0.0
        self._again = False
        self._closed = False
        self._outcome = _failed("nobody has asked for that")
        self.on_outcome: Callable[[], None] = lambda: None

    # -- reading ------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Begin to read. If a child is reading already, read once more afterwards: the file may have changed since."""
        if self._closed:
            return
        if self._child:
            self._again = True
            return
        try:
            self._file = os.memfd_create("pyssh-gateway-config", os.MFD_CLOEXEC)
            setup = Setup(
                kept=frozenset({self._file}),
                umask=None,
                directory=None,
                complain=child.on_standard_error("pyssh-gateway: reading the configuration again: "),
            )
            self._child = child.start(setup, self._read_again)
        except OSError as error:
            self._conclude(_failed(f"no process could be started to read it: {error.strerror}"), now)
            return
        self._until = now + READ_SECONDS

    @property
    def pids(self) -> set[int]:
        """The child, if there is one."""
        return {self._child} - {0}

    def next_at(self) -> float | None:
        """When the child has to have ended; None: there is no child."""
        return self._until if self._child else None

    def tick(self, now: float) -> None:
        """Kill a child that takes too long."""
        if self._child and now >= self._until:
            self._kill()
            self._conclude(_failed(f"it could not be read within {READ_SECONDS} s"), now)

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status` (of waitpid(2)); returns whether it was the one that reads."""
        if pid != self._child:
            return False
        self._conclude(self._result(status), time.monotonic())
        return True

    def close(self) -> None:
        """The server ends: kill the child, and start no other."""
        self._closed = True
        if self._child:
            self._kill()
            self._forget()

    def _conclude(self, outcome: Reread, now: float) -> None:
        self._forget()
        self._outcome = outcome
        if outcome.config is not None:
            self.config = outcome.config
        self.on_outcome()
        if self._again:
            self._again = False
            self.ask(now)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def _forget(self) -> None:
        self._child = 0
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _result(self, status: int) -> Reread:
        """The outcome that the child has written."""
        size = os.fstat(self._file).st_size
        if status == 0 and size <= MAX_OUTCOME_BYTES:
            with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
                return decode(os.pread(self._file, size, 0))
        return _failed(f"the process that read it failed ({os.waitstatus_to_exitcode(status)})")

    def _read_again(self) -> int:
        """In the child: read, and write the outcome. The alarm ends the child if the spawner has died and can't."""
        signal.alarm(2 * READ_SECONDS)
        left = memoryview(encode(self._read(self.config)))
        while left:
            left = left[os.write(self._file, left) :]
        return 0

    # -- what follows from it -----------------------------------------------------------------------------------

    @property
    def permissions(self) -> Permissions:
        """The requests that the configuration in force permits."""
        return self._permissions_of(self.config)

    def answer(self, request: protocol.TakeConfig, report: Report) -> None:
        """Send the outcome of the last reading of the configuration."""
        try:
            descriptor = os.memfd_create("pyssh-gateway-config", os.MFD_CLOEXEC)
            os.truncate(descriptor, len(packet := encode(self._outcome)))
            os.pwrite(descriptor, packet, 0)
        except OSError as error:
            report(protocol.Refused(request.id, str(error)), [])
            return
        report(protocol.Opened(request.id), [descriptor])


def _failed(why: str) -> Reread:
    return Reread(None, problems=(f"the configuration can't be read again: {why}",))
