"""The memory of a server: proportional set size (PSS) of all its processes, without those that it runs for users."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from bench.client import Client, read_until
from bench.figures import Figure
from bench.processes import Deadline, family, pss_bytes, wait_for
from bench.rig import NO_CROWD, Rig, crowd
from bench.servers import Server

SESSIONS = 20
ACCOUNTS = 20

UNUSED_SECONDS = 120.0
"""After this time a login's processes have ended for certain: our server keeps an unused postauth for a minute."""

RESIDENT = 2
"""Our processes that stay while nobody is connected: the spawner and the monitor."""

NOT_SHOWN = "The kernel shows only root what the server's processes occupy, which can't be looked into: run as root."

LOOK_SECONDS = 0.2
"""Seconds between two measurements of the memory, which have to agree."""

SETTLE_SECONDS = 10.0
"""How long it may take until they agree: processes of an earlier login end, freed memory is returned."""

SAME = 0.01
"""The relative difference up to which two measurements agree."""

# Runs and is idle, like a shell at its prompt.
IDLE = "echo ready; exec cat"


class Memory(NamedTuple):
    """Bytes of PSS, of the server without a session and with many."""

    idle: float
    busy: float

    @property
    def per_session(self) -> float:
        """The bytes that one more session takes."""
        return (self.busy - self.idle) / SESSIONS


def memory(rig: Rig) -> list[Figure]:
    """Freshly started servers after one login, then with 20 sessions of one account; and with 20 accounts connected."""
    try:
        return [*_one_account(rig), *_unused(rig), *_many_accounts(rig)]
    except PermissionError:
        rig.note(NOT_SHOWN)
        return []


def _one_account(rig: Rig) -> list[Figure]:
    def measure(server: Server) -> Memory:
        with server.running():
            rig.client.run(server, "true")
            idle = _settled(server)
            return Memory(idle, _occupied(server, [rig.client] * SESSIONS))

    with rig.running():
        compare = rig.sshd_gives_terminals()
    ours, sshd = rig.in_turns(rig.effort.fleets, measure, compare=compare)
    return [
        Figure("memory (PSS), no session", "MiB", _mebibytes(m.idle for m in ours), _mebibytes(m.idle for m in sshd)),
        Figure(
            f"memory (PSS), {SESSIONS} idle sessions",
            "MiB",
            _mebibytes(m.busy for m in ours),
            _mebibytes(m.busy for m in sshd),
        ),
        Figure(
            "memory (PSS), each idle session",
            "KiB",
            tuple(m.per_session / 2**10 for m in ours),
            tuple(m.per_session / 2**10 for m in sshd),
        ),
    ]


def _unused(rig: Rig) -> list[Figure]:
    """Our server after the process that it kept for the next login has ended; sshd keeps none."""

    def measure() -> float:
        with rig.ours.running():
            rig.client.run(rig.ours, "true")
            wait_for(lambda: _is_alone(rig.ours), UNUSED_SECONDS, "end of unused processes", poll=LOOK_SECONDS)
            return _settled(rig.ours)

    ours = [measure() for _ in range(rig.effort.minutes)]
    return [Figure("memory (PSS), a minute after a login", "MiB", _mebibytes(ours), ())] if ours else []


def _many_accounts(alone: Rig) -> list[Figure]:
    with crowd(alone, ACCOUNTS) as rig:
        if not rig.others:
            rig.note(NO_CROWD)
            return []

        def measure(server: Server) -> float:
            with server.running():
                return _occupied(server, rig.others)

        ours, sshd = rig.in_turns(rig.effort.fleets, measure)
        return [Figure(f"memory (PSS), {ACCOUNTS} accounts on", "MiB", _mebibytes(ours), _mebibytes(sshd))]


def _occupied(server: Server, clients: Iterable[Client]) -> float:
    """The PSS of the server with an idle session for each of `clients`, on a connection and a pty of its own."""
    with ExitStack() as stack:
        sessions = [stack.enter_context(client.session(server, IDLE, "-tt")) for client in clients]
        for session in sessions:
            read_until(session, b"ready")
        return _settled(server)


def _mebibytes(samples: Iterable[float]) -> tuple[float, ...]:
    return tuple(sample / 2**20 for sample in samples)


def _settled(server: Server) -> float:
    """The PSS of the server once it stays the same."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = 0
    while True:
        now = sum(map(pss_bytes, family(server.pid, server.family)))
        if abs(now - last) <= now * SAME:
            return now
        if time.monotonic() > deadline:
            raise Deadline(f"the memory of {server.name} did not settle within {SETTLE_SECONDS:.0f} s")
        last = now
        time.sleep(LOOK_SECONDS)


def _is_alone(server: Server) -> bool:
    return len(family(server.pid, server.family)) == RESIDENT
