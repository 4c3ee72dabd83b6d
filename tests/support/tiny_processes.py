"""Postauth and preauth processes of a few lines, and the monitor's ends of their sockets: see `tiny_servers`."""

import json
import os
import pwd
import resource
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes.server_process import Assignment, RunPostauth
from pyssh_gateway.system.descriptors import close_all
from tests.support import processes


class Asking:
    """A monitor's sockets: the one to the spawner, and one to each postauth process, by the account's name."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.accounts: dict[str, socket.socket] = {}
        self._starting: dict[int, str] = {}

    def ask(self, request: protocol.MonitorRequest) -> None:
        """Send the spawner a request."""
        if isinstance(request, protocol.StartPostauth):
            self._starting[request.id] = request.user
        self.control.send(protocol.encode(request))

    def begin_for(self, user: str) -> None:
        """Have a postauth process of the account started, and wait for it; its number is above those of the tests."""
        self.ask(protocol.StartPostauth(FOR_SPAWNS, user))
        while user not in self.accounts:
            self.hear()

    def hear(self) -> list[tuple[str, Any, list[int]]]:
        """The next message: its sender, its contents, and its descriptors; from a postauth process, their number."""
        heard: list[tuple[str, Any, list[int]]] = []
        ready, _, _ = select.select([self.control, *self.accounts.values()], [], [])
        if self.control in ready:
            packet, descriptors = protocol.receive(self.control)
            if not packet:
                sys.exit("the spawner is gone")
            report = protocol.decode_report(packet)
            match report:
                case protocol.Spawned(id=number) if number in self._starting:
                    self.accounts[self._starting.pop(number)] = socket.socket(fileno=descriptors.pop())
                case protocol.TakeOver(user=user):
                    self.accounts[user] = socket.socket(fileno=descriptors.pop())
            heard.append(("spawner", msgspec.to_builtins(report), descriptors))
        for user, account in list(self.accounts.items()):
            if account in ready:
                said = received(account)
                if said:
                    heard.append((user, json.loads(said), []))
                else:
                    self.accounts.pop(user).close()
        return heard


FOR_SPAWNS = 1_000_000
"""The number with which a monitor starts a postauth process that only passes requests on."""


def next_command() -> object:
    """The next line of standard input, as JSON; at its end a command to end.

    No line is read before it is due, so that the next monitor finds the remaining lines.
    """
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1) or b'["end", 0]\n'
    return json.loads(line)


def relays(monitor: socket.socket, spawner: socket.socket) -> int:
    """Pass the monitor's messages on to the spawner, and the spawner's reports to the monitor; end with the spawner."""
    here = True
    while True:
        ready, _, _ = select.select([spawner, *([monitor] if here else [])], [], [])
        if here and monitor in ready:
            packet = received(monitor)
            here = bool(packet)
            if packet:
                spawner.send(packet)
        if spawner in ready:
            try:
                packet, descriptors = protocol.receive(spawner)
            except OSError:
                return 0
            if not packet:
                return 0
            report = protocol.decode_report(packet)
            if isinstance(report, protocol.NewMonitor):
                monitor.close()
                monitor, here = socket.socket(fileno=descriptors[0]), True
                continue
            # Descriptors stay open: a pty whose master is closed can't be a controlling terminal.
            with suppress(OSError):  # the monitor may have ended
                monitor.send(json.dumps([msgspec.to_builtins(report), len(descriptors)]).encode())


def received(end: socket.socket) -> bytes:
    """The next packet; empty if the other side has closed, even if it left something unread."""
    try:
        return end.recv(protocol.MAX_MESSAGE)
    except ConnectionError:
        return b""


def looks(monitor: socket.socket, spawner: socket.socket) -> int:
    """Tell the monitor this process's rights and descriptors, then relay."""
    status = Path("/proc/self/status").read_text().splitlines()
    told = {line.split(":")[0]: line.split()[1:] for line in status}
    facts = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "uids": told["Uid"],
        "gids": told["Gid"],
        "groups": sorted(os.getgroups()),
        "descriptors": processes.descriptors(os.getpid()),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "directory": str(Path.cwd()),
    }
    monitor.send(json.dumps(facts).encode())
    return relays(monitor, spawner)


def floods(monitor: socket.socket, spawner: socket.socket) -> int:
    """Ask for one process after another, as fast as the spawner takes requests, and read the answers.

    Only for the account that TINY_FLOODER names; processes of other accounts relay.
    """
    if pwd.getpwuid(os.getuid()).pw_name != os.environ["TINY_FLOODER"]:
        return relays(monitor, spawner)
    plan = LaunchPlan(os.environ["TINY_FLOODER"], b"/bin/true", (b"true",), {}, b"/", None, False)
    spawner.setblocking(False)
    number = 0
    while True:
        try:
            while True:
                spawner.send(protocol.encode(protocol.Spawn(number, plan)))
                number += 1
        except BlockingIOError:
            if monitor.fileno() >= 0:  # the socket is full: the flood has begun
                monitor.send(b'"flooding"')
                monitor.close()
        select.select([spawner], [spawner], [])
        try:
            packet, descriptors = protocol.receive(spawner)
        except BlockingIOError:
            continue
        if not packet:
            return 0
        close_all(descriptors)


def reads_no_reports(monitor: socket.socket, spawner: socket.socket) -> int:
    """Send requests that are refused, and read none of the answers."""
    plan = LaunchPlan("no-such-user", b"/bin/true", (b"true",), {}, b"/", None, False)
    while True:
        spawner.send(protocol.encode(protocol.Spawn(1, plan)))


def fails(monitor: socket.socket, spawner: socket.socket) -> int:
    """Fail with an exception."""
    raise RuntimeError("a bug of the test's")


def says_nothing(monitor: socket.socket) -> int:
    """A preauth process that tells its monitor its rights and descriptors, and waits for its end."""
    with suppress(ConnectionError):  # a monitor may be gone before this process has begun
        monitor.send(json.dumps([os.getpid(), processes.descriptors(os.getpid())]).encode())
    while received(monitor):
        pass
    return 0


def once_assigned(work: Callable[[socket.socket, socket.socket], int]) -> RunPostauth:
    """A postauth process that does `work` with its sockets to the monitor and to the spawner, once it has them."""

    def run(assignment: Assignment) -> int:
        sockets = assignment.take()
        return 0 if sockets is None else work(*sockets)

    return run


POSTAUTH = {each.__name__: once_assigned(each) for each in (relays, looks, floods, reads_no_reports, fails)}
