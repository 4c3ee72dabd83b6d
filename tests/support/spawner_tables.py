"""The spawner's tables without requesting processes: reports are kept for the test. `spawner` is a fixture."""

import contextlib
import os
import pwd
import select
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.account_requests import AccountRequests
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.server_process import ServerProcesses
from pyssh_gateway.spawner.requests import Permissions, Requests
from pyssh_gateway.spawner.sampling.sampler import Sampler
from pyssh_gateway.spawner.servers import Servers
from pyssh_gateway.spawner.stop_commands import StopCommands
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks, processes
from tests.support.spawning import INHERITED, SERVERS, session_children
from tests.support.waiting import until

USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def never(*_arguments: object) -> int:
    """No monitor runs in these tests."""
    raise AssertionError("not in this test")


def idle(*ends: object) -> int:
    """A server process that waits until it is killed."""
    signal.pause()
    return 0


class Spawner:
    """Tables without requesting processes: reports are kept for the test, without descriptors."""

    def __init__(self) -> None:
        self.reports: list[protocol.Report] = []
        self.pids: set[int] = set()
        self.chroot = ""
        """The account's chroot in the configuration."""
        self._ours, self._theirs = protocol.socket_pair()
        self._link = Link(self._ours, protocol.decode_monitor_request)
        records = LoginRecorder(pytest.fail)
        self.servers = Servers(
            ServerProcesses(never, idle, idle, idle, lambda: None, frozenset),
            SERVERS,
            INHERITED,
            report=self._report,
            records=records,
            say=self._say,
            on_spawn=lambda _greets: None,
        )
        self.monitor = Requests(
            Permissions(frozenset({USER.pw_name}), {}, StopCommands(commands=("sleep 1000 & wait",))),
            INHERITED,
            report=self._report,
            records=records,
            servers=self.servers,
            sampler=Sampler(lambda _spawner: set(), lambda: self._link),
        )
        self.account = AccountRequests(
            USER.pw_name,
            USER,
            session_children().begin,
            may_log_in=lambda user: user == USER.pw_name,
            chroot_of=lambda _user: self.chroot,
            report=self._report,
            records=records,
        )
        self._waiting: list[protocol.PostauthRequest] = []

    def _say(self, text: str) -> None:
        """Checks messages for standard error: only those about ended processes are expected."""
        assert text.endswith("ended with SIGKILL"), text

    def _report(self, report: protocol.Report, descriptors: list[int]) -> None:
        protocol.encode(report)
        close_all(descriptors)
        self.reports.append(report)
        if isinstance(report, protocol.Spawned):
            self.pids.add(report.pid)

    @property
    def pending(self) -> list[int]:
        """The numbers of processes that are being started."""
        return self.account.children.pending + self.monitor.children.pending

    def ask(self, request: protocol.PostauthRequest) -> None:
        """Send a request as the postauth process does; requests are read when there is room."""
        self._waiting.append(request)
        self.take()

    def take(self) -> None:
        """Serve the requests that have waited for room."""
        while self._waiting and not self.account.full:
            self.account.answer(self._waiting.pop(0))

    def turn(self) -> None:
        """Run one turn of the loop, without sleeping."""
        self.take()
        for children in (self.account.children, self.monitor.children):
            for descriptor in children.pending:
                if process_is_ready(descriptor):
                    children.ready(descriptor)
            children.tick(time.monotonic())
        self.monitor.tick(time.monotonic())
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _ = self.account.children.reaped(*ended) or self.servers.reaped(*ended) or self.monitor.reaped(*ended)

    def until(self, come: Callable[[], object], what: str) -> None:
        """Run turns until `come` is true."""

        def look() -> object:
            self.turn()
            return come()

        until(look, what=what)

    def settle(self) -> None:
        """Run turns until everything that was begun has ended."""

        def settled() -> bool:
            self.turn()
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            gone = {report.id for report in self.reports if isinstance(report, protocol.Exited)}
            begun = {report.id for report in self.reports if isinstance(report, protocol.Spawned)}
            return not self.pending and not self._waiting and begun <= gone

        until(settled, what="end of all processes")
        self._ours.close()
        self._theirs.close()


PLAN = LaunchPlan(USER.pw_name, b"/bin/true", (b"true",), {}, b"/", None, False)


def process_is_ready(descriptor: int) -> bool:
    """Whether the other end has been closed, as the spawner finds it out. Of a socket it may be reset."""
    return bool(select.select([descriptor], [], [], 0)[0])


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """A `Spawner`; at the end nothing of it may run or be open."""
    with leaks.nothing_left_open():
        one = Spawner()
        yield one
        one.settle()


def plan(script: bytes) -> LaunchPlan:
    """A shell script as `USER`."""
    return LaunchPlan(USER.pw_name, b"/bin/sh", (b"sh", b"-c", script), {b"PATH": b"/usr/bin:/bin"}, b"/", None, False)


def children_of(pid: int) -> list[processes.Process]:
    """The children of `pid`."""
    return [child for child in processes.descendants(pid) if child.parent == pid]
