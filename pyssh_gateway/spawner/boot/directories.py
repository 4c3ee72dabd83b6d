"""Directories that root makes and changes, in places that other accounts may be able to write to.

A path is walked one directory at a time, and a link on the way is followed only where nobody but root can have put it.
Changes are then made by the directory's descriptor, so that nobody can put another directory in its place.
"""

import os
import stat

from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

MAX_LINKS = 40
"""How many links are followed for one path: the kernel's own limit (path_resolution(7))."""

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str, *, mode: int = 0o755) -> tuple[int, bool]:
    """An O_PATH descriptor of the directory at the absolute `path`, and whether it is new.

    Missing directories on the way are made, owned by root, with mode 755; `mode` is for the last one. Raises OSError,
    also for a link that others could have put there: with it they would choose what root changes.
    """
    names = _parts(path)
    followed, new = 0, False
    here = os.open("/", _PLACE | os.O_DIRECTORY)
    try:
        while names:
            name = names.pop()
            try:
                there = os.open(name, _PLACE, dir_fd=here)
                new = False
            except FileNotFoundError:
                os.mkdir(name, 0o755 if names else mode, dir_fd=here)
                there = os.open(name, _PLACE, dir_fd=here)
                new = True
            kind = os.fstat(there).st_mode
            if stat.S_ISDIR(kind):
                os.close(here)
                here = there
                continue
            os.close(there)
            followed += 1
            _check_link(kind, here, followed, f"{name} in {path}")
            leads_to = os.readlink(name, dir_fd=here)
            if leads_to.startswith("/"):
                os.close(here)
                here = os.open("/", _PLACE | os.O_DIRECTORY)
            names += _parts(leads_to)
    except BaseException:
        os.close(here)
        raise
    return here, new


def _check_link(kind: int, place: int, followed: int, what: str) -> None:
    """Raise OSError unless `what`, an entry of the directory `place` that is no directory, is a link to follow."""
    if not stat.S_ISLNK(kind):
        raise NotADirectoryError(f"{what} is no directory")
    if followed > MAX_LINKS:
        raise PermissionError(f"{what} is one link of too many")
    found = os.fstat(place)
    if found.st_uid != 0 or found.st_mode & OTHERS_MAY_WRITE:
        raise PermissionError(f"{what} is a link in a directory that others can write to")


def really_open(place: int) -> int:
    """A descriptor that can read and change the directory `place`, whose own descriptor (O_PATH) can't."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)


def _parts(path: str) -> list[str]:
    """The names in `path`, the first one last. `..` stays: the kernel knows what is above a descriptor's directory."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]
