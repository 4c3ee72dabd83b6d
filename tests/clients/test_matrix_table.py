"""The table at the end of a run of the client matrix."""

import re
import subprocess
import sys

from tests.support.places import ROOT
from tests.support.waiting import PATIENCE


def test_the_table_is_printed_when_processes_share_the_work() -> None:
    """Protects the answer to "does my client work?": `make test` prints the matrix at its end, as one table."""
    command = [sys.executable, "-m", "pytest", "-n", "1", "tests/clients/test_matrix.py", "-k", "ssh-exec or scp-put"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True, cwd=ROOT)
    rows = dict(re.findall(r"^(\w+)  +((?:ok|-| )+)$", done.stdout, re.MULTILINE))
    assert rows["ssh"].split() == ["ok", "-"], done.stdout
    assert rows["scp"].split() == ["-", "ok"], done.stdout
