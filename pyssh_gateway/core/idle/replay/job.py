"""Work in the background: processes that a session has left behind."""

from collections.abc import Iterable, Mapping

import msgspec

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.replay.spans import Span

SHARED_UID = 1000
"""The account of all simulated processes: it makes no difference to the rules."""


class Phase(msgspec.Struct, frozen=True):
    """For `seconds`, the job uses the share `cpu` of one processor, and moves `io` bytes a second from and to disks."""

    seconds: float
    cpu: float = 1.0
    io: float = 0.0


class Job:
    """A process that goes through its phases while the machine is awake; a suspend makes it wait.

    `wanted`: somebody needs its result, so that its death is a loss. A server that an editor has left behind is not.
    """

    def __init__(self, name: str, phases: Iterable[Phase], *, wanted: bool = True) -> None:
        self.name = name
        self.wanted = wanted
        self.ran: list[Span] = []
        """The spans in which it ran, on the simulation's clock, without the one in which it is running."""
        self._phases = tuple(phases)
        self._seconds = sum(phase.seconds for phase in self._phases)
        self._done = 0.0
        self._since = 0.0
        self.running = False
        """Whether it is running, not waiting or over."""

    @property
    def over(self) -> bool:
        """Whether it has gone through all its phases."""
        return self._done >= self._seconds

    def proceed(self, now: float) -> float:
        """Run from now on. Returns when it will be over."""
        self._since, self.running = now, True
        return now + self._seconds - self._done

    def pause(self, now: float) -> None:
        """Stop running: it is over, the machine is suspended, or (`Machine` forgets it then) it was killed."""
        self.ran.append((self._since, now))
        # A thousandth of a second is nothing to the rules, and more than the sums are wrong by.
        left = self._seconds - self._done - (now - self._since)
        self._done = self._seconds - left if left > 0.001 else self._seconds
        self.running = False

    def process(self, pid: int, now: float) -> Process:
        """The job as a sample at `now` would show it, at a time in the span in which it is running."""
        age = self._done + now - self._since
        cpu = io = 0.0
        for phase in self._phases:
            spent = min(max(age, 0.0), phase.seconds)
            cpu += spent * phase.cpu
            io += spent * phase.io
            age -= spent
        return Process(pid, 1, 0.0, SHARED_UID, self.name, cpu, int(io))


def sample(jobs: Mapping[int, Job], now: float) -> Sample:
    """What the spawner would report of the running jobs, by their pids."""
    return Sample(now, tuple(job.process(pid, now) for pid, job in jobs.items() if job.running))
