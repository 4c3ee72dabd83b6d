"""Names for the SFTP server: real paths, tildes, accounts, and the line that `ls -l` shows."""

# The names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH109, PTH115, PTH118, PTH120

import errno
import grp
import os
import pwd
import stat
import time

from pyssh_gateway.as_user.sftp.wire import PATH_MAX
from pyssh_gateway.system.accounts import name_of

MAX_LINKS = 40
"""How many symbolic links a path may go through: the kernel's own limit (path_resolution(7))."""

MAX_ACCOUNTS = 4096
"""How many account names are cached; for further names a listing asks the system each time."""

_RECENT_SECONDS = 365 * 24 * 60 * 60 // 2
"""Half a year: ls(1) and sftp-server show the time of day for younger files, and the year for older ones."""


class Accounts:
    """Names of users and groups by number, cached: a directory of 10,000 files has few owners.

    `own` is the entry of the account that this process runs as; None: look it up.
    """

    def __init__(self, own: pwd.struct_passwd | None = None) -> None:
        self._own = own
        self._users: dict[int, str] = {} if own is None else {own.pw_uid: own.pw_name}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The user's name, or empty if there is none."""
        if uid not in self._users:
            _remember(self._users, uid, name_of(uid) or "")
        return self._users[uid]

    def group(self, gid: int) -> str:
        """The group's name, or empty if there is none."""
        if gid not in self._groups:
            try:
                found = grp.getgrgid(gid).gr_name
            except (KeyError, OSError):
                found = ""
            _remember(self._groups, gid, found)
        return self._groups[gid]

    def own(self) -> pwd.struct_passwd:
        """The entry of the account that this process runs as. Raises KeyError."""
        return pwd.getpwuid(os.getuid()) if self._own is None else self._own

    def home_directory(self, user: bytes) -> bytes:
        """The home directory of `user`; of the account that this process runs as if `user` is empty."""
        if self._own is not None and user in {b"", os.fsencode(self._own.pw_name)}:
            return os.fsencode(self._own.pw_dir)
        return home_directory(user)

    def expand_tilde(self, path: bytes) -> bytes:
        """`path` with a leading `~` or `~user` replaced by that account's home directory."""
        if not path.startswith(b"~"):
            return path
        user, slash, rest = path[1:].partition(b"/")
        return self.home_directory(user) + slash + rest


def long_name(name: bytes, found: os.stat_result, accounts: Accounts, now: float) -> bytes:
    """The line that `ls -l` shows for `name`, laid out as OpenSSH's ls_file (sftp-common.c) does."""
    user = accounts.user(found.st_uid) or str(found.st_uid)
    group = accounts.group(found.st_gid) or str(found.st_gid)
    layout = "%b %e %H:%M" if now - found.st_mtime < _RECENT_SECONDS else "%b %e  %Y"
    try:
        when = time.strftime(layout, time.localtime(found.st_mtime))
    except (OverflowError, ValueError, OSError):  # a time stamp outside of the calendar
        when = ""
    line = f"{stat.filemode(found.st_mode)}  {found.st_nlink:3} {user:<8} {group:<8} {found.st_size:8} {when} "
    return os.fsencode(line) + name


def real_path(path: bytes) -> bytes:
    """`path` made absolute, without `.`, `..`, and symbolic links. Only its last part may be missing.

    A client needs that to name a file before it makes it, and sftp-realpath.c does the same. os.path.realpath either
    requires every part to exist, or none.
    """
    resolved = b"/" if path.startswith(b"/") else os.getcwdb()
    parts = path.split(b"/")[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in {b"", b"."}:
            continue
        if part == b"..":
            resolved = os.path.dirname(resolved)
            continue
        candidate = os.path.join(resolved, part)
        if len(candidate) >= PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        try:
            mode = os.lstat(candidate).st_mode
        except FileNotFoundError:
            if parts:
                raise
            return candidate
        if not stat.S_ISLNK(mode):
            resolved = candidate
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(candidate)
        if target.startswith(b"/"):
            resolved = b"/"
        parts.extend(reversed(target.split(b"/")))
    return resolved


def home_directory(user: bytes) -> bytes:
    """The home directory of `user`, or of the account that this process runs as if `user` is empty."""
    try:
        entry = pwd.getpwnam(os.fsdecode(user)) if user else pwd.getpwuid(os.getuid())
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    return os.fsencode(entry.pw_dir)


def _remember(names: dict[int, str], number: int, name: str) -> None:
    if len(names) >= MAX_ACCOUNTS:
        names.clear()
    names[number] = name
