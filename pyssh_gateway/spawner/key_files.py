"""Opening the key files that the configuration names, with the rights of the spawner.

Whoever can put such a file in its place decides who gets in, so what sshd's StrictModes (`safe_path` in OpenSSH's
misc.c) asks of authorized_keys, and of every directory above it, is asked here.
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable

from pyssh_gateway.system.accounts import name_of

_MAX_LINKS = 40
"""Links that are followed for one file: as many as the kernel follows (path_resolution(7))."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_trusted(path: str, users: Iterable[str]) -> int:
    """A descriptor for reading `path`, an absolute path, if nobody but its owners could have put it there.

    `users` are the accounts that it lets in to. Root may own it and the directories above it, we may, and if it is the
    key file of one account only, that account: of two, one could get in as the other. Raises `OSError` with what is
    wrong and what to do about it. Does not wait: a FIFO in this place must not stop the spawner.
    """
    account = _only_account(users)
    owners = {0, os.geteuid()} | ({account.pw_uid} if account is not None else set())
    return _Walk(owners, _home(account)).open(path)


class _Walk:
    """One way from the root to a file: each step is opened and looked at before the next is taken from it.

    So what is opened is what was looked at, whatever is renamed meanwhile. Links are followed, by hand. sshd looks at
    what they lead to only; here they need a trusted owner and place, too.
    """

    def __init__(self, owners: set[int], home: tuple[int, int] | None) -> None:
        self._owners = owners
        self._home = home
        self._problem: str | None = None
        self._above_home: str | None = None
        self._settled: str | None = None
        self._links = 0

    def open(self, path: str) -> int:
        """Take the way. Raises OSError."""
        at, place = self._root(), "/"
        try:
            names = _names(path)
            while names:
                name = names.pop(0)
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    target = self._link(at, place, name)
                    names = _names(target) + names
                    if target.startswith("/"):
                        os.close(at)
                        at = -1
                        self._settled = self._settled or self._problem
                        at, place = self._root(), "/"
                elif names or stat.S_ISDIR(status.st_mode):
                    before, at = at, os.open(name, _STEP | os.O_DIRECTORY, dir_fd=at)
                    os.close(before)
                    place = _below(place, name)
                    if name == "..":
                        self._problem = self._above_home or self._problem
                    self._enter(at, place)
                elif not stat.S_ISREG(status.st_mode):  # not even opened: that can have effects
                    raise OSError("it is not a regular file")
                else:
                    return self._file(at, place, name)
            raise OSError("it is a directory")
        finally:
            if at >= 0:
                os.close(at)

    def _root(self) -> int:
        descriptor = os.open("/", _STEP | os.O_DIRECTORY)
        self._problem = self._above_home = None
        self._enter(descriptor, "/")
        return descriptor

    def _enter(self, descriptor: int, place: str) -> None:
        """Look at a directory. What is wrong counts at the file only, as it does not above the account's home."""
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == self._home:
            # sshd stops there: who can put another home in its place need not bother with this file.
            self._above_home, self._problem = self._problem, None
        if found.st_uid not in self._owners:
            self._problem = self._problem or (
                f"the directory {place} belongs to {_name(found.st_uid)}, who could put another file there: "
                f"run chown {self._wanted} {place}"
            )
        # In a sticky directory (/tmp) nobody but root and the owners of it or of an entry can rename or remove that
        # (inode(7)), and those owners are looked at. sshd refuses it all the same.
        elif not found.st_mode & stat.S_ISVTX and others_may_write(found):
            self._problem = self._problem or (
                f"others may write to the directory {place}, and put another file there: run chmod go-w {place}"
            )

    def _link(self, at: int, place: str, name: str) -> str:
        """Where a link leads to."""
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        descriptor = os.open(name, _STEP, dir_fd=at)
        try:
            owner = os.fstat(descriptor).st_uid
            if owner not in self._owners:
                link = _below(place, name)
                self._settled = self._settled or (
                    f"the link {link} belongs to {_name(owner)}, who could let it lead elsewhere: "
                    f"run chown -h {self._wanted} {link}"
                )
            return os.readlink("", dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _file(self, at: int, place: str, name: str) -> int:
        descriptor = os.open(name, _FILE, dir_fd=at)
        problem = self._settled or self._problem or self._file_problem(os.fstat(descriptor), place, name)
        if problem is not None:
            os.close(descriptor)
            raise OSError(problem)
        return descriptor

    def _file_problem(self, found: os.stat_result, place: str, name: str) -> str | None:
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        if found.st_uid not in self._owners:
            path = _below(place, name)
            return (
                f"it belongs to {_name(found.st_uid)}, who may not say who gets in by it: if what is in it is right, "
                f"run chown {self._wanted} {path}"
            )
        if others_may_write(found):
            return "others may write to it: run chmod go-w on it"
        return None

    @property
    def _wanted(self) -> str:
        """Who should own it, for chown(1): the one account that there is beside root, if there is one."""
        uid = max(self._owners)
        return name_of(uid) or str(uid)


def others_may_write(found: os.stat_result) -> bool:
    """Whether anybody but the owner and root may write there.

    A group of the owner's alone is nobody else. Most machines give each account one, and a umask of 002, by which all
    that it makes is the group's, too; Debian's sshd sees it so as well (its user-group-modes.patch).
    """
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid, found.st_uid)


def _is_private(gid: int, owner: int) -> bool:
    """Whether nobody but `owner` is in the group, as a member or by the account's own entry."""
    try:
        members = grp.getgrgid(gid).gr_mem
        uids = {pwd.getpwnam(name).pw_uid for name in members} | {e.pw_uid for e in pwd.getpwall() if e.pw_gid == gid}
    except KeyError:  # a group without a name, or with a member who is gone and may come back
        return False
    return uids <= {owner}


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _below(place: str, name: str) -> str:
    """The path of `name` in the directory `place`, which has no link in it."""
    return os.path.normpath(f"{place.rstrip('/')}/{name}")


def _only_account(users: Iterable[str]) -> pwd.struct_passwd | None:
    """The account that all of `users` are; None if they are several, or one of them is not there."""
    try:
        accounts = {entry.pw_uid: entry for entry in map(pwd.getpwnam, users)}
    except KeyError:
        return None
    return next(iter(accounts.values())) if len(accounts) == 1 else None


def _home(account: pwd.struct_passwd | None) -> tuple[int, int] | None:
    """Which directory is the home of `account`: device and inode."""
    if account is None:
        return None
    try:
        descriptor = os.open(account.pw_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(descriptor)
    os.close(descriptor)
    return found.st_dev, found.st_ino


def _name(uid: int) -> str:
    name = name_of(uid)
    return f"uid {uid}" if name is None else f"uid {uid} ({name})"
