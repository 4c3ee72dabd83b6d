"""What only an account's own rights show of its processes: the bytes that they have moved, and PYSSH_HOLD.

The processes of each account are read by a child that has become the account. So the server's rights read nobody's
memory, and no capability is needed that a container lacks (CAP_SYS_PTRACE). /proc/PID/environ is that memory, which an
account can map to a file system of its own (FUSE), whose answer never comes: then the child is killed, and only this
account's processes lack what it would have read. This module decides nothing.
"""

import os
import select
import signal
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from pyssh_gateway.core.idle.variable import MAX_ENVIRONMENT, WHILE_IT_RUNS, asked_for
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.spawner.sampling.proc import read_file
from pyssh_gateway.system.privileges import become

LOOK_SECONDS = 3.0
"""How long all accounts together may take: for 2,000 processes it is a tenth of a second. It has to be less than the
sample may take (`sampler.SAMPLE_SECONDS`)."""

END_SECONDS = 0.5
"""How long a child may take to end once it is killed: it has to be scheduled once."""

MAX_ACCOUNTS = 64
"""How many accounts are looked at; each is a child for a moment. More have processes only where containers run that map
the accounts within them to many of the machine's."""

_IO_BYTES = 1024
"""More bytes than /proc/PID/io has: seven numbers with their names."""

_RECORD = struct.Struct("@Qqd")
"""What a child tells of a process: its pid, the bytes moved, and the seconds of `asked_for`."""

_PIPE_READ = 64 * 1024
"""Bytes of one read: what a pipe holds."""

ROOT = 0


class Facts(msgspec.Struct, frozen=True):
    """What is known of a process: the bytes that it has moved (see `Process.io`), and for how long it asks to hold."""

    io: int = 0
    hold: float = 0.0


class Owner(msgspec.Struct, frozen=True):
    """The account and group of processes, whose rights suffice to look into them (ptrace(2), access mode checking)."""

    uid: int
    gid: int


def look(proc: str, owners: Mapping[int, Owner]) -> dict[int, Facts]:
    """The facts of the processes in `owners`, by pid; those that could not be seen are missing. `proc` is /proc.

    For a process that can't be traced, such as ssh-agent, the owner is root; so its environment is not read, but the
    bytes may be. To be called in the child that takes the sample: it forks, and it waits.
    """
    of_owner: dict[Owner, list[int]] = {}
    for pid, owner in owners.items():
        of_owner.setdefault(owner, []).append(pid)
    deadline = time.monotonic() + LOOK_SECONDS
    running: dict[int, tuple[int, set[int]]] = {}
    try:
        for owner, pids in list(of_owner.items())[:MAX_ACCOUNTS]:
            with suppress(OSError):  # no process or descriptor is left: nothing is known of the account
                reading, pid = _start(proc, owner, pids)
                running[reading] = pid, set(pids)
        return _gather(running, deadline)
    finally:
        for reading, (pid, _) in running.items():
            os.close(reading)
            _end(pid)


def _start(proc: str, owner: Owner, pids: Sequence[int]) -> tuple[int, int]:
    """Start the child for `owner`; returns the pipe with its records, and its pid. Raises OSError."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        setup = Setup(descriptors=(NULL, writing, NULL), prepare=partial(_become, owner))
        return reading, child.start(setup, partial(_tell, proc, owner, pids))
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)


def _become(owner: Owner) -> None:
    """Give up the server's rights for those of `owner`, without further groups. Without root's rights nothing changes.

    A change of the uid makes this process undumpable: the account can't look into it (prctl(2), PR_SET_DUMPABLE).
    """
    signal.alarm(2 * int(LOOK_SECONDS))  # in case the process that waits for this one is killed
    if os.geteuid() == ROOT and owner.uid != ROOT:
        os.setgroups([])
        become(owner.uid, owner.gid)


def _tell(proc: str, owner: Owner, pids: Sequence[int]) -> int:
    """In the child: write a record of each process."""
    for pid in pids:
        moved = _moved(read_file(f"{proc}/{pid}/io", _IO_BYTES))
        is_own = owner.uid != ROOT or _is_root(read_file(f"{proc}/{pid}/status", _IO_BYTES))
        asked = asked_for(read_file(f"{proc}/{pid}/environ", MAX_ENVIRONMENT)) if is_own else 0.0
        os.write(1, _RECORD.pack(pid, moved, asked))
    return 0


def _gather(running: Mapping[int, tuple[int, set[int]]], deadline: float) -> dict[int, Facts]:
    """The facts that the children have told by the deadline."""
    told = {reading: bytearray() for reading in running}
    poll = select.poll()
    for reading in running:
        poll.register(reading, select.POLLIN)
    left = set(running)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for reading, _ in poll.poll(remaining * 1000):
            data = os.read(reading, _PIPE_READ)
            told[reading] += data
            # The account can't change what its child writes, but may still have found a way: more is not read.
            if not data or len(told[reading]) > len(running[reading][1]) * _RECORD.size:
                poll.unregister(reading)
                left.discard(reading)
    found: dict[int, Facts] = {}
    for reading, (_, pids) in running.items():
        found |= _decoded(bytes(told[reading]), pids)
    return found


def _end(pid: int) -> None:
    """End a child, which usually has ended. One that hangs in the kernel is left to the process that adopts it."""
    os.kill(pid, signal.SIGKILL)
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], END_SECONDS)
        finally:
            os.close(descriptor)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _decoded(told: bytes, pids: Iterable[int]) -> dict[int, Facts]:
    """The records in `told`; only those of `pids`, and only with values that there can be."""
    whole = told[: len(told) - len(told) % _RECORD.size]
    known = set(pids)
    return {
        pid: Facts(moved, hold)
        for pid, moved, hold in _RECORD.iter_unpack(whole)
        if pid in known and moved >= 0 and 0 <= hold <= WHILE_IT_RUNS
    }


def _moved(text: bytes) -> int:
    """Bytes read from disks, and those written to disks or to anything, whichever is more (proc_pid_io(5)).

    0 without permission. Reads are added and not compared: a process that has read much would hide what it writes
    slowly later. What is written to anything has a download to where the kernel counts no disk (tmpfs, network file
    systems), and one that is piped on. What is read from anything is not counted: much of it is /proc (`watch ps`: 260
    kB/s), and recv(2) is not in it.
    """
    fields = dict(line.split(b": ") for line in text.splitlines() if line.count(b": ") == 1)

    def number(name: bytes) -> int:
        return int(fields.get(name, 0))

    return number(b"read_bytes") + max(number(b"write_bytes"), number(b"wchar"))


def _is_root(status: bytes) -> bool:
    """Whether the process's real uid is root's, by /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith(b"Uid:"):
            return line.split()[1:2] == [b"0"]
    return False
