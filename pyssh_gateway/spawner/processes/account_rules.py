"""Who may not log in now: the machine is closed, the account has expired, or its shell is not there.

The keys decide who somebody is; this decides whether the machine wants them at present, from the files that have always
said so. Runs in the spawner, for every session, so it opens nothing of the user's, only looks whether the shell is
there. A server that does not run as root can't read /etc/shadow, and then that file has no say.
"""

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

NOLOGIN_FILES = (Path("/etc/nologin"), Path("/run/nologin"))
"""Either closes the machine to everybody but root: nologin(5), and systemd's while it starts and stops."""

SHADOW = Path("/etc/shadow")
SHELLS = Path("/etc/shells")

MAX_MESSAGE_BYTES = 4096
"""More than this of a nologin file, two screens full, is not shown."""

MAX_FILE_BYTES = 8 * 1024 * 1024
"""More than this of /etc/shadow or /etc/shells is not read: a hundred thousand accounts."""

DEFAULT_SHELL = "/bin/sh"
"""The shell of an account that names none: passwd(5)."""

SHELLS_THAT_REFUSE = frozenset({"nologin", "false", "true", "git-shell", "rbash", "rzsh", "rksh"})
"""Shells that would not run `sftp-server` or `scp` if they were asked, as sshd asks them: those that run nothing, and
the restricted ones, some of which /etc/shells does list."""

ORDINARY_SHELLS = frozenset(
    {
        *("ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu", "oksh", "pwsh", "sh", "tcsh"),
        *("xonsh", "yash", "zsh"),
    }
)
"""Names of shells that run whatever they are asked to, wherever they are installed: images and package managers put
theirs under /usr/local, /nix or /home/linuxbrew and leave /etc/shells as it is."""


class _Ageing(msgspec.Struct, frozen=True):
    """The fields of shadow(5) that can close an account: days, or days since 1970; None where the field is empty."""

    changed: int | None
    maximum: int | None
    inactive: int | None
    expires: int | None


def refusal(
    entry: pwd.struct_passwd, *, today: int, shadow: Path = SHADOW, nologin: Sequence[Path] = NOLOGIN_FILES
) -> bytes | None:
    """What to tell somebody who may not log in as `entry` now, in whole lines; None if they may.

    `today` counts days since 1970-01-01, in UTC, as /etc/shadow does.
    """
    if entry.pw_uid != 0:
        for path in nologin:
            closed = _closed(path)
            if closed is not None:
                return closed
    ageing = _ageing(entry.pw_name, shadow)
    if ageing is not None and _expired(ageing, today):
        return f"The account {entry.pw_name} has expired; please ask whoever looks after this machine.\n".encode()
    if ageing is not None and _unused_too_long(ageing, today):
        return (
            f"The password of {entry.pw_name} expired too long ago, which closes the account; "
            "please ask whoever looks after this machine.\n"
        ).encode()
    problem = _shell_problem(entry.pw_shell or DEFAULT_SHELL)
    return None if problem is None else problem.encode(errors="surrogateescape")


def may_run_builtin(shell: str, shells: Path = SHELLS) -> bool:
    """Whether an account with `shell` may use the SFTP and scp servers that are built in, and so do not run its shell.

    That is so if the shell is known to run what it is asked to: by its name, or by a line of /etc/shells. Of any other
    (a menu, scponly, a shell that nobody has heard of) it can't be said from outside; it has to be asked, as sshd asks
    every shell, which never looks at /etc/shells.
    """
    shell = shell or DEFAULT_SHELL
    name = Path(shell).name
    if name in SHELLS_THAT_REFUSE:
        return False
    if name in ORDINARY_SHELLS:
        return True
    try:
        content = _read(shells, MAX_FILE_BYTES)
    except OSError:
        return False
    return os.fsencode(shell) in {line.partition(b"#")[0].strip() for line in content.splitlines()}


def _closed(path: Path) -> bytes | None:
    """What the nologin file `path` has to say, or None if there is none."""
    try:
        content = _read(path, MAX_MESSAGE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it is there, which is what counts
        content = b""
    if not content.strip():
        return f"This machine is closed to logins at present: {path} exists.\n".encode()
    return content if content.endswith(b"\n") else content + b"\n"


def _ageing(user: str, shadow: Path) -> _Ageing | None:
    """The account's line in `shadow`, or None if the file can't be read or has none."""
    try:
        content = _read(shadow, MAX_FILE_BYTES)
    except OSError:
        return None
    name = os.fsencode(user) + b":"
    for line in content.splitlines():
        if line.startswith(name):
            # Name, password, last change, minimum, maximum, warning, inactivity, expiry, reserved.
            days = [_days(field) for field in line.split(b":")[:9]] + [None] * 9
            return _Ageing(changed=days[2], maximum=days[4], inactive=days[6], expires=days[7])
    return None


def _days(field: bytes) -> int | None:
    """A number of days; None for an empty field, and for -1, which some tools write instead."""
    return int(field) if field.isdigit() else None


def _expired(ageing: _Ageing, today: int) -> bool:
    """Whether the account's own date has come: on that day it is closed, as pam_unix and su(1) have it.

    A 0 counts as a date. shadow(5) calls it ambiguous, but whoever writes it (chage -E 0) wants the account closed.
    """
    return ageing.expires is not None and today >= ageing.expires


def _unused_too_long(ageing: _Ageing, today: int) -> bool:
    """Whether the password has been out of date for longer than the inactivity period, which closes the account.

    A password that is merely out of date does not: nobody is asked for one here. Nor does one that was last changed on
    day 0, which means "change it at the next login".
    """
    if not ageing.changed or ageing.maximum is None or ageing.inactive is None:
        return False
    return today > ageing.changed + ageing.maximum + ageing.inactive


def _shell_problem(shell: str) -> str | None:
    """Why `shell` can't be anybody's shell (auth.c, allowed_user), or None if it can."""
    try:
        found = Path(shell).stat()
    except (OSError, ValueError):
        return f"This account's shell, {shell}, does not exist.\n"
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return f"This account's shell, {shell}, is not executable.\n"
    return None


def _read(path: Path, limit: int) -> bytes:
    """Up to `limit` bytes of the file at `path`, without waiting: a FIFO in its place must not stop the spawner."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    content = b""
    try:
        while len(content) < limit and (part := os.read(descriptor, limit - len(content))):
            content += part
    finally:
        os.close(descriptor)
    return content
