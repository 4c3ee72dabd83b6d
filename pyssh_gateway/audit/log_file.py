"""The log's files: opened so that nobody can redirect them, made again if they are gone; a move is detected.

This module does not know their contents.
"""

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME, sealed_checkpoints_name

FILE_NAME = "events.jsonl"
STATE_NAME = "log_state.json"

SEALED_NAME = re.compile(r"events-([0-9]{12,19})\.jsonl(\.zst)?", re.ASCII)
"""The name of a file that is no longer written to: the index of its first line, 0 for the first of the log."""

# The log names accounts, addresses and command lines: only the owner writes; its readers can be put into the group.
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750

# Nobody else may open the state: whoever can read a file can lock it, and its lock says who writes the log.
STATE_MODE = 0o600

TRIES = 5
"""How often the file is made again whose directory is removed in the same moment: `rm -r` removes one thing after the
other, and what comes between two of them is no reason to go without a log."""

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_BESIDE_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class AuditLogError(OSError):
    """The log cannot be opened. The message is one line for the person who starts the server."""


class LogUnwritableError(AuditLogError):
    """The log's disk takes nothing at present. That is no reason not to start: lines wait for it."""


_DISK_ERRORS = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})


class LogPlace:
    """Where the log is: `events.jsonl` in `audit_dir`.

    A file that is made again gets the group and mode of the start, and one that follows another one those of that.
    """

    def __init__(self, audit_dir: Path) -> None:
        self._directory = audit_dir
        self._like_directory = _status(audit_dir)
        self._like_file = _status(audit_dir / FILE_NAME)

    def open(self) -> int:
        """The file, open for reading and appending; made if it is missing, as is its directory. Raises AuditLogError.

        We may be root: no link is followed, and the file has to be a regular one that belongs to root or us and has no
        other name.
        """
        try:
            file = self._open_or_make()
        except (FileExistsError, NotADirectoryError):
            raise AuditLogError(f"audit_dir {self._directory}: not a directory; set audit_dir to one") from None
        except OSError as error:
            # O_NOFOLLOW fails with ELOOP. We may be root here, and anybody who can write to the directory could make
            # the link point to any file of the system.
            if error.errno == errno.ELOOP:
                raise self._not_a_file() from None
            text = f"audit_dir {self._directory}: cannot write {FILE_NAME} there: {error.strerror}"
            if error.errno in _DISK_ERRORS:
                raise LogUnwritableError(text) from error
            raise AuditLogError(
                f"{text}; make it writable for this account, or set audit_dir to another one"
            ) from error
        found = os.fstat(file)
        # With a second name (hard link) it could be somebody else's file, which we as root would write into.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid not in {0, os.geteuid()}:
            os.close(file)
            raise self._not_a_file()
        return file

    def _open_or_make(self) -> int:
        for _ in range(TRIES - 1):
            with suppress(FileNotFoundError):
                return self._open_once()
        return self._open_once()

    def _open_once(self) -> int:
        """The file; it and its directory are made if they are missing. Raises OSError."""
        path = self._directory / FILE_NAME
        self.make_directory()
        try:
            return os.open(path, _FLAGS)
        except FileNotFoundError:
            return self._make(path, _FLAGS, None)

    def _make(self, path: Path, flags: int, mode: int | None) -> int:
        """The file, made with `mode`, or with the mode and group of the one before. Raises OSError."""
        file = os.open(path, flags | os.O_CREAT, FILE_MODE)
        try:
            os.fchmod(file, self._restore(file, self._like_file, FILE_MODE) if mode is None else mode)
        except BaseException:
            os.close(file)
            raise
        return file

    def open_unwritable(self) -> int:
        """What can be opened while `open` raises LogUnwritableError: the file for reading, or one that has nothing."""
        try:
            file = os.open(self._directory / FILE_NAME, _READ_FLAGS)
        except OSError:
            return os.open(os.devnull, _READ_FLAGS)
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        raise self._not_a_file()

    def open_all(self) -> list[int]:
        """The log; and, if they can be opened, the state that is kept beside it, and its checkpoints.

        If only the state can't be, a file in memory takes its place: a state that is lost costs no checkpoints.
        """
        log = self.open()
        state = self._open_beside(STATE_NAME, 0, STATE_MODE)
        checkpoints = self._open_beside(CHECKPOINTS_NAME, os.O_APPEND, None)
        if state is None and checkpoints is not None:
            try:
                state = os.memfd_create(STATE_NAME, os.MFD_CLOEXEC)
            except OSError:
                os.close(checkpoints)
                checkpoints = None
        return [log, *(each for each in (state, checkpoints) if each is not None)]

    def seal(self, first: int, inode: int) -> list[int]:
        """Close the file, which begins at the line `first`: give it its final name. Opens a new one, as `open_all`.

        If the file is not that of `inode`, it was moved already, and is left alone. Raises AuditLogError.
        """
        path = self._directory / FILE_NAME
        status = _status(path)
        if status is not None and status.st_ino == inode and stat.S_ISREG(status.st_mode):
            try:
                matches = [SEALED_NAME.fullmatch(entry.name) for entry in os.scandir(self._directory)]
                is_free = all(int(found[1]) < first for found in matches if found is not None)
                if is_free:
                    path.rename(self._directory / sealed_name(first, compressed=False))
                    with suppress(OSError):  # there are none, or they stay with the next ones
                        (self._directory / CHECKPOINTS_NAME).rename(self._directory / sealed_checkpoints_name(first))
                    self._like_file = status
            except OSError as error:
                raise AuditLogError(f"audit_dir {self._directory}: cannot rename: {error.strerror}") from error
            if not is_free:
                raise AuditLogError(f"audit_dir {self._directory}: a file there begins at line {first} or later")
        return self.open_all()

    def _open_beside(self, name: str, flags: int, mode: int | None) -> int | None:
        path = self._directory / name
        try:
            try:
                file = os.open(path, _BESIDE_FLAGS | flags)
            except FileNotFoundError:
                file = self._make(path, _BESIDE_FLAGS | flags, mode)
        except OSError:
            return None
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid in {0, os.geteuid()}:
            if mode is not None and stat.S_IMODE(found.st_mode) & ~mode:
                os.fchmod(file, mode)
            return file
        os.close(file)
        return None

    def make_directory(self) -> None:
        """Make the directory if it is missing. Raises OSError."""
        if _status(self._directory) is None:
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self._directory.chmod(self._restore(self._directory, self._like_directory, DIRECTORY_MODE))

    def _not_a_file(self) -> AuditLogError:
        text = f"audit_dir {self._directory}: {FILE_NAME} there is not a plain file (links are not followed)"
        return AuditLogError(f"{text}; move it away, or set audit_dir to another directory")

    @staticmethod
    def _restore(made: Path | int, like: os.stat_result | None, mode: int) -> int:
        """Give a newly made file or directory its former group; returns its former mode, or `mode` if it had none."""
        if like is None or os.geteuid() != 0:
            return mode
        os.chown(made, -1, like.st_gid)
        return stat.S_IMODE(like.st_mode)


