"""Whether what sessions have left behind is at work, and for how long that holds the machine.

Pure: it is given samples of the processes and a clock. It knows neither where samples come from nor who is on.

Processor time and I/O of a process count those of its children that it has waited for, as the kernel counts them. So a
build's thousand short compilers are not missed between two samples: what they used shows at the make that waited for
them.
"""

from collections import defaultdict

import msgspec

IO_BYTES_PER_SECOND = 1024 * 1024
"""From how much read from disks or written to them a second is work on its own. An editor's server that is left behind
writes some kilobytes of log and state; a backup, a copy or a download that is worth a running machine moves more."""

INTERVAL_SECONDS = 15.0
"""How long the time between two samples is at most: long enough for a short peak of something idle to be no work (10 %
of a processor are 1.5 s in it), short enough beside the usual idle timeout of a minute."""

INTERVALS_IN_IDLE = 3
"""An idle timeout has at least so many intervals, so that work is seen before the machine would stop."""

QUIET_INTERVALS = 2
"""After so many intervals without work in a row it is over. A build that waits for a download is not, at once."""

FIRST_HOLD = 3
LONGEST_HOLD = 20
"""For how many intervals a first sight of work holds, and at most a renewal. The first is one more than it takes to see
that it is over. Each renewal is a line in the log and twice as long as the one before, so that a night's build makes a
dozen lines an hour; the longest, five minutes, is what a watcher that died would cost."""

NAMES = 3
"""How many programs are named."""

_MAX_DEPTH = 64
"""How many generations up somebody is looked for who waited for a process: more than any build has (make in make in a
shell), and few enough for a chain that somebody made on purpose to cost nothing."""

_TICK = 0.01
"""By how many seconds a start, which the kernel tells in hundredths, may seem earlier than it was."""


class Process(msgspec.Struct, frozen=True, array_like=True):
    """A process as it stands. `started` is in seconds since the boot and tells it from a later one of the same `pid`.

    `cpu` is in seconds, `io` in bytes from and to disks; both with what the children used that it has waited for. `tty`
    is its terminal below /dev, if that is a pty.
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
    """All processes that sessions have left, or some of them if they are very many, at `at` seconds since the boot."""

    at: float
    processes: tuple[Process, ...]


class Work(msgspec.Struct, frozen=True):
    """What was done between two samples: `cpu` is processors (1.0 is one all the time), `io` bytes a second.

    `names` are the programs that did most of it, the busiest first, and `uids` whose they are.
    """

    cpu: float
    io: float
    names: tuple[str, ...]
    uids: tuple[int, ...]


class Hold(msgspec.Struct, frozen=True):
    """The work holds the machine for `seconds` from now."""

    seconds: float


class Over(msgspec.Struct, frozen=True):
    """It does not any more: it has stopped, or (`limit`) it has held for as long as it may."""

    limit: bool


def interval(idle_timeout: float) -> float:
    """Seconds between two samples."""
    return min(INTERVAL_SECONDS, idle_timeout / INTERVALS_IN_IDLE)


def work_between(before: Sample, after: Sample, percent: float) -> Work | None:
    """What was done between the two samples, if it is work: more than `percent` of one processor, or much I/O."""
    seconds = after.at - before.at
    if seconds <= 0:
        return None
    shares = _shares(before, after)
    cpu = sum(share[1] for share in shares) / seconds
    io = sum(share[2] for share in shares) / seconds
    if cpu * 100 <= percent and io <= IO_BYTES_PER_SECOND:
        return None
    # Both on one scale, on which 1 is just work.
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

    # What was used before the first sample, by processes that have ended since, and shows at who waited for them now.
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
            # Nobody need wait for a child, and then there is less than was expected.
            cpu, io = process.cpu - old_cpu[process.pid], process.io - old_io[process.pid]
            shares.append((process, max(cpu, 0.0), max(io, 0)))
        elif process.started >= before.at - _TICK:
            shares.append((process, process.cpu, process.io))
        # What is older and was not seen before was left out of the first sample: nobody knows what it did since.
    return shares


class Vigil:
    """From judgement to judgement: when work begins to hold the machine, for how long, and when that is over.

    `interval` is the time between two judgements, `maximum` for how long work may hold after nobody else does.
    """

    def __init__(self, interval: float, maximum: float) -> None:
        self._interval = interval
        self._maximum = maximum
        self._limit = 0.0
        self._held_until = 0.0
        self._length = 0.0
        self._quiet = 0

    def begin(self, now: float) -> None:
        """From now on nobody else keeps the machine up. What still holds it from an earlier time goes on."""
        self._limit = now + self._maximum
        self._quiet = 0

    def is_spent(self, now: float) -> bool:
        """Whether work may not hold the machine any more until somebody has come and gone."""
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
        # It is to last until it would be seen that it is over; and it can't be made to last longer than the limit.
        if self._held_until >= min(now + FIRST_HOLD * self._interval, self._limit):
            return None
        longest = LONGEST_HOLD * self._interval
        self._length = min(2 * self._length, longest) if is_held else FIRST_HOLD * self._interval
        self._held_until = min(now + self._length, self._limit)
        return Hold(self._held_until - now)
