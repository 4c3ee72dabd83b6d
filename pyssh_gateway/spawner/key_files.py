"""Opening the key files that the configuration names, with the rights of the spawner.

Whoever can write to such a file decides who gets in, so what sshd's StrictModes asks of authorized_keys is asked here.
"""

import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress

_OTHERS_MAY_WRITE = 0o022


def open_trusted(path: str, users: Iterable[str]) -> int:
    """A descriptor for reading `path`: a file of root's, ours or one of `users`' that nobody else may write to.

    Raises `OSError` with what is wrong. Does not wait: a FIFO in this place must not stop the spawner.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    problem = _problem(os.fstat(descriptor), {0, os.geteuid(), *_uids(users)})
    if problem is not None:
        os.close(descriptor)
        raise OSError(problem)
    return descriptor


def _problem(found: os.stat_result, owners: set[int]) -> str | None:
    if stat.S_ISDIR(found.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_uid not in owners:
        return f"it belongs to uid {found.st_uid}, who may not log in"
    if found.st_mode & _OTHERS_MAY_WRITE:
        return "others may write to it: run chmod go-w on it"
    return None


def _uids(users: Iterable[str]) -> Iterable[int]:
    for user in users:
        with suppress(KeyError):
            yield pwd.getpwnam(user).pw_uid
