"""Whether processes that sessions have left behind are working, and for how long that keeps the machine up.

Pure: it is given samples of the processes and a clock. It knows neither the samples' origin nor the connections.

Processor time and I/O of a process count those of its children that it has waited for, as the kernel counts them. So
the thousand short compiler runs of a build are not missed between two samples: their usage is counted at the make that
waited for them.
"""

from collections import defaultdict

import msgspec

IO_BYTES_PER_SECOND = 1024 * 1024
"""Disk I/O of so many bytes a second is work, whatever the processor time. An editor's server that is left behind
writes some kilobytes of log and state; a backup, copy or download that deserves a running machine moves more."""

INTERVAL_SECONDS = 15.0
"""The longest time between two samples: long enough that a short peak of an idle program does not count as work (10 %
of a processor is 1.5 s of it), and short compared with the usual idle timeout of a minute."""

INTERVALS_IN_IDLE = 3
"""An idle timeout has at least so many intervals, so that work is detected before the machine would stop."""

QUIET_INTERVALS = 2
"""Work is over after so many intervals in a row without it; so a build may wait for a download for a moment."""

FIRST_HOLD = 3
LONGEST_HOLD = 20
"""For how many intervals work holds the machine when it is first detected, and at most for each renewal. The first is
one more than it takes to notice the end of work. Each renewal is a line in the log and twice as long as the one before,
so that a night's build makes a dozen lines an hour. If the watcher dies, the machine stays up for the longest, five
minutes."""

NAMES = 3
"""How many programs a `Work` names."""

_MAX_DEPTH = 64
"""How many generations of parents are searched for the one that waited for a process: more than any build has (make in
make in a shell), and few enough that a chain made on purpose costs nothing."""

_TICK = 0.01
"""By how many seconds a start time may be too early: the kernel gives it in hundredths."""


class Process(msgspec.Struct, frozen=True, array_like=True):
    """The state of a process. `started`, in seconds since the boot, distinguishes it from a later one with its `pid`.

    `cpu` is in seconds, `io` in bytes from and to disks; both include the children that it has waited for. `tty` is its
    terminal below /dev, if that is a pty.
    """

    pid: int
    parent: int
    started: float
    uid: int
    name: str
    cpu: float
    io: int
    tty: str = ""


class Sample(msgspec.Struct, frozen=True):
    """The processes that sessions have left behind (some, if there are very many), at `at` seconds since the boot."""

    at: float
    processes: tuple[Process, ...]


class Work(msgspec.Struct, frozen=True):
    """The work between two samples: `cpu` is in processors (1.0 is one all the time), `io` in bytes a second.

    `names` are the programs that did most of it, the busiest first, and `uids` their accounts.
    """

    cpu: float
    io: float
    names: tuple[str, ...]
    uids: tuple[int, ...]


class Hold(msgspec.Struct, frozen=True):
    """The work holds the machine for `seconds` from now."""

    seconds: float


class Over(msgspec.Struct, frozen=True):
    """The work does not hold the machine any more: it has stopped, or (`limit`) it has used up its time."""

    limit: bool


def interval(idle_timeout: float) -> float:
    """Seconds between two samples."""
    return min(INTERVAL_SECONDS, idle_timeout / INTERVALS_IN_IDLE)


def work_between(before: Sample, after: Sample, percent: float) -> Work | None:
    """The work between two samples: more than `percent` of one processor, or much I/O. None if there was less."""
    seconds = after.at - before.at
    if seconds <= 0:
        return None
    shares = _shares(before, after)
    cpu = sum(share[1] for share in shares) / seconds
    io = sum(share[2] for share in shares) / seconds
    if cpu * 100 <= percent and io <= IO_BYTES_PER_SECOND:
        return None
    # Both on one scale, on which 1 is the threshold of work.
    busy = [(cpu * 100 / percent + io / IO_BYTES_PER_SECOND, process) for process, cpu, io in shares if cpu or io]
    busiest = [process for _, process in sorted(busy, key=lambda entry: entry[0], reverse=True)]
    names = tuple(dict.fromkeys(process.name for process in busiest))[:NAMES]
    uids = tuple(dict.fromkeys(process.uid for process in busiest if process.name in names))
    return Work(cpu, io, names, uids)


