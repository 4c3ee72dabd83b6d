"""Opening the key files that the configuration names, with the rights of the spawner.

Anybody who can replace such a file decides who gets in. So the same checks are made as sshd's StrictModes makes on
authorized_keys and every directory above it (`safe_path` in OpenSSH's misc.c).
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable

from pyssh_gateway.system.accounts import name_of

_MAX_LINKS = 40
"""How many links are followed for one file: as many as the kernel follows (path_resolution(7))."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_trusted(path: str, users: Iterable[str]) -> int:
    """A descriptor for reading `path`, an absolute path, if only trusted accounts could have put the file there.

    `users` are the accounts that its keys can log in to. The file and the directories above it may belong to root, to
    our own account, and, if the file has keys of one account only, to that account; with two, one could log in as the
    other. Raises `OSError` with the problem and its remedy. Does not wait: a FIFO at `path` must not stop the spawner.
    """
    account = _only_account(users)
    owners = {0, os.geteuid()} | ({account.pw_uid} if account is not None else set())
    return _Walk(owners, _home(account)).open(path)


class _Walk:
    """A walk from the root directory to a file: each part is opened and checked before the next is opened below it.

    So the file that is opened is the one that was checked, whatever is renamed meanwhile. Links are followed by hand.
    sshd checks only what they lead to; here a link needs a trusted owner and a trusted directory, too.
    """

    def __init__(self, owners: set[int], home: tuple[int, int] | None) -> None:
        self._owners = owners
        self._home = home
        self._problem: str | None = None
        self._above_home: str | None = None
        self._settled: str | None = None
        self._links = 0

    def open(self, path: str) -> int:
        """Walk to the file and open it. Raises OSError."""
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
                elif not stat.S_ISREG(status.st_mode):  # don't open it: that can have side effects
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
        """Check a directory. Note a problem for the end of the walk: one above the account's home will not count."""
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == self._home:
            # sshd checks no further up: somebody who can replace the whole home does not need this file.
            self._above_home, self._problem = self._problem, None
        if found.st_uid not in self._owners:
            self._problem = self._problem or (
                f"the directory {place} belongs to {_name(found.st_uid)}, who could put another file there: "
                f"run chown {self._wanted} {place}"
            )
        # An entry of a sticky directory (/tmp) can be renamed or removed only by root, by its own owner and by the
        # directory's (inode(7)), and both owners are checked. sshd refuses such a directory all the same.
        elif not found.st_mode & stat.S_ISVTX and others_may_write(found):
            self._problem = self._problem or (
                f"others may write to the directory {place}, and put another file there: run chmod go-w {place}"
            )

    def _link(self, at: int, place: str, name: str) -> str:
        """The target of a link, whose owner is checked."""
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
        """The owner to suggest for chown(1): the trusted account beside root, if there is one."""
        uid = max(self._owners)
        return name_of(uid) or str(uid)


def others_may_write(found: os.stat_result) -> bool:
    """Whether anybody but the owner and root may write there.

    A group with the owner as its only member does not count. Most machines give each account such a group and a umask
    of 002, so that its files are writable by the group; Debian's sshd allows it, too (its user-group-modes.patch).
    """
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid, found.st_uid)


def _is_private(gid: int, owner: int) -> bool:
    """Whether only `owner` is in the group, as a member or by the gid of its passwd entry."""
    try:
        members = grp.getgrgid(gid).gr_mem
        uids = {pwd.getpwnam(name).pw_uid for name in members} | {e.pw_uid for e in pwd.getpwall() if e.pw_gid == gid}
    except KeyError:  # a group without a name, or with a member that does not exist at present
        return False
    return uids <= {owner}


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _below(place: str, name: str) -> str:
    """The path of `name` in the directory `place`, which has no link in it."""
    return os.path.normpath(f"{place.rstrip('/')}/{name}")


def _only_account(users: Iterable[str]) -> pwd.struct_passwd | None:
    """The account, if all of `users` are the same one; None if they are several, or one of them does not exist."""
    try:
        accounts = {entry.pw_uid: entry for entry in map(pwd.getpwnam, users)}
    except KeyError:
        return None
    return next(iter(accounts.values())) if len(accounts) == 1 else None


def _home(account: pwd.struct_passwd | None) -> tuple[int, int] | None:
    """Device and inode of the home directory of `account`."""
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
