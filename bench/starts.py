"""How long a client waits if it has just woken the machine, and how long if the server runs already."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat

from bench.client import END_SECONDS, read_until
from bench.figures import ACCEPT, FIRST_COMMAND, Figure
from bench.processes import wait_for
from bench.rig import NO_CROWD, Rig, crowd
from bench.servers import Server

MILLISECONDS = 1000

BATCH = 24
AT_ONCE = 8
"""Connections at a time, as of an editor or a build tool that opens all of its connections together."""

ACCOUNTS = 20
"""The most further accounts, each for one first login."""

OPEN = "echo ready; exec cat"
"""The command of a session that stays open."""


KEY_EXCHANGES = (("", ()), (", curve25519", ("-o", "KexAlgorithms=curve25519-sha256")))
"""Key exchanges: the one that the client and each server agree on by default, and one that both servers have.

OpenSSH's client prefers exchanges that resist quantum computers. Which of them exist, and what they cost, depends on
the version, so the default comparison does, too."""


def accept(rig: Rig) -> list[Figure]:
    """From before fork and exec of the server until the kernel would accept a connection for it."""

    def measure(server: Server) -> float:
        begun = time.perf_counter()
        with server.running():
            return (time.perf_counter() - begun) * MILLISECONDS

    return [Figure(ACCEPT, "ms", *rig.in_turns(rig.effort.starts, measure))]


def first_command(rig: Rig) -> list[Figure]:
    """From before fork and exec of the server until `ssh host true`, started as soon as it can connect, has ended."""
    figures = []
    for name, options in KEY_EXCHANGES:

        def measure(server: Server, options: tuple[str, ...] = options) -> float:
            begun = time.perf_counter()
            with server.running():
                rig.client.run(server, "true", *options)
                return (time.perf_counter() - begun) * MILLISECONDS

        figures.append(Figure(FIRST_COMMAND + name, "ms", *rig.in_turns(rig.effort.starts, measure)))
    return figures


def login(rig: Rig) -> list[Figure]:
    """`ssh host true`, from fork to end: of an account that was connected a moment ago, is connected, or never was."""
    figures = []
    with rig.running():
        for name, options in KEY_EXCHANGES:

            def measure(server: Server, options: tuple[str, ...] = options) -> float:
                return rig.client.run(server, "true", *options)[0] * MILLISECONDS

            figures.append(Figure(f"login and command{name}", "ms", *rig.in_turns(rig.effort.logins, measure)))
        figures.append(_login_of_one_who_is_on(rig))
    return [*figures, *_first_logins(rig)]


def _login_of_one_who_is_on(rig: Rig) -> Figure:
    def measure(server: Server) -> float:
        return rig.client.run(server, "true")[0] * MILLISECONDS

    with ExitStack() as stack:
        for server in (rig.ours, rig.sshd):
            read_until(stack.enter_context(rig.client.session(server, OPEN)), b"ready")
        samples = rig.in_turns(rig.effort.logins, measure)
    return Figure("login and command, account is on already", "ms", *samples)


def _first_logins(alone: Rig) -> list[Figure]:
    """Each login is to another account, so that the server has no process for it yet."""
    with crowd(alone, min(alone.effort.logins, ACCOUNTS)) as rig, rig.running():
        if not rig.others:
            rig.note(NO_CROWD)
            return []
        left = {server.name: iter(rig.others) for server in (rig.ours, rig.sshd)}

        def measure(server: Server) -> float:
            return next(left[server.name]).run(server, "true")[0] * MILLISECONDS

        return [Figure("first login of an account", "ms", *rig.in_turns(len(rig.others), measure))]


def parallel(rig: Rig) -> list[Figure]:
    """`ssh host true`, 24 times, 8 at a time, until the last has ended."""

    def measure(server: Server) -> float:
        begun = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(rig.client.run, repeat(server, BATCH), repeat("true")):
                pass
        return (time.perf_counter() - begun) * MILLISECONDS

    with rig.running():
        return [Figure(f"{BATCH} logins, {AT_ONCE} at a time", "ms", *rig.in_turns(rig.effort.batches, measure))]


def shared(rig: Rig) -> list[Figure]:
    """`ssh host true` over the ControlMaster connection of another client."""

    def socket_of(server: Server) -> str:
        return str(rig.directory / f"{server.name}.master")

    def measure(server: Server) -> float:
        return rig.client.run(server, "true", "-S", socket_of(server))[0] * MILLISECONDS

    def ready() -> bool:
        return all((rig.directory / f"{server.name}.master").exists() for server in (rig.ours, rig.sshd))

    with (
        rig.running(),
        rig.client.session(rig.ours, None, "-M", "-N", "-S", socket_of(rig.ours)),
        rig.client.session(rig.sshd, None, "-M", "-N", "-S", socket_of(rig.sshd)),
    ):
        wait_for(ready, END_SECONDS, "ControlMaster sockets")
        return [Figure("command on a shared connection", "ms", *rig.in_turns(rig.effort.commands, measure))]
