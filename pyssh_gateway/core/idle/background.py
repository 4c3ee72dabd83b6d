"""Whether processes that sessions have left behind are working, and for how long that keeps the machine up.

Pure: it is given samples of the processes and a clock. It knows neither the samples' origin nor the connections.

Processor time and bytes of a process count those of its children that it has waited for, as the kernel counts them. So
the thousand short compiler runs of a build are not missed between two samples: their usage is counted at the make that
waited for them.
"""

from collections import defaultdict

import msgspec

IO_BYTES_PER_SECOND = 1024 * 1024
"""So many bytes a second, moved by all processes together, are work, whatever the processor time. An editor's server
that is left behind writes some kilobytes of log and state; a backup or copy moves more."""

SLOW_BYTES_PER_SECOND = 100 * 1024
"""So many bytes a second, moved by one process without a pause, are work: a download at 300 kB/s, which uses 0.1 % of a
processor. Measured, in kB/s, beside it: `watch -n1 ps aux` 17, `top -d 1` 8, `htop` 1, the spinner of an agent that
waits 1. It has to be one process: a hundred of an editor's server that talk to each other are no download."""

SLOW_INTERVALS = 2
"""Slow work counts once it has gone on for so many intervals in a row, half a minute. An idle program also writes its
state or an index once in a while, and such a burst has ended by then. An idle timeout has one interval more, so slow
work is detected before the machine would stop."""

NOISE_PERCENT = 1.0
"""A process that uses less of a processor than this does not count: it only wakes up now and then. VS Code's server
leaves up to a hundred of them behind (microsoft/vscode-remote-release#9147), which together would look like work.
Measured: its server, language servers and 40 node processes with a heartbeat use 2.4 % together, and 0.4 % each at
most; a process that works, or waits for children that do, uses more than one percent. There is no lower threshold for a
single process than `idle.background_cpu`: a training run that waits for its graphics card uses 2 or 3 %, and so do
development servers that watch files, which would then hold the machine every night."""

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

MAX_GENERATIONS = 64
"""How many generations of parents are searched for the one that waited for a process: more than any build has (make in
make in a shell), and few enough that a chain made on purpose costs nothing."""

_TICK = 0.01
"""By how many seconds a start time may be too early: the kernel gives it in hundredths."""


class Process(msgspec.Struct, frozen=True, array_like=True):
    """The state of a process. `started`, in seconds since the boot, distinguishes it from a later one with its `pid`.

    `cpu` is in seconds; `io` in bytes read from disks and written to anything. Both include the children that it has
    waited for. `tty` is its terminal below /dev, if that is a pty. `hold` is for how many seconds from its start it
    asks to hold the machine (`core.idle.variable`), 0 for not at all.
    """

    pid: int
    parent: int
    started: float
    uid: int
    name: str
    cpu: float
    io: int
    tty: str = ""
    hold: float = 0.0


class Sample(msgspec.Struct, frozen=True):
    """The processes that sessions have left behind (some, if there are very many), at `at` seconds since the boot."""

    at: float
    processes: tuple[Process, ...]


class Work(msgspec.Struct, frozen=True):
    """The work between two samples: `cpu` is in processors (1.0 is one all the time), `io` in bytes a second.

    `names` are the programs that did most of it, the busiest first, and `uids` their accounts. `slow`: it is work only
    if it goes on (`SLOW_INTERVALS`).
    """

    cpu: float
    io: float
    names: tuple[str, ...]
    uids: tuple[int, ...]
    slow: bool = False


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
    """The work between two samples: more than `percent` of one processor, or many bytes. None if there was less."""
    seconds = after.at - before.at
    if seconds <= 0:
        return None
    shares = [
        (process, used if used * 100 >= NOISE_PERCENT * seconds else 0.0, moved)
        for process, used, moved in _shares(before, after)
    ]
    cpu = sum(share[1] for share in shares) / seconds
    io = sum(share[2] for share in shares) / seconds
    is_slow = cpu * 100 <= percent and io <= IO_BYTES_PER_SECOND
    if is_slow and max((share[2] for share in shares), default=0) <= SLOW_BYTES_PER_SECOND * seconds:
        return None
    # Both on one scale, on which 1 is the threshold of work.
    busy = [(cpu * 100 / percent + io / IO_BYTES_PER_SECOND, process) for process, cpu, io in shares if cpu or io]
    busiest = [process for _, process in sorted(busy, key=lambda entry: entry[0], reverse=True)]
    names = tuple(dict.fromkeys(process.name for process in busiest))[:NAMES]
    uids = tuple(dict.fromkeys(process.uid for process in busiest if process.name in names))
    return Work(cpu, io, names, uids, is_slow)


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
        for _ in range(MAX_GENERATIONS):
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


class Patience:
    """Tells which work counts: slow work does when it has gone on for `SLOW_INTERVALS`."""

    def __init__(self) -> None:
        self._slow = 0

    def judge(self, work: Work | None) -> Work | None:
        """The work of the interval that has just ended, if it counts."""
        self._slow = self._slow + 1 if work is not None else 0
        return work if work is not None and (not work.slow or self._slow >= SLOW_INTERVALS) else None

    def forget(self) -> None:
        """The interval that comes next does not follow the last one."""
        self._slow = 0


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