class OpenFile:
    """An open file; knows whether it is still where it was opened."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._name = _name_of(descriptor)

    @property
    def inode(self) -> int:
        """Its number in its file system."""
        return os.fstat(self.descriptor).st_ino

    @property
    def is_deleted(self) -> bool:
        """Whether it has no name any more."""
        return os.fstat(self.descriptor).st_nlink == 0

    def ends_mid_line(self, size: int) -> bool:
        """Whether its first `size` bytes, which are all of them, end within a line (or may do so: a bad block)."""
        try:
            return size > 0 and os.pread(self.descriptor, 1, size - 1) != b"\n"
        except OSError:
            return True

    def is_in_place(self) -> bool:
        """Whether it still has the name under which it was opened: nobody has moved or deleted it.

        The kernel tells the name of the descriptor (proc_pid_fd(5)), because this process may have no access to the
        directory.
        """
        return _name_of(self.descriptor) == self._name

    def is_same(self, other: int) -> bool:
        """Whether `other` is the same file."""
        return os.path.sameopenfile(self.descriptor, other)


class Syncer:
    """Syncs a file to the disk, once, and may block: for a thread. `descriptor` is closed then, or by `close`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> None:
        """Sync it. Raises OSError if what was written may not be on the disk."""
        try:
            os.fsync(self._descriptor)
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptor, if it was not synced."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def sealed_name(first: int, *, compressed: bool) -> str:
    """The name of a file of the log that is not written to any more, and begins at the line `first`."""
    return f"events-{first:012}.jsonl{'.zst' if compressed else ''}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _name_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # no /proc: a move can't be detected, and SIGHUP has to be sent
        return ""
