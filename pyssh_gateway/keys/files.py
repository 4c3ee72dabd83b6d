"""The small files that keys live in: written whole or not at all, read only if no stranger could have changed them.

This module does not know what is in the files.
"""

import contextlib
import os
import stat
from pathlib import Path


class UntrustedFileError(Exception):
    """A file that must not be used as it is. The message says why and what to do about it."""


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path`, in the place of what is there; after a crash it is the one or the other. Raises OSError."""
    temporary = _write_temporary(path, data, mode)
    try:
        temporary.replace(path)
    except OSError:
        _remove(temporary)
        raise
    _sync_directory(path.parent)


def create_file(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path` if nothing is there; of several who try at once, one does. Raises FileExistsError, OSError.

    A link, because it is the one step that fails if the name is taken and shows nobody a half-written file.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        path.hardlink_to(temporary)
    finally:
        _remove(temporary)
    _sync_directory(path.parent)


def read_trusted(path: Path, *, limit: int, forbidden_mode: int, purpose: str) -> bytes:
    """What is in the file, if its owner and its mode are fit for `purpose`. Raises OSError, UntrustedFileError.

    `forbidden_mode` are the permission bits that may not be set; the owner has to be root or our account. A file of
    more than `limit` bytes is refused.
    """
    # O_NONBLOCK: a FIFO in the file's place would otherwise hold us up for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # What is open is looked at, not the name: it cannot be exchanged in between.
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
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        _remove(temporary)
        raise
    return temporary


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the error that brought us here matters more
        path.unlink()


def _sync_directory(directory: Path) -> None:
    """Make a new name survive a power cut, as fsync(2) says it has to be done."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
