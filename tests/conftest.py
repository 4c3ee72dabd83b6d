"""Fixtures for the tests that run the real server. Everything they need is made for the run: accounts, keys, files."""

import os
import pwd
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from tests.support import leaks
from tests.support.account import login_account, scratch_directory
from tests.support.client import Client
from tests.support.github import FakeGitHub
from tests.support.matrix_table import cell_of, table
from tests.support.server import Server, Settings
from tests.support.waiting import PATIENCE

# What tests write is not the group's, as OpenSSH wants it of key files. Many a developer's umask is 002.
os.umask(0o022)

# No deadline for one example: on a machine that does other things too, a slow one says nothing about the code.
settings.register_profile("default", deadline=None)
settings.register_profile("deep", deadline=None, max_examples=5000)
settings.load_profile("default")

MakeServer = Callable[..., Server]


class KeyPair(NamedTuple):
    """A key pair's files."""

    private: Path
    public: Path


@pytest.fixture(scope="session")
def account() -> Iterator[pwd.struct_passwd]:
    """The account to log in to: one made for the tests if we are root, else our own."""
    with login_account() as entry:
        yield entry


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., KeyPair]:
    """Makes key pairs with ssh-keygen: `make_key("rsa", "-b", "2048")`."""
    directory = tmp_path_factory.mktemp("keypairs")
    made = 0

    def make(kind: str = "ed25519", *options: str) -> KeyPair:
        nonlocal made
        made += 1
        path = directory / f"{kind}-{made}"
        command = ["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-C", f"key {made}", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        return KeyPair(path, path.with_name(path.name + ".pub"))

    return make


@pytest.fixture(scope="session")
def user_key(make_key: Callable[..., KeyPair]) -> KeyPair:
    """The ed25519 key that every server of the tests lets in."""
    return make_key()


def _server(
    directory: Path,
    account: pwd.struct_passwd,
    key: KeyPair,
    *,
    settings: Settings | None = None,
    login_settings: Settings | None = None,
    environ: dict[str, str] | None = None,
) -> Server:
    return Server(
        directory,
        login=account.pw_name,
        keys=[f"file:{key.public}"],
        settings=settings,
        login_settings=login_settings,
        environ=environ,
    )


@pytest.fixture
def make_server(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[MakeServer]:
    """Starts servers of the test's own: `make_server({"idle": {"timeout": "3s"}})`; they are stopped after it."""
    made: list[Server] = []

    def make(
        settings: Settings | None = None,
        *,
        login_settings: Settings | None = None,
        environ: dict[str, str] | None = None,
        start: bool = True,
    ) -> Server:
        directory = tmp_path_factory.mktemp("server")
        server = _server(
            directory, account, user_key, settings=settings, login_settings=login_settings, environ=environ
        )
        made.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in made:
        server.end()
    for server in made:
        server.check_clean()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Server]:
    """A server that the tests of a module share. One login has been made, so that what is opened late is open."""
    # The marker is looked for by the test that no session inherits the server's environment.
    environ = {"PYSSH_TEST_MARKER": "leaked"}
    with _server(tmp_path_factory.mktemp("server"), account, user_key, environ=environ) as running:
        assert Client(running, user_key.private).run("true").status == 0
        running.wait_for("connection.closed")
        yield running


@pytest.fixture
def client(server: Server, user_key: KeyPair) -> Client:
    """A client of the module's server."""
    return Client(server, user_key.private)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A GitHub whose answers the test writes; afterwards no download may be left over."""
    with FakeGitHub() as running:
        yield running
    for thread in threading.enumerate():
        if thread.name == "fetch-keys":
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def scratch(account: pwd.struct_passwd) -> Iterator[Path]:
    """A directory that the account may write to, made for one test."""
    with scratch_directory(account) as directory:
        yield directory


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test after which the shared server, or the test process, holds more than before."""
    if "unit" in request.node.path.parts:
        yield
        return
    shared: Server | None = request.getfixturevalue("server") if "server" in request.fixturenames else None
    before = leaks.own()
    held = leaks.footprint(shared) if shared is not None else None
    yield
    if shared is not None and held is not None:
        leaks.check_server(shared, held)
    leaks.check_own(before)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write into every report which cell of the client matrix it is about."""
    cell = cell_of(item)
    if cell is not None:
        item.user_properties.append(("matrix", cell))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the client matrix, if it was part of the run.

    Here and not beside the matrix: what only shares tests out among processes reads no other conftest.
    """
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = table([report for report in reports if isinstance(report, pytest.TestReport)])
    if lines:
        terminalreporter.section("clients")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def is_root() -> bool:
    """Whether the server can switch accounts."""
    return os.geteuid() == 0
