"""The resources that the processes of sessions have used so far, read from /proc (proc(5)).

The processes of sessions are all descendants of the spawner, except those that the caller names and their descendants.
Processes that a session has left behind are included: the spawner adopts orphans (PR_SET_CHILD_SUBREAPER of prctl(2)).
This module measures, and decides nothing.
"""

import os
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.terminals import line_of
from pyssh_gateway.spawner.sampling import accounts
from pyssh_gateway.spawner.sampling.accounts import Facts, Owner
from pyssh_gateway.spawner.sampling.proc import read_file

PROC = "/proc"

MAX_LOOKED_AT = 16_384
"""How many of the machine's processes are looked at. Each costs 20 microseconds of a processor that logins may need.
Half of the default maximum of a machine (kernel.pid_max, 32768)."""

MAX_PROCESSES = 2_000
"""How many processes a sample has. Each takes at most 120 bytes of a message, which may have 256 KiB. Those nearest to
the spawner come first: when a descendant ends, its usage is added to its parent's."""

_STAT_BYTES = 1024
"""More bytes than a line of /proc/PID/stat has: 52 numbers and a name of 15 bytes."""

_TICKS = os.sysconf("SC_CLK_TCK")


class _Stat:
    """The line of a process in /proc/PID/stat."""

    __slots__ = ("cpu", "name", "parent", "pid", "started", "tty")

    def __init__(self, pid: int, line: bytes) -> None:
        # The name is in parentheses and may contain anything, parentheses and spaces included.
        head, _, tail = line.rpartition(b")")
        fields = tail.split()  # from the third on, as proc(5) counts them
        self.pid = pid
        self.name = head.partition(b"(")[2].decode(errors="replace")
        self.parent = int(fields[1])
        self.tty = line_of(int(fields[4]))
        # utime and stime, then cutime and cstime, the same for children that were waited for.
        self.cpu = sum(map(int, fields[11:15])) / _TICKS
        self.started = int(fields[19]) / _TICKS

    @property
    def order(self) -> tuple[float, int]:
        """Sorts processes by their start; within one tick (a hundredth of a second) by their pid."""
        return self.started, self.pid


def sample(root: int, besides: AbstractSet[int], taker: int | None = None) -> Sample:
    """The descendants of the process `root`, without the processes `besides` and their descendants.

    `taker` is the child of `root` that takes the sample. A process that `root` started after `taker` may be missing in
    `besides`, so it is left for the next sample.
    """
    at = time.clock_gettime(time.CLOCK_BOOTTIME)  # first: a process that is not in the sample was started later
    children: dict[int, list[_Stat]] = {}
    with os.scandir(PROC) as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names[:MAX_LOOKED_AT]:
        line = read_file(f"{PROC}/{name}/stat", _STAT_BYTES)
        if line:
            stat = _Stat(int(name), line)
            children.setdefault(stat.parent, []).append(stat)
    found: list[_Stat] = []
    last = max((stat.order for stat in children.get(root, []) if stat.pid == taker), default=None)
    if last is not None:
        children[root] = [stat for stat in children[root] if stat.order < last]
    parents = [root]
    while parents and len(found) < MAX_PROCESSES:
        generation = [stat for pid in parents for stat in children.pop(pid, []) if stat.pid not in besides]
        found += generation
        parents = [stat.pid for stat in generation]
    del found[MAX_PROCESSES:]
    owners = {stat.pid: _owner(stat.pid) for stat in found}
    facts = accounts.look(PROC, owners)
    return Sample(at, tuple(_process(stat, owners[stat.pid], facts.get(stat.pid, Facts())) for stat in found))


def _process(stat: _Stat, owner: Owner, facts: Facts) -> Process:
    return Process(
        pid=stat.pid,
        parent=stat.parent,
        started=stat.started,
        uid=owner.uid,
        name=stat.name,
        cpu=stat.cpu,
        io=facts.io,
        tty=stat.tty,
        hold=facts.hold,
    )


def _owner(pid: int) -> Owner:
    """The effective uid and gid of the process; root's if it has gone, or may not be looked into (proc(5))."""
    try:
        found = Path(f"{PROC}/{pid}").stat()
    except OSError:
        return Owner(accounts.ROOT, accounts.ROOT)
    return Owner(found.st_uid, found.st_gid)
