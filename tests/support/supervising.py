"""A supervisor in a process of its own, with the processes of `tests/unit/spawner/tiny_servers.py`.

`start`, `serve` and `requests` are fixtures for the test modules that import them.
"""

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyssh_gateway.config.types import Boot
from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.ipc import spawner as protocol
from tests.support import processes
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

TINY = ROOT / "tests/unit/spawner/tiny_servers.py"
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())

OTHER = "daemon"
"""Another account that every machine has."""

POSTAUTH = 1000
"""The number of the request for `USER`'s postauth process."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a supervisor with one of the tiny monitors; all its processes that are left are killed."""
    made: list[subprocess.Popen[str]] = []

    def begin(
        *arguments: str,
        users: str = USER.pw_name,
        files: str = "",
        boot: Boot | None = None,
        late: str = "",
        config: Path | None = None,
        postauth: str = "relays",
        inside: tuple[str, ...] = (),
    ) -> subprocess.Popen[str]:
        environ = os.environ | {"PYTHONPATH": str(ROOT), "TINY_USERS": users, "TINY_FILES": files, "TINY_LATE": late}
        environ |= {"TINY_POSTAUTH": postauth, "TINY_FLOODER": users.split(maxsplit=1)[0]}
        if config is not None:
            environ["TINY_CONFIG"] = str(config)
        if boot is not None:
            environ["TINY_BOOT"] = msgspec.json.encode(boot, enc_hook=float).decode()
        process = subprocess.Popen(
            [*inside, sys.executable, str(TINY), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        made.append(process)
        return process

    yield begin
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


class Obedient:
    """A supervisor whose monitors do what the test says (`obeys` in `tiny_servers`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.monitor = 0

    def do(self, *command: object) -> None:
        """Make the present monitor, or the next one, execute this."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command).decode() + "\n")
        self.process.stdin.flush()

    def hear(self) -> list[Any]:
        """The next message of a monitor."""
        said: list[Any] = json.loads(next_line(self.process))
        return said

    def started(self) -> int:
        """Wait for the next monitor that reports its start; its generation."""
        name, generation, self.monitor = self.hear()
        assert name == "generation"
        return int(generation)

    def serve(self, user: str = USER.pw_name, number: int = POSTAUTH) -> int:
        """Have a postauth process started; its pid."""
        self.do("ask", protocol.StartPostauth(number, user))
        who, report, _ = self.hear()
        assert (who, report["type"], report["id"]) == ("spawner", "spawned", number), report
        return int(report["pid"])

    def spawn(self, number: int, plan: LaunchPlan, *, by: str = "") -> int:
        """Have a process of an account started; its pid."""
        user = by or plan.user
        self.do("tell", user, protocol.Spawn(number, plan))
        who, (report, _), _ = self.hear()
        assert (who, report["type"], report["id"]) == (user, "spawned", number), report
        return int(report["pid"])

    def end(self) -> tuple[list[list[Any]], str, int]:
        """End the server: its last messages, its errors and its exit code."""
        self.do("end", 0)
        said, err, code = lines(self.process)
        return [json.loads(line) for line in said], err, code


Serve = Callable[..., Obedient]


@pytest.fixture
def serve(start: Start) -> Iterator[Serve]:
    """Starts a supervisor whose first monitor runs; the supervisors end with the test."""
    servers: list[Obedient] = []

    def begin(**settings: str) -> Obedient:
        servers.append(Obedient(start("obeys", **settings)))
        assert servers[-1].started() == 1
        return servers[-1]

    yield begin
    for server in servers:
        for each in processes.descendants(server.process.pid):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)


def lines(process: subprocess.Popen[str]) -> tuple[list[str], str, int]:
    """The output, errors and exit code of a supervisor that ends by itself."""
    out, err = process.communicate(timeout=PATIENCE)
    return out.splitlines(), err, process.returncode


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line of a monitor."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def plan(script: str, *, user: str = USER.pw_name, terminal: bool = False) -> LaunchPlan:
    """A shell script as `user`."""
    pty = Terminal("xterm", 80, 24, 0, 0, ()) if terminal else None
    return LaunchPlan(user, b"/bin/sh", (b"sh", b"-c", script.encode()), {}, b"/", pty, False)


@pytest.fixture
def requests(tmp_path: Path) -> Callable[..., str]:
    """A file with requests for a tiny monitor."""

    def write(*wanted: protocol.Request) -> str:
        path = tmp_path / "requests.json"
        path.write_bytes(msgspec.json.encode(wanted))
        return str(path)

    return write
