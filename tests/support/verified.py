"""`audit ...` commands about the log of a real server."""

import json
import subprocess
import sys
from typing import Any

from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE


def audit(server: Server, command: str, *words: str, given: bytes = b"") -> tuple[int, str]:
    """The exit code and standard output of a command about the server's log."""
    done = subprocess.run(
        [sys.executable, "-m", "pyssh_gateway", "audit", command, "--config", str(server.config), *words],
        input=given,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    return done.returncode, done.stdout.decode()


def verify(server: Server, *words: str, given: bytes = b"") -> dict[str, Any]:
    """What `audit verify` says."""
    code, printed = audit(server, "verify", "--json", *words, given=given)
    found: dict[str, Any] = json.loads(printed)
    assert code == (0 if found.get("intact") else 1)
    return found
