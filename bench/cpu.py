"""CPU seconds of a server and of all processes that it forks.

They come from a control group where one can be made, because it also counts the processes that have ended.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.interrupts import held_back
from bench.processes import tree, wait_for

REMOVE_SECONDS = 5.0
"""How long the kernel may take until a control group whose last process has ended can be removed."""


class CpuMeter(Protocol):
    """Adds up the CPU time of a server and of all processes that it forks."""

    is_exact: bool

    def add(self, root: int) -> None:
        """Count this process and all of its descendants, present and future."""

    def seconds(self) -> float:
        """CPU seconds so far."""


class Usage(NamedTuple):
    """How to read a control group's CPU time: the file, the expression that finds it, its unit in seconds."""

    file: str
    pattern: str
    unit: float


VERSION_1 = Usage("cpuacct.usage", r"^(\d+)", 1e-9)
VERSION_2 = Usage("cpu.stat", r"^usage_usec (\d+)", 1e-6)


class ControlGroupMeter:
    """A control group of our own."""

    is_exact = True

    def __init__(self, group: Path, usage: Usage) -> None:
        self._group = group
        self._usage = usage

    def add(self, root: int) -> None:
        """Move the processes into the group; their later children start in it."""
        for pid in tree(root):
            (self._group / "cgroup.procs").write_text(str(pid))

    def seconds(self) -> float:
        """CPU seconds of everything that was ever in the group."""
        found = re.search(self._usage.pattern, (self._group / self._usage.file).read_text(), re.MULTILINE)
        return int(found[1]) * self._usage.unit if found else 0.0


class ProcMeter:
    """The sum over the process tree, for machines where no control group can be made.

    Right only for a server that waits for its children. sshd's monitor does not wait for the process that encrypts.
    """

    is_exact = False

    def __init__(self) -> None:
        self._root = 0

    def add(self, root: int) -> None:
        """Sum up from this process on."""
        self._root = root

    def seconds(self) -> float:
        """CPU seconds of the processes that still run, and of the children that they have waited for."""
        ticks = 0
        for pid in tree(self._root):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def cpu_meter(name: str) -> Iterator[CpuMeter]:
    """The best meter that this machine allows. All processes that were added have to end before the context does."""
    made = _make_group(name)
    if made is None:
        yield ProcMeter()
        return
    group, usage = made
    try:
        yield ControlGroupMeter(group, usage)
    finally:
        with held_back():
            wait_for(lambda: _removed(group), REMOVE_SECONDS, f"removal of the control group {group}")


def _make_group(name: str) -> tuple[Path, Usage] | None:
    """A new control group below our own, in the first hierarchy that lets us make one (cgroups(7))."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount_point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup2":
            path, usage = own.get(""), VERSION_2
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            path, usage = next((own[names] for names in own if "cpuacct" in names.split(",")), None), VERSION_1
        else:
            continue
        if path is None or not path.startswith(root):
            continue
        group = Path(mount_point, path.removeprefix(root).lstrip("/"), name)
        try:
            group.mkdir()
        except OSError:  # mounted for reading, or not ours
            continue
        return group, usage
    return None


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # EBUSY: a process in it is just ending
        return not group.exists()
    return True
