"""A supervisor in a process of its own, with one of the gateways of `tests/unit/spawner/tiny_gateway.py`.

`start` and `requests` are fixtures: a file of tests that imports them has them.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.config.types import Boot
from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.ipc import spawner as protocol
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

TINY = ROOT / "tests/unit/spawner/tiny_gateway.py"
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a supervisor with one of the tiny gateways; whatever is left of it is killed."""
    made: list[subprocess.Popen[str]] = []

    def begin(
        *arguments: str,
        users: str = USER.pw_name,
        files: str = "",
        boot: Boot | None = None,
        late: str = "",
        config: Path | None = None,
        inside: tuple[str, ...] = (),
    ) -> subprocess.Popen[str]:
        environ = os.environ | {"PYTHONPATH": str(ROOT), "TINY_USERS": users, "TINY_FILES": files, "TINY_LATE": late}
        if config is not None:
            environ["TINY_CONFIG"] = str(config)
        if boot is not None:
            environ["TINY_BOOT"] = msgspec.json.encode(boot, enc_hook=float).decode()
        process = subprocess.Popen(
            [*inside, sys.executable, str(TINY), *arguments],
            stdin=subprocess.DEVNULL,
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


def lines(process: subprocess.Popen[str]) -> tuple[list[str], str, int]:
    """Output, errors and exit code of a supervisor that ends by itself."""
    out, err = process.communicate(timeout=PATIENCE)
    return out.splitlines(), err, process.returncode


def next_line(process: subprocess.Popen[str]) -> str:
    """The next thing that a gateway says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def plan(script: str, *, user: str = USER.pw_name, terminal: bool = False) -> LaunchPlan:
    """A shell script as `user`."""
    pty = Terminal("xterm", 80, 24, 0, 0, ()) if terminal else None
    return LaunchPlan(user, b"/bin/sh", (b"sh", b"-c", script.encode()), {}, b"/", pty, False)


@pytest.fixture
def requests(tmp_path: Path) -> Callable[..., str]:
    """A file with requests for a tiny gateway."""

    def write(*wanted: protocol.Request) -> str:
        path = tmp_path / "requests.json"
        path.write_bytes(msgspec.json.encode(wanted))
        return str(path)

    return write
