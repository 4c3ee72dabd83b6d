"""`pyssh-gateway` as logged-in people run it: with their rights, in their sessions."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client, client_environment
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

SYSTEM_PYTHON = "/usr/bin/python3"
"""For accounts that can't reach the tests' own interpreter."""

_NEEDED = "import sys, msgspec, pyssh_gateway.cli.main; assert sys.version_info >= (3, 11)"


def program(client: Client) -> str:
    """The program's name for a session of the client's server; skips the test if the account has no suitable Python."""
    libraries = Path(pytest.__file__).parents[1]
    for python in (sys.executable, SYSTEM_PYTHON):
        # No bytecode: Python would try to write it again at each start, where the account can't write.
        typed = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(f'{ROOT}:{libraries}')} {shlex.quote(python)}"
        if client.run(f"{typed} -c {shlex.quote(_NEEDED)}").status == 0:
            return f"{typed} -m pyssh_gateway"
    pytest.skip("the login account can't run this checkout: neither the tests' Python nor the system's will do")


def as_root(client: Client, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same, run by the user who runs the tests and the server."""
    return subprocess.run(
        [sys.executable, "-m", "pyssh_gateway", *arguments, "--config", str(client.server.config)],
        env=client_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
