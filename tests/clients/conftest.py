"""Servers that sockets activate, an editor's server, and the set-up of the matrix: its assertions show values."""

import os
import pwd
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.activation import Activated, MakeActivated
from tests.support.server import Settings
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


@pytest.fixture
def make_activated(tmp_path: Path, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[MakeActivated]:
    """Makes a server that is not started yet, and its socket: `make_activated({"idle": {"timeout": "1s"}})`."""
    made: list[Activated] = []

    def make(settings: Settings | None = None, *, sock: socket.socket | None = None) -> Activated:
        server = Activated(tmp_path, login=account.pw_name, keys=[f"file:{user_key.public}"], settings=settings)
        server.open_socket(sock)
        made.append(server)
        return server

    yield make
    for server in made:
        server.end()
        server.listening.close()
        server.check_clean()
