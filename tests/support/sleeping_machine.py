"""A machine that sleeps: its server exits when idle, and the platform starts it again at the next connection.

As a program (`python -m`), it runs the server's command line that follows with the short times of the environment
variable `SHORT_TIMES`: a JSON object of names in `core.idle.probation` and their values.
"""

import json
import os
import pwd
import select
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import activation
from tests.support.activation import Activated
from tests.support.server import EventFields, Settings
from tests.support.sleepers import run_here
from tests.support.waiting import PATIENCE, until

TIMES = "SHORT_TIMES"

RUN_WITH_SHORT_TIMES = [sys.executable, "-m", __name__]
"""For `Server.wrapper`."""


class SleepingMachine(Activated):
    """`with` begins to wait for connections, in a thread that starts the server for each and waits for its stop.

    `runs` has the events of each run of the server that is over; those of the present one are in `events`.
    """

    def __init__(
        self, directory: Path, account: pwd.struct_passwd, key: Path, settings: Settings, environ: dict[str, str]
    ) -> None:
        super().__init__(directory, login=account.pw_name, keys=[f"file:{key}"], settings=settings)
        self.open_socket()
        self.runs: list[list[EventFields]] = []
        self.failure: BaseException | None = None
        self._variables = [f"{name}={value}" for name, value in environ.items()]
        self._retired = threading.Event()
        self._platform = threading.Thread(target=self._work, name="platform")

    def __enter__(self) -> Self:
        self._platform.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._retired.set()
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGTERM)
        self._platform.join(2 * PATIENCE)
        self.listening.close()
        assert not self._platform.is_alive()
        if kind is None:
            assert self.failure is None, self.failure
            self.check_clean()

    def launch(self) -> None:
        """Start the server with the variables."""
        descriptor = self.listening.fileno()
        self.launch_by(
            *("env", *self._variables, sys.executable, "-m", activation.__name__, str(descriptor)),
            *RUN_WITH_SHORT_TIMES,
            passed=(descriptor,),
        )

    def _work(self) -> None:
        try:
            while not self._retired.is_set():
                if select.select([self.listening], [], [], 0.1)[0]:
                    self.start()
                    if self._retired.is_set():
                        self.signal(signal.SIGTERM)
                    code = self.wait()
                    assert code == 0, self.stderr
                    self.check_clean()
                    self.runs.append(self.events)
        except BaseException as failure:  # noqa: BLE001 - the test's thread reports it
            self.failure = failure

    def until_runs(self, count: int) -> None:
        """Wait until that many runs are over."""
        until(lambda: len(self.runs) >= count or self.failure is not None, what=f"{count} stops")
        assert self.failure is None, self.failure

    def until_event(self, name: str, **fields: object) -> EventFields:
        """Wait for an event of the present run, or of one that follows."""
        found: list[EventFields] = []

        def look() -> bool:
            found[:] = self.find(name, 0, **fields)
            return bool(found) or self.failure is not None

        until(look, what=name)
        assert self.failure is None, self.failure
        return found[0]


def logins(run: list[EventFields]) -> list[float | None]:
    """For each login of a run, how long the machine waited for a sign of a person; None: it was an ordinary one."""
    return [event["probation"] for event in run if event["event"] == "connection.authenticated"]


def main(command: list[str]) -> None:
    """Run `PYTHON -m MODULE ARGUMENTS...` here, with the short times."""
    from pyssh_gateway.core.idle import probation  # only in the server's process

    for name, value in json.loads(os.environ.pop(TIMES, "{}")).items():
        assert hasattr(probation, name)
        setattr(probation, name, value)
    run_here(command)


if __name__ == "__main__":
    main(sys.argv[1:])
