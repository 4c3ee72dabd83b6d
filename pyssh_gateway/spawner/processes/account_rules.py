"""Refusing logins at present: the machine is closed, the account has expired, or its shell does not exist.

The keys authenticate a user; these rules decide whether the account may be used now, from the usual files. They run in
the spawner for every session, so they open no file of the user's, and only check that the shell exists. A server that
does not run as root can't read /etc/shadow, and then ignores it.
"""

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

NOLOGIN_FILES = (Path("/etc/nologin"), Path("/run/nologin"))
"""Each of them closes the machine to everybody but root: that of nologin(5), and that of systemd at start and stop."""

SHADOW = Path("/etc/shadow")
SHELLS = Path("/etc/shells")

MAX_MESSAGE_BYTES = 4096
"""How much of a nologin file is shown, in bytes: two screens full."""

MAX_FILE_BYTES = 8 * 1024 * 1024
"""How much of /etc/shadow or /etc/shells is read, in bytes: a hundred thousand accounts."""

DEFAULT_SHELL = "/bin/sh"
"""The shell of an account that names none: passwd(5)."""

SHELLS_THAT_REFUSE = frozenset({"nologin", "false", "true", "git-shell", "rbash", "rzsh", "rksh"})
"""Shells that would refuse to run `sftp-server` or `scp` if sshd asked them to: those that run nothing, and restricted
shells, some of which /etc/shells lists."""

ORDINARY_SHELLS = frozenset(
    {
        *("ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu", "oksh", "pwsh", "sh", "tcsh"),
        *("xonsh", "yash", "zsh"),
    }
)
"""Names of shells that run any command, wherever they are installed: images and package managers put theirs under
/usr/local, /nix or /home/linuxbrew and don't add them to /etc/shells."""


class _Ageing(msgspec.Struct, frozen=True):
    """The fields of shadow(5) that can close an account: days, or days since 1970; None where the field is empty."""

    changed: int | None
    maximum: int | None
    inactive: int | None
    expires: int | None


def refusal(
    entry: pwd.struct_passwd, *, today: int, shadow: Path = SHADOW, nologin: Sequence[Path] = NOLOGIN_FILES
) -> bytes | None:
    """The message for a user who may not log in as `entry` now, in whole lines; None if the login is allowed.

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
    """Whether an account with `shell` may use the built-in SFTP and scp servers, which bypass its shell.

    It may if the shell is known to run any command, by its name or by a line of /etc/shells. For any other shell (a
    menu, scponly, an unknown one) that can't be known; the shell itself has to run the server then and may refuse. sshd
    does so with every shell, and never looks at /etc/shells.
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
    """The message of the nologin file `path`; None if there is no such file."""
    try:
        content = _read(path, MAX_MESSAGE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # the file exists, which is enough
        content = b""
    if not content.strip():
        return f"This machine is closed to logins at present: {path} exists.\n".encode()
    return content if content.endswith(b"\n") else content + b"\n"


def _ageing(user: str, shadow: Path) -> _Ageing | None:
    """The account's line in `shadow`; None if the file can't be read or has no such line."""
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
    """Whether the account's expiry date has come: from that day on it is closed, as with pam_unix and su(1).

    A 0 counts as a date. shadow(5) calls it ambiguous, but an administrator sets it (chage -E 0) to close the account.
    """
    return ageing.expires is not None and today >= ageing.expires


def _unused_too_long(ageing: _Ageing, today: int) -> bool:
    """Whether the password has been expired for longer than the inactivity period, which closes the account.

    A password that is merely expired does not close it, as no password is asked for here. Nor does a last change on day
    0, which means "change it at the next login".
    """
    if not ageing.changed or ageing.maximum is None or ageing.inactive is None:
        return False
    return today > ageing.changed + ageing.maximum + ageing.inactive


def _shell_problem(shell: str) -> str | None:
    """Why `shell` can't be used as a shell (sshd's auth.c, allowed_user); None if it can."""
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
