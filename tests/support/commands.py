"""`pyssh-gateway` as a command of the people who log in: on their side of the rights, in their sessions."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client, client_environment
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

SYSTEM_PYTHON = "/usr/bin/python3"
"""For accounts that may not go where the tests' own interpreter is."""

_NEEDED = "import sys, msgspec, pyssh_gateway.cli.main; assert sys.version_info >= (3, 11)"


def program(client: Client) -> str:
    """What to type in a session of the client's server; skips the test where the account has no Python that will do."""
    libraries = Path(pytest.__file__).parents[1]
    for python in (sys.executable, SYSTEM_PYTHON):
        # No bytecode: what the account can't write, Python tries to write anew at each start.
        typed = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(f'{ROOT}:{libraries}')} {shlex.quote(python)}"
        if client.run(f"{typed} -c {shlex.quote(_NEEDED)}").status == 0:
            return f"{typed} -m pyssh_gateway"
    pytest.skip("the login account can't run this checkout: neither the tests' Python nor the system's will do")


def as_root(client: Client, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same, of whoever runs the tests and the server."""
    return subprocess.run(
        [sys.executable, "-m", "pyssh_gateway", *arguments, "--config", str(client.server.config)],
        env=client_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
