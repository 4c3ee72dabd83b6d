"""The free resources of the machine: memory, descriptors, processes, terminals; and the capabilities of root here."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from pyssh_gateway.cli.doctor.finding import Finding, note, ok, problem, warning
from pyssh_gateway.cli.output.text import size

TOPIC = "resources"

LITTLE_MEMORY_BYTES = 96 * 1024 * 1024
"""Below it there is a warning: the server takes 60 MiB, and a shell with an editor as much (docs/benchmarks.md)."""

FEW_DESCRIPTORS = 1024
"""Descriptors below which there is a warning: a connection takes one, and a quarter is for unauthenticated clients."""

FEW_PROCESSES = 64
"""Processes below which there is a warning: an editor's server starts tens of them."""

CAPABILITIES = {
    0: ("CAP_CHOWN", "terminals can't be given to those who log in"),
    1: ("CAP_DAC_OVERRIDE", "files of accounts can't be read"),
    5: ("CAP_KILL", "sessions can't be ended"),
    6: ("CAP_SETGID", "nobody can log in but root"),
    7: ("CAP_SETUID", "nobody can log in but root"),
    18: ("CAP_SYS_CHROOT", "strangers are served without the wall of an empty root directory"),
}
"""The capabilities(7) that a server of root needs, by number, and the effect of not having them."""

MAX_FILE_BYTES = 64 * 1024


def look_at_resources(root: Path = Path("/")) -> Iterator[Finding]:
    """A finding for each resource; `root` is the directory that has /proc and /sys."""
    yield from _memory(root)
    yield from _descriptors()
    yield from _processes(root)
    yield _terminals()
    if os.geteuid() == 0:
        yield from _capabilities(root)


def _memory(root: Path) -> Iterator[Finding]:
    found = [_free_in_group(root), _free_in_machine(root)]
    free = min((each for each in found if each is not None), default=None)
    if free is None:
        return
    if free < LITTLE_MEMORY_BYTES:
        yield warning(TOPIC, f"{size(free)} of memory are free", "add memory or swap, or end what takes it")
    else:
        yield ok(TOPIC, f"{size(free)} of memory are free")


def _free_in_machine(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split()[:1]:
            return int(value.split()[0]) * 1024
    return None


def _free_in_group(root: Path) -> int | None:
    """The memory that a container's own limit leaves (cgroup v2)."""
    bound, used = (_number(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory.current"))
    return None if bound is None or used is None else max(0, bound - used)


def _descriptors() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_DESCRIPTORS:
        hint = "raise it where the server is started: LimitNOFILE= of a unit, --ulimit nofile= of a container"
        yield warning(TOPIC, f"a process may have {hard} descriptors, by the limit that holds here", hint)
    else:
        yield ok(TOPIC, f"a process may have {'any number of' if hard == resource.RLIM_INFINITY else hard} descriptors")


def _processes(root: Path) -> Iterator[Finding]:
    bound, used = (_number(root / "sys/fs/cgroup" / name) for name in ("pids.max", "pids.current"))
    if bound is None or used is None:
        return
    left = max(0, bound - used)
    if left < FEW_PROCESSES:
        hint = "raise it where the server is started: TasksMax= of a unit, --pids-limit of a container"
        yield warning(TOPIC, f"{left} more processes can be started here", hint)
    else:
        yield ok(TOPIC, f"{left} more processes can be started here")


def _terminals() -> Finding:
    try:
        for descriptor in os.openpty():
            os.close(descriptor)
    except OSError as error:
        hint = "mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts, or raise /proc/sys/kernel/pty/max"
        return problem(TOPIC, f"no terminal can be opened: {error.strerror}", hint)
    return ok(TOPIC, "terminals can be opened")


def _capabilities(root: Path) -> Iterator[Finding]:
    has = None
    for line in _read(root / "proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            has = int(line.partition(":")[2], 16)
    if has is None:
        return
    missing = {name: what for number, (name, what) in CAPABILITIES.items() if not has >> number & 1}
    for name, what in missing.items():
        hint = f"start the container with --cap-add {name.removeprefix('CAP_')}"
        yield warning(TOPIC, f"root has no {name} here: {what}", hint)
    if not missing:
        yield ok(TOPIC, "root has the rights that the server needs")
    if has >> 24 & 1 == 0:
        hint = "nothing has to be done; --cap-add SYS_RESOURCE changes it"
        yield note(TOPIC, "without CAP_SYS_RESOURCE the server is not spared when memory runs out", hint)


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, or "max"."""
    words = _read(path).split()
    return int(words[0]) if words and words[0].isdigit() else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode(errors="replace")
    except OSError:
        return ""
