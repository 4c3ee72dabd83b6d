"""One server for each `keys_dir` and each `audit_dir`: two would write one log, with every number in it twice.

The spawner takes a POSIX record lock (fcntl(2)). Its children do not inherit it, and the kernel drops it when the
spawner ends, however that happens: so a monitor that drains without its spawner does not block the next server. The
kernel also names the process that holds it, so no pid file has to be trusted. By POSIX, closing any descriptor of a
file drops the process's locks on it, so the descriptors of the locks stay open until the process ends.
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
"""How long to wait for a server that is about to end, and how often to try: as for its port (`listening`)."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of a 64-bit Linux: type, whence, start, length, pid."""

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_MODE = 0o600


class _Place:
    """A directory of the server's state, with the configuration key that names it."""

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
        """Open the lock's file; None if that is impossible, as no server can write to the directory then either."""
        try:
            descriptor = os.open(self.directory / FILE_NAME, flags | _FLAGS, _MODE)
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def problem(self, pid: int) -> str:
        """The message for somebody who wants to start another server."""
        # 0: a process of another PID namespace; negative: of another machine, on a file system that says so.
        who = f"the server that is process {pid}" if pid > 0 else "a server in another container or on another machine"
        return f"{self.key}: {who} uses {self.directory}: stop it, or set {self.key} to another directory"


def take(config: Config) -> list[str]:
    """Lock both directories until this process ends. Returns a line for each that another server has locked.

    If there is any such line, neither is locked. A directory that can't be locked for another reason (a file system
    without locks, no write permission) does not prevent the start: the code that needs the directory reports that.
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
    """A line for each directory that a server has locked. Nothing is changed."""
    return [place.problem(pid) for place, pid in _held(config)]


def holders(config: Config) -> frozenset[int]:
    """The processes that have locked one of the directories, if they have a pid in our PID namespace."""
    return frozenset(pid for _, pid in _held(config) if pid > 0)


def is_running(audit_dir: Path) -> bool:
    """Whether a server has locked the directory; False also if that can't be found out: only root may open the lock."""
    return _pid_of(_Place("audit_dir", str(audit_dir))) is not None


def _places(config: Config) -> tuple[_Place, ...]:
    return _Place("keys_dir", config.keys_dir), _Place("audit_dir", config.audit_dir)


def _held(config: Config) -> Iterator[tuple[_Place, int]]:
    for place in _places(config):
        if (pid := _pid_of(place)) is not None:
            yield place, pid


def _pid_of(place: _Place) -> int | None:
    descriptor = place.open(os.O_RDONLY)
    if descriptor is None:
        return None
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, until: float) -> bool:
    """Lock a file; wait until `until` (of `time.monotonic()`) for another process. False: that still has the lock."""
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another process has it
            if time.monotonic() >= until:
                return False
        except OSError:  # the file system has no locks
            return True
        else:
            return True
        time.sleep(PAUSE_SECONDS)


def _holder(descriptor: int) -> int | None:
    """The pid of the process that has the lock; None: nobody has it, or that can't be found out."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else pid
