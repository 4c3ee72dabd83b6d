"""Home directories at boot: made, filled from the skeleton, moved to another place such as a volume.

A home is filled by a process that runs as the account, so that everything in the home belongs to the account, and
nothing else can be touched.
"""

import os
import pwd
import select
import signal
from pathlib import Path

from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.boot.directories import open_directory, really_open
from pyssh_gateway.spawner.boot.programs import CannotMake, run
from pyssh_gateway.spawner.boot.steps import OK, UNCHANGED
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.system.descriptors import closing

HOME_MODE = 0o700
"""What shadow's authors recommend (HOME_MODE in login.defs(5)): by default nobody else can read an account's files."""

SKELETON = Path("/etc/skel")

NO_HOMES = frozenset({"/", "/nonexistent"})
"""The home directories in the passwd entries of accounts that have no home."""

FILL_SECONDS = 30.0
"""How long the copy of the skeleton, a few files, may take. An account that exists already may have processes that stop
the copy (SIGSTOP)."""

MOVE_SECONDS = 300.0
"""The same for the copy of a home that is moved: an image may have put tools of a few gigabytes into it."""


def make_home(entry: pwd.struct_passwd) -> bool:
    """Make the home directory of `entry`, and fill it if it is new or empty. True if something was done."""
    if entry.pw_dir in NO_HOMES:
        return False
    return _fill_if_empty(entry.pw_dir, entry, SKELETON, FILL_SECONDS)


def move_home(entry: pwd.struct_passwd, home: str) -> bool:
    """Make `home` the home directory of `entry`, filled with a copy of its old home, or of the skeleton if it has none.

    The old home stays where it is. If `home` is not empty, an earlier boot has filled it.
    """
    filled_from = Path(entry.pw_dir) if entry.pw_dir not in NO_HOMES and Path(entry.pw_dir).is_dir() else SKELETON
    _fill_if_empty(home, entry, filled_from, MOVE_SECONDS)
    # Only after the copy, so that an account whose files could not be copied keeps its old home.
    run("usermod", "--home", home, "--", entry.pw_name)
    return True


def move_home_of(user: str, home: str) -> str:
    """As `move_home`, for an existing account; returns the outcome of the step."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return f"there is no account {user} on this machine"
    try:
        done = make_home(entry) if entry.pw_dir == home else move_home(entry, home)
    except CannotMake as error:
        return str(error)
    return OK if done else UNCHANGED


def _fill_if_empty(path: str, entry: pwd.struct_passwd, filled_from: Path, seconds: float) -> bool:
    place, _ = open_directory(path, mode=HOME_MODE)
    with closing(place), closing(really_open(place)) as home:
        with os.scandir(home) as entries:
            empty = next(entries, None) is None
        if not empty:
            owner = os.fstat(home).st_uid
            if owner != entry.pw_uid:
                raise CannotMake(f"its home {path} belongs to uid {owner}")
            return False
        os.fchown(home, entry.pw_uid, entry.pw_gid)
        os.fchmod(home, HOME_MODE)
        filled = _fill(home, entry, filled_from, seconds)
        os.fchmod(home, HOME_MODE)  # the copy has set the mode of its source
    if not filled:
        raise CannotMake(f"not all of {filled_from} could be copied to {path}")
    return True


def _fill(home: int, entry: pwd.struct_passwd, filled_from: Path, seconds: float) -> bool:
    """Copy `filled_from` as the account."""
    if not filled_from.is_dir():
        return True

    from shutil import copytree  # late: for new homes only; before the fork: the child may not be able to read modules

    def work() -> int:
        os.fchdir(3)
        copytree(filled_from, ".", symlinks=True, dirs_exist_ok=True)
        return 0

    return ended_well(child.start(Setup(descriptors=(NULL, NULL, NULL, home), account=entry), work), seconds)


def ended_well(pid: int, seconds: float) -> bool:
    """Wait for a process that runs as an account, and kill it after `seconds`: the account may have stopped it."""
    watched = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(watched, select.POLLIN)
        if not ended.poll(seconds * 1000):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(watched)
    return os.waitpid(pid, 0)[1] == 0
