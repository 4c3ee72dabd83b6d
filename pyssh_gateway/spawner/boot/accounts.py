"""Accounts that are made at boot: groups, sudo, and with `homes` their home directories.

The machine's own programs (useradd and its relatives) change the account files. An existing account only gets what it
lacks. On machines whose root file system is reset at each start while homes are on a volume, an account gets the uid
and gid that its home directory belongs to, so that its files stay its own. It never gets those of another home.
"""

import grp
import os
import pwd
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.config.types import Account
from pyssh_gateway.spawner.boot import homes
from pyssh_gateway.spawner.boot.programs import CannotMake, run
from pyssh_gateway.spawner.boot.steps import OK, UNCHANGED
from pyssh_gateway.system.descriptors import closing

FIRST_UID, LAST_UID = 1000, 60000
"""The uids of people's accounts: UID_MIN and UID_MAX of login.defs(5), with the values of shadow and Debian."""

SUDOERS = Path("/etc/sudoers.d")

SUDO_GROUPS = ("sudo", "wheel")
"""The groups that may use sudo, for machines without `SUDOERS`: of Debian and Ubuntu, and of most others."""


def make_account(account: Account, all_of_them: tuple[Account, ...]) -> str:
    """Make `account`, or what it lacks; returns the outcome.

    A part that fails does not stop the others: an account without sudo is better than none.
    """
    problems: list[str] = []
    changed = False
    made_groups = 0
    for group in account.groups:
        try:
            made_groups += _make_group(group)
        except CannotMake as error:
            problems.append(str(error))
    try:
        entry = pwd.getpwnam(account.user)
    except KeyError:
        try:
            entry = _add(account, [other.home or f"/home/{other.user}" for other in all_of_them])
        except CannotMake as error:
            return "; ".join([*problems, str(error)])
        changed = True
        if not os.access(entry.pw_shell, os.X_OK):
            problems.append(f"its shell {entry.pw_shell} is not on this machine")
    for part in (_join_groups, _home, _set_sudo):
        try:
            changed |= part(account, entry)
        except CannotMake as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(
                f"{error.filename or part.__name__.strip('_').replace('_', ' ')}: {error.strerror or error}"
            )
    return "; ".join(problems) or (OK if changed or made_groups else UNCHANGED)


def _make_group(name: str) -> bool:
    if _group(name) is not None:
        return False
    run("groupadd", "--system", "--", name)
    return True


def _add(account: Account, places: Iterable[str]) -> pwd.struct_passwd:
    """Make the account itself, without its home."""
    home = account.home or f"/home/{account.user}"
    owner = _owner(home)
    if owner is not None and owner[0] > 0 and not _is_taken(owner[0]):
        uid, gid = owner
    else:
        uid = gid = _free_number({home, *places})
    group = ["--user-group"]  # numbered as the account, if that number is free
    if _group(account.user) is not None:
        group = ["--gid", account.user]
    elif gid not in {0, uid} and _group(gid) is None:
        run("groupadd", "--gid", str(gid), "--", account.user)
        group = ["--gid", account.user]
    # We make the home: useradd would not fill an existing one. --no-log-init: lastlog would grow up to the uid's place.
    options = ["--uid", str(uid), *group, "--no-create-home", "--no-log-init"]
    run("useradd", *options, "--home-dir", home, "--shell", account.shell, "--", account.user)
    return pwd.getpwnam(account.user)


def _join_groups(account: Account, entry: pwd.struct_passwd) -> bool:
    """Add the account to those of its groups that exist and that it is not in yet."""
    wanted = list(account.groups)
    if account.sudo and not SUDOERS.is_dir():
        group = next((name for name in SUDO_GROUPS if _group(name) is not None), None)
        if group is None:
            raise CannotMake("there is no sudo on this machine: install it")
        wanted.append(group)
    has = os.getgrouplist(entry.pw_name, entry.pw_gid)
    missing = [name for name in wanted if (group_id := _group(name)) is not None and group_id not in has]
    if not missing:
        return False
    run("usermod", "--append", "--groups", ",".join(missing), "--", entry.pw_name)
    return True


def _home(account: Account, entry: pwd.struct_passwd) -> bool:
    """Make the account's home, or move it: an account that existed already may have its home elsewhere."""
    if account.home and account.home != entry.pw_dir:
        return homes.move_home(entry, account.home)
    return homes.make_home(entry)


def _set_sudo(account: Account, entry: pwd.struct_passwd) -> bool:
    """Let the account become root without a password, or revoke that."""
    if not SUDOERS.is_dir():
        return False
    # sudo skips files with a dot in their names: sudoers(5), #includedir.
    path = SUDOERS / f"90-pyssh-gateway-{entry.pw_name.replace('.', ',')}"
    if not account.sudo:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True
    # In quotes, because sudo takes an unquoted name in capitals, such as AMOS, for an alias.
    line = f'"{entry.pw_name}" ALL=(ALL:ALL) NOPASSWD: ALL\n'
    with suppress(OSError):
        if path.read_text() == line:
            return False
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o440)
    with closing(descriptor):
        os.write(descriptor, line.encode())
    try:
        with suppress(FileNotFoundError):  # without visudo the line is not checked
            run("visudo", "--check", "--quiet", f"--file={new}", if_missing=FileNotFoundError)
        new.rename(path)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    return True


def _free_number(homes: set[str]) -> int:
    """The first number that is no account's uid and no group's gid, and that owns no neighbour of one of `homes`."""
    others: set[int] = set()
    for home in homes:
        with suppress(OSError), os.scandir(Path(home).parent) as neighbours:
            for neighbour in neighbours:
                with suppress(OSError):
                    others.add(neighbour.stat(follow_symlinks=False).st_uid)
    for number in range(FIRST_UID, LAST_UID):
        if number not in others and not _is_taken(number) and _group(number) is None:
            return number
    raise CannotMake(f"no number from {FIRST_UID} to {LAST_UID} is free")


def _is_taken(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _owner(path: str) -> tuple[int, int] | None:
    """The owner of the directory `path`, as uid and gid; None if there is no such directory."""
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return found.st_uid, found.st_gid


def _group(name: str | int) -> int | None:
    """The gid of the group, which is given by its name or gid; None if there is no such group."""
    try:
        return (grp.getgrgid(name) if isinstance(name, int) else grp.getgrnam(name)).gr_gid
    except KeyError:
        return None
