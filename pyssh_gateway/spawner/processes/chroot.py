"""Another root directory for a process that stops being root: sshd's ChrootDirectory (session.c, safely_chroot).

The directory and all directories above it must belong to root, and nobody else may write to them: an account that could
rename a part of the path, or add files where programs look for them, could change what the process sees and runs.
"""

import errno
import os
import stat

from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

MAX_LINKS = 40
"""How many symbolic links are followed for one path: the kernel's own limit (path_resolution(7))."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class UnfitRootError(Exception):
    """The directory can't be a root directory; the text names the part of the path that is wrong, and why."""


def enter(path: bytes) -> None:
    """Make `path`, which is absolute, this process's root and working directory. The process must still be root.

    Raises `UnfitRootError`, or OSError where root lacks CAP_SYS_CHROOT. The directory that is entered is the one that
    was checked: each directory is opened below the one before, and the last one is entered by its descriptor.
    """
    descriptor = _descend(path)
    try:
        os.fchdir(descriptor)
        os.chroot(".")
        os.chdir("/")
    finally:
        os.close(descriptor)


def problem(path: bytes) -> str:
    """Why `path` can't be entered, as far as this process's rights let it see; empty if it can."""
    try:
        os.close(_descend(path))
    except (UnfitRootError, OSError) as error:
        return str(error)
    return ""


def _descend(path: bytes) -> int:
    """Open the directory `path` part by part. sshd follows links, but does not check the path to their targets."""
    where = b"/"
    here = os.open(where, _LOOK)
    try:
        _check(where, here)
        parts = path.split(b"/")[::-1]
        links = 0
        while parts:
            part = parts.pop()
            if part in {b"", b"."}:
                continue
            shown = where.rstrip(b"/") + b"/" + part
            below = _open(part, here, shown)
            if stat.S_ISLNK(os.fstat(below).st_mode):
                os.close(below)
                links += 1
                target = _target(part, here, shown, links)
                parts.extend(reversed(target.split(b"/")))
                if not target.startswith(b"/"):
                    continue
                shown, below = b"/", os.open(b"/", _LOOK)
            os.close(here)
            where, here = shown, below
            _check(where, here)
    except BaseException:
        os.close(here)
        raise
    return here


def _target(link: bytes, directory: int, shown: bytes, links: int) -> bytes:
    """The target of the link. The link is root's, because it is in a directory that only root may change."""
    if links > MAX_LINKS:
        raise UnfitRootError(f"{_text(shown)}: {os.strerror(errno.ELOOP)}")
    return os.readlink(link, dir_fd=directory)


def _open(part: bytes, directory: int, shown: bytes) -> int:
    try:
        return os.open(part, _LOOK, dir_fd=directory)
    except OSError as error:
        raise UnfitRootError(f"{_text(shown)}: {error.strerror}") from None


def _check(where: bytes, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISDIR(found.st_mode):
        raise UnfitRootError(f"{_text(where)} is not a directory")
    if found.st_uid != 0:
        raise UnfitRootError(f"{_text(where)} belongs to uid {found.st_uid}, and has to be root's")
    if found.st_mode & OTHERS_MAY_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        raise UnfitRootError(f"{_text(where)} has mode {mode:04o}, and only root may write there (chmod go-w)")


def _text(path: bytes) -> str:
    text = os.fsdecode(path)
    return text if text.isprintable() else ascii(text)
