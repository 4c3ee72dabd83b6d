"""Small files with keys: written completely or not at all, read only if no other account could have changed them.

This module does not know what is in the files.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_SECONDS = 10.0
"""How long a process waits for another one that creates a file in the same directory, which takes milliseconds."""

_LOCK_POLL_SECONDS = 0.01

# Errors of link(2) where links are not possible: EPERM of vfat and sshfs, EOPNOTSUPP of SMB and 9p, ENOSYS of some FUSE
# programs, EACCES of a security module, and EMLINK where there are as many links as there may be.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV}
)
# Errors of a file system for an operation that it does not have, such as locks, modes, or fsync(2) of a directory.
_UNKNOWN_THERE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EBADF})


class UntrustedFileError(Exception):
    """A file that must not be used as it is. The message says why and what to do about it."""


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Replace the file at `path` by `data`; after a crash it is either the old or the new one. Raises OSError."""
    temporary = _write_temporary(path, data, mode)
    try:
        temporary.replace(path)
    except OSError:
        _remove(temporary)
        raise
    _sync_directory(path.parent)


def create_file(path: Path, data: bytes, mode: int) -> None:
    """Create the file `path`; of several processes that try at once, one succeeds. Raises FileExistsError, OSError.

    It uses link(2), which fails if the name is taken and never shows a half-written file. Where there are no links, the
    file is renamed while the directory is locked.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with _locked(path.parent):
                if os.path.lexists(path):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
                temporary.rename(path)
    finally:
        _remove(temporary)
    _sync_directory(path.parent)


def replace_empty_file(path: Path, data: bytes, mode: int) -> bool:
    """Put `data` at `path` if there is an empty file; of several processes that try at once, one does. Raises OSError.

    Returns whether it did: a file that another process has put there meanwhile stays.
    """
    with _locked(path.parent):
        if not is_blank(path.read_bytes()):
            return False
        replace_file(path, data, mode)
        return True


def is_blank(data: bytes) -> bool:
    """Whether a file is empty: a power cut leaves it without any byte, or with zeros in their place (XFS)."""
    return not data.strip(b"\0 \t\r\n")


def make_directory(path: Path) -> None:
    """Make a directory, for its owner only, and those above it that are missing, durably. Raises OSError."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for directory in missing:
        _sync_directory(directory.parent)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on `directory`, if its file system has locks. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(
                        errno.EBUSY, f"another process has locked the directory for {LOCK_SECONDS:.0f} s"
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
            except OSError as error:
                if error.errno not in _UNKNOWN_THERE:
                    raise
                break
            else:
                break
        yield
    finally:
        os.close(descriptor)


def read_trusted(path: Path, *, limit: int, forbidden_mode: int, purpose: str) -> bytes:
    """The content of the file, if its owner and its mode are fit for `purpose`. Raises OSError, UntrustedFileError.

    `forbidden_mode` are the permission bits that may not be set; the owner has to be root or our account. A file of
    more than `limit` bytes is refused.
    """
    # O_NONBLOCK: a FIFO in the file's place would otherwise block us for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Checks the open file, not the name: the file behind the name could be exchanged in between.
        _check_trusted(path, os.fstat(descriptor), forbidden_mode, purpose)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise UntrustedFileError(f"{path} is too large for {purpose}")
    return data


def _check_trusted(path: Path, status: os.stat_result, forbidden_mode: int, purpose: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedFileError(f"{path} is not a regular file")
    if status.st_uid not in {0, os.geteuid()}:
        raise UntrustedFileError(
            f"{path} belongs to uid {status.st_uid}: {purpose} has to belong to root or to uid {os.geteuid()}, "
            f"as which this runs"
        )
    if mode & forbidden_mode:
        raise UntrustedFileError(f"mode {mode:04o} of {path} is too open for {purpose}: run chmod 600 {path}")


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    # A random name: process ids repeat from one start of a container to the next.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _set_mode(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        _remove(temporary)
        raise
    return temporary


def _set_mode(descriptor: int, mode: int) -> None:
    """Give a new file its mode, whatever the umask is. Raises OSError if it would stay open to more people."""
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        # SMB and vfat have one mode for all files.
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~mode:
            reason = (
                f"{error.strerror} (the file system keeps no modes: mount it so that files have {mode:04o} or less)"
            )
            raise OSError(error.errno, reason) from error


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the error that brought us here matters more
        path.unlink()


def _sync_directory(directory: Path) -> None:
    """Make a new name survive a power cut, as fsync(2) says it has to be done."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN_THERE:  # SMB and others keep names in their own way
            raise
    finally:
        os.close(descriptor)
