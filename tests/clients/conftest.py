"""Set-up of the client matrix, whose failed assertions show values; and what tests of editors share."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.waiting import until

# pytest rewrites the assertions of test files only; the matrix has assertions in other modules beside them.
pytest.register_assert_rewrite(
    "tests.support.matrix",
    "tests.support.matrix_features",
    "tests.clients.matrix_libraries",
    "tests.clients.matrix_node",
    "tests.clients.matrix_openssh",
    "tests.clients.matrix_programs",
)


@pytest.fixture
def started(scratch: Path) -> Iterator[Path]:
    """A directory for VS Code's server; the server and its children are killed when the test is over."""
    yield scratch
    for pid in {int(word) for file in scratch.glob("pid*") for word in file.read_text().split()}:
        if processes.is_running(pid):
            os.kill(pid, signal.SIGKILL)
            until(partial(_has_ended, pid), what="end of the editor's server")


def _has_ended(pid: int) -> bool:
    return not processes.is_running(pid)
