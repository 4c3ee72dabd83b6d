"""The log file: opened so that nobody can redirect it, made again if it is gone; a move is detected.

This module does not know its contents.
"""

import errno
import os
import stat
from pathlib import Path

FILE_NAME = "events.jsonl"
# The log names accounts, addresses and command lines: only the owner writes; its readers can be put into the group.
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

_COPIED_AT_ONCE = 64 * 1024

MAX_RESCUED_BYTES = 16 * 1024 * 1024
"""The most bytes that are copied from a deleted file: the log of days in which no new one could be made."""


class AuditLogError(OSError):
    """The log cannot be opened. The message is one line for the person who starts the server."""


class LogPlace:
    """Where the log is: `events.jsonl` in `audit_dir`. If it is made again, it gets the group and mode of the start."""

    def __init__(self, audit_dir: Path) -> None:
        self._directory = audit_dir
        self._like_directory = _status(audit_dir)
        self._like_file = _status(audit_dir / FILE_NAME)

    def open(self) -> int:
        """The file, open for reading and appending; made if it is missing, as is its directory. Raises AuditLogError.

        We may be root: no link is followed, and the file has to be a regular one that belongs to root or us and has no
        other name.
        """
        path = self._directory / FILE_NAME
        try:
            self.make_directory()
            try:
                file = os.open(path, _FLAGS)
            except FileNotFoundError:
                file = os.open(path, _FLAGS | os.O_CREAT, FILE_MODE)
                os.fchmod(file, self._restore(file, self._like_file, FILE_MODE))
        except (FileExistsError, NotADirectoryError):
            raise AuditLogError(f"audit_dir {self._directory}: not a directory; set audit_dir to one") from None
        except OSError as error:
            # O_NOFOLLOW fails with ELOOP. We may be root here, and anybody who can write to the directory could make
            # the link point to any file of the system.
            if error.errno == errno.ELOOP:
                raise self._not_a_file() from None
            text = f"audit_dir {self._directory}: cannot write {FILE_NAME} there: {error.strerror}"
            raise AuditLogError(
                f"{text}; make it writable for this account, or set audit_dir to another one"
            ) from error
        found = os.fstat(file)
        # With a second name (hard link) it could be somebody else's file, which we as root would write into.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid not in {0, os.geteuid()}:
            os.close(file)
            raise self._not_a_file()
        return file

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
    """The open log file; knows whether it is still where it was opened."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._name = _name_of(descriptor)
        self._seen = os.fstat(descriptor).st_size

    @property
    def ends_mid_line(self) -> bool:
        """Whether the last process that wrote here was cut off within a line (or may have been: a bad block)."""
        size = os.fstat(self.descriptor).st_size
        try:
            return size > 0 and os.pread(self.descriptor, 1, size - 1) != b"\n"
        except OSError:
            return True

    def is_in_place(self) -> bool:
        """Whether it still has the name under which it was opened: nobody has moved or deleted it.

        The kernel tells the name of the descriptor (proc_pid_fd(5)), because this process may have no access to the
        directory.
        """
        if _name_of(self.descriptor) != self._name:
            return False
        self._seen = os.fstat(self.descriptor).st_size
        return True

    def is_same(self, other: int) -> bool:
        """Whether `other` is the same file."""
        return os.path.sameopenfile(self.descriptor, other)

    def rescue(self, target: int) -> None:
        """Copy to `target` what was written here since the file was last seen in its place, if it was deleted.

        A file that was moved keeps its lines, and nothing is copied.
        """
        status = os.fstat(self.descriptor)
        if status.st_nlink:
            return
        # A file that is shorter than before was emptied meanwhile: everything in it is newer.
        start = self._seen if self._seen <= status.st_size else 0
        start = max(start, status.st_size - MAX_RESCUED_BYTES)
        while chunk := os.pread(self.descriptor, _COPIED_AT_ONCE, start):
            start += len(chunk)
            while chunk:
                chunk = chunk[os.write(target, chunk) :]


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
