"""One server for each `keys_dir` and each `audit_dir`: two would write one log, with every number in it twice.

A POSIX record lock (fcntl(2)) of the spawner's. Its children do not inherit it, and the kernel drops it when the
spawner ends, however that happens: a monitor that drains without its spawner is in no successor's way. The kernel also
names the process that has it, so no file has to be believed. Closing any descriptor of a file drops a process's locks
on it (POSIX has it so): those that are taken here stay open until the process ends.
"""

import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from pyssh_gateway.audit.log_file import AuditLogError, LogPlace
from pyssh_gateway.config.types import Config
from pyssh_gateway.keys.files import make_directory

FILE_NAME = "server.lock"

WAIT_SECONDS = 1.0
PAUSE_SECONDS = 0.05
"""How long to wait for a server that is about to end, and how often to look: as for its port (`listening`)."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of a 64-bit Linux: type, whence, start, length, pid."""

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_MODE = 0o600


class _Place:
    """A directory of the server's state, by the key of the configuration that names it."""

    def __init__(self, key: str, directory: str) -> None:
        self.key = key
        self.directory = Path(directory)

    def make(self) -> None:
        """Make the directory if it is missing, as the monitor would. Raises OSError."""
        if self.key == "audit_dir":
            LogPlace(self.directory).make_directory()
        else:
            make_directory(self.directory)

    def open(self, flags: int) -> int | None:
        """The lock's file; None where there can be none, and no server that writes there either."""
        try:
            descriptor = os.open(self.directory / FILE_NAME, flags | _FLAGS, _MODE)
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def problem(self, pid: int) -> str:
        """What to tell somebody who wants to start another server."""
        # 0: a process of another PID namespace; negative: of another machine, on a file system that says so.
        who = f"the server that is process {pid}" if pid > 0 else "a server in another container or on another machine"
        return f"{self.key}: {who} uses {self.directory}: stop it, or set {self.key} to another directory"


def take(config: Config) -> list[str]:
    """Lock both directories until this process ends; a line for each that another server has, and then none is locked.

    What can't be locked for another reason (a file system without locks, a directory that can't be written to) is no
    reason not to start: what is wrong with a directory is said by those who need it.
    """
    until = time.monotonic() + WAIT_SECONDS
    taken: list[int] = []
    problems: list[str] = []
    for place in _places(config):
        try:
            place.make()
        except (OSError, AuditLogError):
            continue
        descriptor = place.open(os.O_RDWR | os.O_CREAT)
        if descriptor is None:
            continue
        if _lock(descriptor, until):
            taken.append(descriptor)
            continue
        problems.append(place.problem(_holder(descriptor) or 0))
        os.close(descriptor)
    if problems:
        for descriptor in taken:
            os.close(descriptor)
    return problems


def problems(config: Config) -> list[str]:
    """A line for each of the directories that a server has locked. Nothing is changed."""
    return [place.problem(pid) for place, pid in _held(config)]


def holders(config: Config) -> frozenset[int]:
    """The processes that have one of the directories locked, as far as they have a number here."""
    return frozenset(pid for _, pid in _held(config) if pid > 0)


def _places(config: Config) -> tuple[_Place, ...]:
    return _Place("keys_dir", config.keys_dir), _Place("audit_dir", config.audit_dir)


def _held(config: Config) -> Iterator[tuple[_Place, int]]:
    for place in _places(config):
        descriptor = place.open(os.O_RDONLY)
        if descriptor is None:
            continue
        try:
            pid = _holder(descriptor)
        finally:
            os.close(descriptor)
        if pid is not None:
            yield place, pid


def _lock(descriptor: int, until: float) -> bool:
    """Lock a file, waiting until `until` (of `time.monotonic()`) for another process; whether nobody else has it."""
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another process has it
            if time.monotonic() >= until:
                return False
        except OSError:  # no locks there
            return True
        else:
            return True
        time.sleep(PAUSE_SECONDS)


def _holder(descriptor: int) -> int | None:
    """The process that has the lock; None: nobody has, or it can't be known."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else pid
