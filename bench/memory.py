"""What a server occupies: proportional set size (PSS) of all its processes, without those that it runs for users."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.client import read_until
from bench.figures import Figure
from bench.processes import Deadline, program, pss_bytes, tree
from bench.rig import Rig
from bench.servers import Server

SESSIONS = 20

LOOK_SECONDS = 0.2
"""Between two looks at the memory, which has to be the same in both."""

SETTLE_SECONDS = 10.0
"""How long it may take until it is: processes of an earlier login end, freed memory is returned."""

SAME = 0.01
"""A difference by this share is none."""

# Alive and idle, as a shell at its prompt.
IDLE = "echo ready; exec cat"


class Memory(NamedTuple):
    """Bytes of PSS, and of each session beyond what is there without one."""

    idle: float
    busy: float

    @property
    def per_session(self) -> float:
        """What one more session takes."""
        return (self.busy - self.idle) / SESSIONS


def memory(rig: Rig) -> list[Figure]:
    """Freshly started servers after one login, then with 20 sessions, each on a connection and a pty of its own."""

    def measure(server: Server) -> Memory:
        with server.running(), ExitStack() as stack:
            rig.client.run(server, "true")
            idle = _settled(server)
            sessions = [stack.enter_context(rig.client.session(server, IDLE, "-tt")) for _ in range(SESSIONS)]
            for session in sessions:
                read_until(session, b"ready")
            return Memory(idle, _settled(server))

    with rig.running():
        compare = rig.sshd_gives_terminals()
    ours, sshd = rig.in_turns(rig.effort.fleets, measure, compare=compare)
    mebi, kibi = 1 / 2**20, 1 / 2**10
    return [
        Figure(
            "memory (PSS), no session", "MiB", tuple(m.idle * mebi for m in ours), tuple(m.idle * mebi for m in sshd)
        ),
        Figure(
            f"memory (PSS), {SESSIONS} idle sessions",
            "MiB",
            tuple(m.busy * mebi for m in ours),
            tuple(m.busy * mebi for m in sshd),
        ),
        Figure(
            "memory (PSS), each idle session",
            "KiB",
            tuple(m.per_session * kibi for m in ours),
            tuple(m.per_session * kibi for m in sshd),
        ),
    ]


def _settled(server: Server) -> float:
    """The PSS of the server once it stays the same."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = 0
    while True:
        now = sum(map(pss_bytes, _own_processes(server)))
        if abs(now - last) <= now * SAME:
            return now
        if time.monotonic() > deadline:
            raise Deadline(f"the memory of {server.name} did not settle within {SETTLE_SECONDS:.0f} s")
        last = now
        time.sleep(LOOK_SECONDS)


def _own_processes(server: Server) -> list[int]:
    """The server's processes: those that run its program, or one of the same family (sshd-session, sshd-auth)."""
    family = Path(program(server.pid)).name
    return [pid for pid in tree(server.pid) if Path(program(pid)).name.startswith(family)]
