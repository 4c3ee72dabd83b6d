"""Accounts that are made at boot: groups, home directory, sudo.

The machine's own programs (useradd and its kin) keep its account files. An account that is there is left as it is but
for what it lacks. Where the root file system begins anew with each start and homes are on a volume, an account gets the
numbers that its home directory belongs to, so that its files stay its own; and never those of anybody else's home.
"""

import grp
import os
import pwd
import select
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.config.types import Account
from pyssh_gateway.core.launch import ROOT_PATH
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.boot.directories import open_directory, really_open
from pyssh_gateway.spawner.boot.steps import OK, UNCHANGED
from pyssh_gateway.spawner.child import NULL, UMASK, Setup
from pyssh_gateway.system.descriptors import closing

PROGRAM_SECONDS = 30
"""useradd updates a few files under a lock; when that takes longer, somebody else has the lock for good."""

FIRST_UID, LAST_UID = 1000, 60000
"""The numbers of people's accounts: UID_MIN and UID_MAX of login.defs(5), as shadow and Debian have them."""

FILL_SECONDS = 30.0
"""How long the copy of the skeleton may take: a few files. An account that is there already, with an empty home, may
have processes that stop it."""

HOME_MODE = 0o700
"""What shadow's authors recommend (HOME_MODE in login.defs(5)): nobody else reads one's files unless one lets them."""

SKELETON = Path("/etc/skel")
SUDOERS = Path("/etc/sudoers.d")

SUDO_GROUPS = ("sudo", "wheel")
"""Who may use sudo on Debian and Ubuntu, and on most others, where there is no `SUDOERS`."""

NO_HOMES = frozenset({"/", "/nonexistent"})
"""What accounts that are not for people have in the place of a home directory."""

_ENVIRONMENT = {"PATH": ROOT_PATH.decode(), "LC_ALL": "C"}


class CannotMake(Exception):
    """A part of an account can't be made; the text says why."""


def make_account(account: Account, all_of_them: tuple[Account, ...]) -> str:
    """Make `account`, or what it lacks; returns the outcome.

    A part that fails does not keep the others from being made: an account without sudo is better than none.
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
    for part in (_join_groups, _make_home, _set_sudo):
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
    _run("groupadd", "--system", "--", name)
    return True


def _add(account: Account, homes: Iterable[str]) -> pwd.struct_passwd:
    """Make the account itself, without its home."""
    home = account.home or f"/home/{account.user}"
    owner = _owner(home)
    if owner is not None and owner[0] > 0 and not _is_taken(owner[0]):
        uid, gid = owner
    else:
        uid = gid = _free_number({home, *homes})
    group = ["--user-group"]  # numbered as the account, if that number is free
    if _group(account.user) is not None:
        group = ["--gid", account.user]
    elif gid not in {0, uid} and _group(gid) is None:
        _run("groupadd", "--gid", str(gid), "--", account.user)
        group = ["--gid", account.user]
    # The home is made by us: useradd would not fill one that is there. No entry in lastlog, a file as long as uids go.
    options = ["--uid", str(uid), *group, "--no-create-home", "--no-log-init"]
    _run("useradd", *options, "--home-dir", home, "--shell", account.shell, "--", account.user)
    return pwd.getpwnam(account.user)


def _join_groups(account: Account, entry: pwd.struct_passwd) -> bool:
    """Put it into those of its groups that are there and that it is not in."""
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
    _run("usermod", "--append", "--groups", ",".join(missing), "--", entry.pw_name)
    return True


def _make_home(_account: Account, entry: pwd.struct_passwd) -> bool:
    """Make its home directory, and fill it if it is new or nothing is in it."""
    if entry.pw_dir in NO_HOMES:
        return False
    place, _ = open_directory(entry.pw_dir, mode=HOME_MODE)
    with closing(place), closing(really_open(place)) as home:
        with os.scandir(home) as entries:
            empty = next(entries, None) is None
        if not empty:
            owner = os.fstat(home).st_uid
            if owner != entry.pw_uid:
                raise CannotMake(f"its home {entry.pw_dir} belongs to uid {owner}")
            return False
        os.fchown(home, entry.pw_uid, entry.pw_gid)
        os.fchmod(home, HOME_MODE)
        filled = _fill(home, entry)
        os.fchmod(home, HOME_MODE)  # the copy gave it the skeleton's
    if not filled:
        raise CannotMake(f"not all of {SKELETON} could be copied to {entry.pw_dir}")
    return True


def _fill(home: int, entry: pwd.struct_passwd) -> bool:
    """Copy the skeleton as the account, so that everything is the account's and nothing else can be touched."""
    if not SKELETON.is_dir():
        return True

    from shutil import copytree  # late: new homes only; and not in the child, which may not be able to read modules

    def work() -> int:
        os.fchdir(3)
        copytree(SKELETON, ".", symlinks=True, dirs_exist_ok=True)
        return 0

    return ended_well(child.start(Setup(descriptors=(NULL, NULL, NULL, home), account=entry), work))


def ended_well(pid: int) -> bool:
    """Wait for a process that has become an account, which may stop it: nobody else's boot waits for that for ever."""
    watched = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(watched, select.POLLIN)
        if not ended.poll(FILL_SECONDS * 1000):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(watched)
    return os.waitpid(pid, 0)[1] == 0


def _set_sudo(account: Account, entry: pwd.struct_passwd) -> bool:
    """Let it become root without a password, or not any more."""
    if not SUDOERS.is_dir():
        return False
    # sudo passes over files with a dot in their names: sudoers(5), #includedir.
    path = SUDOERS / f"90-pyssh-gateway-{entry.pw_name.replace('.', ',')}"
    if not account.sudo:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True
    # In quotes, or sudo would take AMOS for the name of an alias.
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
        with suppress(FileNotFoundError):  # no visudo: the line is what it is
            _run("visudo", "--check", "--quiet", f"--file={new}", if_missing=FileNotFoundError)
        new.rename(path)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    return True


def _free_number(homes: set[str]) -> int:
    """The first number that no account and no group has, and that no file beside one of `homes` belongs to."""
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
    """To whom the directory `path` belongs, as uid and gid; None if there is none."""
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return found.st_uid, found.st_gid


def _group(name: str | int) -> int | None:
    """The number of the group, which is given by its name or number; None if there is none."""
    try:
        return (grp.getgrgid(name) if isinstance(name, int) else grp.getgrnam(name)).gr_gid
    except KeyError:
        return None


def _run(program: str, *arguments: str, if_missing: type[Exception] = CannotMake) -> None:
    """Run a program of the machine's. Raises `CannotMake` with what it says, `if_missing` if it is not there."""
    try:
        subprocess.run(
            [program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=PROGRAM_SECONDS,
            env=_ENVIRONMENT,
            umask=UMASK,
        )
    except FileNotFoundError:
        raise if_missing(f"there is no {program} on this machine: install it") from None
    except subprocess.TimeoutExpired:
        raise CannotMake(f"{program} has not ended within {PROGRAM_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise CannotMake(said if said.startswith(program) else f"{program}: {said}") from None
