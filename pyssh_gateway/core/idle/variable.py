"""PYSSH_HOLD: a variable in a command's environment with which a person says that the machine is to stay up for it.

`PYSSH_HOLD=1 make -j8 &` holds the machine while make runs, `PYSSH_HOLD=2h make -j8 &` for two hours from its start at
most. Processes inherit the variable; the topmost process that has it is the one that holds. When it has ended, and has
left others behind that have the variable, each of those is a topmost one. Pure: it is given environments and samples.
"""

import re

import msgspec

from pyssh_gateway.core.idle import hold_length
from pyssh_gateway.core.idle.background import MAX_GENERATIONS, Process, Sample

NAME = "PYSSH_HOLD"

MAX_ENVIRONMENT = 64 * 1024
"""Bytes of a process's environment that are read. Environments have some kilobytes, and this is room for a large one;
a variable behind it is not seen. It bounds what a process with a huge environment costs."""

MAX_VALUE = 32
"""Bytes of a value: more than any length of time has that is written by a person."""

WHILE_IT_RUNS = float(hold_length.LONGEST)
"""The seconds that `1` stands for: no limit of its own. The server's own limit, `idle.hold_max`, is always less."""

_BEFORE = NAME.encode() + b"="

_WORD = re.compile(rb"[0-9a-z.]{1,32}")
"""What a length in one word consists of, so that nothing else of the untrusted value is ever decoded."""


class Wanted(msgspec.Struct, frozen=True):
    """The process of the account `uid` that is to hold the machine, for `seconds` more at most.

    `pid` and `started`, in seconds since the boot, identify it. `name` is its program's name, as it gives it itself.
    """

    pid: int
    started: float
    uid: int
    name: str
    seconds: float


def asked_for(environment: bytes) -> float:
    """For how many seconds from its start a process with this environment is to hold the machine; 0: it is not."""
    for entry in environment[:MAX_ENVIRONMENT].split(b"\0"):
        if entry.startswith(_BEFORE):  # the first one counts, as for getenv(3)
            return seconds_of(entry[len(_BEFORE) :])
    return 0.0


def seconds_of(value: bytes) -> float:
    """The seconds that the variable's `value` stands for: `1`, or a length such as 2h or 1h30m. 0: it is neither."""
    if len(value) > MAX_VALUE or not _WORD.fullmatch(value):
        return 0.0
    if value == b"1":
        return WHILE_IT_RUNS
    try:
        seconds, _ = hold_length.split((value.decode("ascii"),))
    except hold_length.NoLength:
        return 0.0
    return seconds or 0.0


def wanted(sample: Sample) -> tuple[Wanted, ...]:
    """The processes that are to hold the machine: those with the variable whose ancestors in the sample don't have it.

    A process below one that holds, or whose time is over, asks for nothing by itself: otherwise a build would hold for
    longer than it says, by each compiler that it starts.
    """
    by_pid = {process.pid: process for process in sample.processes}
    found = []
    for process in sample.processes:
        left = process.started + process.hold - sample.at
        if process.hold > 0 and left > 0 and not _has_an_ancestor_with_it(process, by_pid):
            found.append(Wanted(process.pid, process.started, process.uid, process.name, left))
    return tuple(found)


def _has_an_ancestor_with_it(process: Process, by_pid: dict[int, Process]) -> bool:
    parent = by_pid.get(process.parent)
    for _ in range(MAX_GENERATIONS):
        if parent is None or parent.hold > 0:
            break
        parent = by_pid.get(parent.parent)
    return parent is not None and parent.hold > 0
