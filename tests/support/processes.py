"""The kernel's view of processes, read from /proc, which needs no program and changes nothing; and signals."""

import os
import signal
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """A line of the process table. `state` is a letter of proc(5): Z is a zombie, T is stopped."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int


def find(pid: int) -> Process | None:
    """The process `pid`, if it exists (also as a zombie)."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may contain anything, parentheses and spaces included.
    head, _, tail = text.rpartition(")")
    state, parent, group, session = tail.split()[:4]
    return Process(pid, head.partition("(")[2], state, int(parent), int(group), int(session))


def is_running(pid: int) -> bool:
    """Whether `pid` exists and is not a zombie."""
    process = find(pid)
    return process is not None and process.state != "Z"


def descendants(root: int) -> list[Process]:
    """All processes below `root`, zombies included, in no order."""
    found = [find(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()]
    children: dict[int, list[Process]] = {}
    for process in found:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    below: list[Process] = []
    waiting = [root]
    while waiting:
        next_ones = children.get(waiting.pop(), [])
        below += next_ones
        waiting += [process.pid for process in next_ones]
    return below


def descriptors(pid: int) -> list[str]:
    """The targets of the open descriptors of `pid`, sorted; empty if it is gone."""
    targets = []
    try:
        for link in (PROC / str(pid) / "fd").iterdir():
            try:
                targets.append(str(link.readlink()))
            except FileNotFoundError:  # closed while we looked
                continue
    except (FileNotFoundError, ProcessLookupError):
        return []
    return sorted(targets)


def owner(pid: int) -> int | None:
    """The user id of the process; None if it is gone. Files in /proc may be root's even if it is not."""
    try:
        text = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Uid:"))


def resident_bytes(pid: int) -> int:
    """The memory of `pid` that no other process shares (RssAnon of proc(5)), which a leak increases."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no RssAnon")


def signal_together(pid: int, *numbers: int) -> None:
    """Send signals to our child so that it sees them at the same moment, however busy the machine is."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    for number in (*numbers, signal.SIGCONT):
        os.kill(pid, number)
