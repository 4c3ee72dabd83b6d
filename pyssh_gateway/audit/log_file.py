"""The log's file: opened so that nobody can lead it elsewhere, made again if it is gone, and found out when it moves.

What is in it is not known here.
"""

import errno
import os
import stat
from pathlib import Path

FILE_NAME = "events.jsonl"
# The log names accounts, addresses and command lines: the owner writes, the group may be given to those who read.
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

_COPIED_AT_ONCE = 64 * 1024

MAX_RESCUED_BYTES = 16 * 1024 * 1024
"""What is copied at most from a file that was deleted: days of a server that can't have a new one."""


class AuditLogError(OSError):
    """The log cannot be opened. The message is one line for the person who starts the server."""


class LogPlace:
    """Where the log is: `events.jsonl` in `audit_dir`. What it was like at the start is what it is made like again."""

    def __init__(self, audit_dir: Path) -> None:
        self._directory = audit_dir
        self._like_directory = _status(audit_dir)
        self._like_file = _status(audit_dir / FILE_NAME)

    def open(self) -> int:
        """The file, open for reading and appending; made if it is missing, as is its directory. Raises AuditLogError.

        We may be root: no link is followed, and what is there has to be a plain file that is root's or ours and has no
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
            # O_NOFOLLOW answers ELOOP. We may be root here, and whoever can write to the directory could point the link
            # at any file of the system.
            if error.errno == errno.ELOOP:
                raise self._not_a_file() from None
            text = f"audit_dir {self._directory}: cannot write {FILE_NAME} there: {error.strerror}"
            raise AuditLogError(
                f"{text}; make it writable for this account, or set audit_dir to another one"
            ) from error
        found = os.fstat(file)
        # A second name would make the file one of somebody else's, that we as root would write into.
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
        """Give what has just been made the group that it had; returns the mode that it had, or `mode` for a new one."""
        if like is None or os.geteuid() != 0:
            return mode
        os.chown(made, -1, like.st_gid)
        return stat.S_IMODE(like.st_mode)


class OpenFile:
    """The log's file as it is open: whether it is still where it was opened."""

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
        """Whether it is still called what it was called when it was opened: nobody has moved or deleted it.

        The kernel is asked for the name of the descriptor (proc_pid_fd(5)): the directory need not be one that this
        process may look into.
        """
        if _name_of(self.descriptor) != self._name:
            return False
        self._seen = os.fstat(self.descriptor).st_size
        return True

    def is_same(self, other: int) -> bool:
        """Whether `other` is the same file."""
        return os.path.sameopenfile(self.descriptor, other)

    def rescue(self, target: int) -> None:
        """Copy to `target` what was written here since it was last seen in its place, if nobody can read it here.

        That is what a file that was deleted has. One that was moved keeps its lines.
        """
        status = os.fstat(self.descriptor)
        if status.st_nlink:
            return
        # A file that is shorter than it was has been emptied meanwhile: all that is in it came after that.
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
    except OSError:  # no /proc: then nobody knows, and SIGHUP is what there is
        return ""
