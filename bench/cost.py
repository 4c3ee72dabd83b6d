"""The cost of moving data: wall time, and the CPU time of the server. Does not know what is moved."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from bench.cpu import CpuMeter, cpu_meter
from bench.figures import Figure
from bench.rig import Rig
from bench.servers import Server

NO_CONTROL_GROUP = (
    "No control group can be made here, so our CPU time is from /proc, and sshd's can't be known: its processes end "
    "without being waited for. Run as root to see it."
)


class Moved(NamedTuple):
    """One transfer: its wall time in seconds, and the CPU seconds that the user's command used, not the server."""

    wall: float
    command: float = 0.0


class _Cost(NamedTuple):
    wall: float
    cpu: float


@dataclass(frozen=True)
class Metered:
    """Both servers running, with a meter on each."""

    rig: Rig
    meters: dict[str, CpuMeter]

    def figures(self, name: str, move: Callable[[Server], Moved]) -> list[Figure]:
        """The wall time and the server's CPU time of `move`, which is run with both servers in turns."""

        def measure(server: Server) -> _Cost:
            meter = self.meters[server.name]
            before = meter.seconds()
            moved = move(server)
            return _Cost(moved.wall, meter.seconds() - before - moved.command)

        exact = all(meter.is_exact for meter in self.meters.values())
        ours, sshd = self.rig.in_turns(self.rig.effort.transfers, measure)
        return [
            Figure(f"{name}: wall", "s", _walls(ours), _walls(sshd)),
            Figure(f"{name}: server CPU", "s", _cpus(ours), _cpus(sshd) if exact else ()),
        ]


@contextmanager
def metered(rig: Rig) -> Iterator[Metered]:
    """Start both servers, each in a control group of its own if one can be made; if not, a note says so."""
    with ExitStack() as stack:
        meters: dict[str, CpuMeter] = {
            server.name: stack.enter_context(cpu_meter(f"pyssh-bench-{os.getpid()}-{server.name}"))
            for server in (rig.ours, rig.sshd)
        }
        stack.enter_context(rig.running())
        for server in (rig.ours, rig.sshd):
            meters[server.name].add(server.pid)
        if not all(meter.is_exact for meter in meters.values()):
            rig.note(NO_CONTROL_GROUP)
        yield Metered(rig, meters)


def command_seconds(times: bytes) -> float:
    """The CPU seconds in the output of the shell's `times`: of the shell and its children, user and system."""
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(rb"(\d+)m([\d.]+)s", times))


def _walls(costs: Sequence[_Cost]) -> tuple[float, ...]:
    return tuple(cost.wall for cost in costs)


def _cpus(costs: Sequence[_Cost]) -> tuple[float, ...]:
    return tuple(cost.cpu for cost in costs)
