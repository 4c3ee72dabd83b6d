"""The directory of recordings: where each is, when old ones are removed, and how much room they take.

A recording is `<account>/<session>.cast.zst`. None is ever written over. The directory belongs to the recorder's
account; its group, which every directory and file in it gets, may read. When there is no more room, the account whose
recordings take the most, with those that are being made, loses its oldest one. If all of its recordings are still being
made, its largest one has to end. So nobody can have the recordings of others removed by filling the disk.
"""

import errno
import os
import pwd
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.core.recordings import names
from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.system.descriptors import closing
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

DIRECTORY = "recordings"
"""Its name in `audit_dir`."""

SUFFIX = ".cast.zst"

DIRECTORY_MODE = 0o2750
"""Set-group-ID: what is made in there gets the group of `audit_dir`, whose members may read."""

FILE_MODE = 0o640

MOST_PARTS = 1000
"""Files of one session: more than there can be, unless somebody makes them up."""

TAKEN_NAMES = 8
"""Names that are tried for a file. Only files that somebody else has made are in the way."""

BLOCK = 16 * 1024
"""The room of a file is counted in these, and an empty one counts, too. ext4 by default has an inode for each 16 KiB of
the disk (mke2fs.conf(5)): so empty recordings take their share of the inodes, and the log has some left."""

Name = tuple[str, str]
"""A file: the account, and the file's name in its directory."""


def open_directory(audit_dir: Path, account: pwd.struct_passwd | None) -> int:
    """The directory of recordings, made if it is missing and given to `account` (None: it stays ours). Raises OSError.

    We may be root: no link is followed, and a directory of somebody else is not given away.
    """
    path = audit_dir / DIRECTORY
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor), account)
        if account is not None:
            os.fchown(descriptor, account.pw_uid, audit_dir.stat().st_gid)
        os.fchmod(descriptor, DIRECTORY_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(found: os.stat_result, account: pwd.struct_passwd | None) -> None:
    owners = {0, os.geteuid() if account is None else account.pw_uid}
    if found.st_uid not in owners or found.st_mode & OTHERS_MAY_WRITE:
        raise PermissionError("it belongs to somebody else, or others may write there: remove it")


class Files:
    """The files in the directory that is the working directory. `clock` gives Unix time."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._kept: dict[str, deque[tuple[float, str, int]]] = {}
        self._room: dict[str, int] = {}
        self._open: dict[Name, int] = {}
        self._parts: dict[tuple[str, str], _Parts] = {}  # by account and session; only of those that have a file

    def look(self) -> None:
        """Find the recordings that earlier recorders have left."""
        for account in _entries("."):
            found = []
            for name in _entries(account):
                with suppress(OSError):
                    status = Path(account, name).lstat()
                    if name.endswith(SUFFIX) and stat.S_ISREG(status.st_mode):
                        found.append((status.st_mtime, name, _room_of(status.st_size)))
                        self._appeared(account, name)
            self._kept[account] = deque(sorted(found))
            self._room[account] = sum(size for _, _, size in found)

    # -- recordings that are being written ----------------------------------------------------------------------------

    def make(self, account: str, session: str) -> tuple[Name, int]:
        """A new file for a recording of the account's session, and its descriptor. Raises OSError."""
        with suppress(FileExistsError):
            Path(account).mkdir(mode=0o750)
        # Not through a link in its place: there can be none but of the recorder's own account.
        with closing(os.open(account, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            known = self._parts.get((account, session))
            first = 1 if known is None else known.last + 1
            for part in range(first, min(first + TAKEN_NAMES, MOST_PARTS + 1)):
                name = names.file_name(session, part)
                with suppress(FileExistsError):
                    file = os.open(name, flags, FILE_MODE, dir_fd=directory)
                    self._open[account, name] = BLOCK
                    self._count(account, BLOCK)
                    self._appeared(account, name)
                    return (account, name), file
        raise FileExistsError(errno.EEXIST, "its session has too many recordings")

    def wrote(self, name: Name, size: int) -> None:
        """The file has `size` bytes now."""
        before, after = self._open[name], _room_of(size)
        self._open[name] = after
        self._count(name[0], after - before)

    def done(self, name: Name) -> None:
        """The file is not written to any more."""
        size = self._open.pop(name)
        self._kept.setdefault(name[0], deque()).append((self._clock(), name[1], size))

    # -- removing -------------------------------------------------------------------------------------------------

    def bound(self, bounds: Bounds) -> None:
        """Use these bounds from now on."""
        self._bounds = bounds

    @property
    def is_too_much(self) -> bool:
        """Whether all recordings together take more room than they may."""
        return sum(self._room.values()) > self._bounds.keep_bytes

    def remove_old(self) -> Name | None:
        """Remove what is older than it may become, and then the oldest until the rest has room.

        Returns a file that is being written, if that has to end for there to be room: then call this again.
        """
        oldest = self._clock() - self._bounds.keep_seconds
        for account, kept in self._kept.items():
            while kept and kept[0][0] < oldest:
                self._remove(account)
        while self.is_too_much:
            account = max(self._room, key=lambda account: self._room[account])
            if not self._kept.get(account):
                return max((name for name in self._open if name[0] == account), key=lambda name: self._open[name])
            self._remove(account)
        return None

    def _remove(self, account: str) -> None:
        _, name, size = self._kept[account].popleft()
        with suppress(OSError):  # somebody else has removed it
            Path(account, name).unlink()
        self._count(account, -size)
        self._disappeared(account, name)

    # -- counting -------------------------------------------------------------------------------------------------

    def _count(self, account: str, more: int) -> None:
        self._room[account] = self._room.get(account, 0) + more

    def _appeared(self, account: str, name: str) -> None:
        parsed = names.parsed(name)
        if parsed is not None:
            session, part = parsed
            known = self._parts.setdefault((account, session), _Parts())
            known.last, known.files = max(known.last, part), known.files + 1

    def _disappeared(self, account: str, name: str) -> None:
        parsed = names.parsed(name)
        if parsed is not None:
            known = self._parts[account, parsed[0]]
            known.files -= 1
            if not known.files:
                del self._parts[account, parsed[0]]


class _Parts(msgspec.Struct):
    """The files of a session: how many there are, and the largest part. So no name is searched for on the disk."""

    last: int = 0
    files: int = 0


def _room_of(size: int) -> int:
    return -(-size // BLOCK) * BLOCK or BLOCK


def _entries(directory: str) -> list[str]:
    try:
        return [each.name for each in Path(directory).iterdir()]
    except OSError:
        return []