def busy_terminals(before: Sample, after: Sample, percent: float) -> frozenset[str]:
    """The terminals whose processes have used more than `percent` of one processor between the two samples."""
    seconds = after.at - before.at
    used: defaultdict[str, float] = defaultdict(float)
    for process, cpu, _ in _shares(before, after):
        used[process.tty] += cpu
    return frozenset(tty for tty, cpu in used.items() if tty and seconds > 0 and cpu / seconds * 100 > percent)


def _shares(before: Sample, after: Sample) -> list[tuple[Process, float, int]]:
    """Processor seconds and bytes of each process of the second sample since the first one."""
    had = {process.pid: process for process in before.processes}
    has = {process.pid: process for process in after.processes}

    def survives(process: Process) -> bool:
        return process.pid in has and has[process.pid].started == process.started

    # Usage before the first sample, including that of ended processes: a parent that waited for one includes it.
    old_cpu: defaultdict[int, float] = defaultdict(float)
    old_io: defaultdict[int, int] = defaultdict(int)
    for process in before.processes:
        if survives(process):
            old_cpu[process.pid] += process.cpu
            old_io[process.pid] += process.io
            continue
        heir = had.get(process.parent)
        for _ in range(_MAX_DEPTH):
            if heir is None or survives(heir):
                break
            heir = had.get(heir.parent)
        if heir is not None:
            old_cpu[heir.pid] += process.cpu
            old_io[heir.pid] += process.io
    shares = []
    for process in after.processes:
        earlier = had.get(process.pid)
        if earlier is not None and survives(earlier):
            # A parent need not wait for its child; then the difference is smaller than expected, and may be negative.
            cpu, io = process.cpu - old_cpu[process.pid], process.io - old_io[process.pid]
            shares.append((process, max(cpu, 0.0), max(io, 0)))
        elif process.started >= before.at - _TICK:
            shares.append((process, process.cpu, process.io))
        # An older process that is not in the first sample was left out there: its usage since then is unknown.
    return shares


class Vigil:
    """Decides after each interval whether work begins to hold the machine, for how long, and when that ends.

    `interval` is the seconds between two calls, `maximum` how long work may hold when no other reason is left.
    """

    def __init__(self, interval: float, maximum: float) -> None:
        self._interval = interval
        self._maximum = maximum
        self._limit = 0.0
        self._held_until = 0.0
        self._length = 0.0
        self._quiet = 0

    def begin(self, now: float) -> None:
        """From now on no other reason keeps the machine up. A hold from an earlier time continues."""
        self._limit = now + self._maximum
        self._quiet = 0

    def is_spent(self, now: float) -> bool:
        """Whether work has used up its time: it may hold again only after another reason has come and gone."""
        return now >= self._limit

    def see(self, *, worked: bool, now: float) -> Hold | Over | None:
        """Judge an interval that has just ended. None: nothing changes."""
        is_held = self._held_until > 0
        if self.is_spent(now):
            self._held_until = 0.0
            return Over(limit=True) if is_held else None
        if not worked:
            self._quiet += 1
            if not is_held or self._quiet < QUIET_INTERVALS:
                return None
            self._held_until = 0.0
            return Over(limit=False)
        self._quiet = 0
        # A hold has to last until the end of work would be noticed, but never beyond the limit.
        if self._held_until >= min(now + FIRST_HOLD * self._interval, self._limit):
            return None
        longest = LONGEST_HOLD * self._interval
        self._length = min(2 * self._length, longest) if is_held else FIRST_HOLD * self._interval
        self._held_until = min(now + self._length, self._limit)
        return Hold(self._held_until - now)
