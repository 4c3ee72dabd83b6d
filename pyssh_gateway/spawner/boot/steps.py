"""The steps of a boot: links, directories and accounts that the machine needs and its image or volume may lack.

A step looks at what exists, changes only what has to be changed, and reports its outcome; it is idempotent. All steps
run in a process of their own, which is forked before the server's code is imported and works while that goes on:
useradd takes a tenth of a second. This module knows nothing of sessions and services.
"""

import os
import pwd
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath

import msgspec

from pyssh_gateway.config.types import Boot, Directory, Link
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.boot.directories import open_directory, really_open
from pyssh_gateway.spawner.boot.progress import Booting, Step
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.system.descriptors import closing

OK = "ok"
UNCHANGED = "unchanged"
NEEDS_ROOT = "needs root: start the server as root, or make it by hand"


Told = Callable[[Step], None]


def begin(boot: Boot, logins: frozenset[str]) -> Booting | None:
    """Start the process that does every step of `boot`, accounts in `logins` before others; None: nothing to do."""
    homes = homes_of(boot, logins)
    if not boot.link and not boot.directory and not boot.account and not homes:
        return None
    ours, theirs = protocol.socket_pair()
    try:
        # None of the server's descriptors stays open there, so it does not matter how long the process takes.
        setup = Setup(descriptors=(NULL, NULL, NULL, theirs.fileno()))
        pid = child.start(setup, lambda: _work(boot, logins))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Booting(pid, ours, frozenset({*homes, *(account.user for account in boot.account)}))


def homes_of(boot: Boot, logins: frozenset[str]) -> dict[str, str]:
    """The accounts in `logins` whose homes `boot.homes` moves, and their new homes; root's home is never moved."""
    if not boot.homes:
        return {}
    made = {account.user for account in boot.account}
    return {user: f"{boot.homes}/{user}" for user in sorted(logins - made - {"root"})}


def _work(boot: Boot, logins: frozenset[str]) -> int:
    """In the child: do the steps."""
    with socket.socket(fileno=3) as end:
        perform(boot, logins, lambda step: _send(end, step))
    return 0


def _send(end: socket.socket, step: Step) -> None:
    with suppress(OSError):  # the server is gone; go on with the steps all the same
        end.send(msgspec.msgpack.encode(step))


def perform(boot: Boot, logins: frozenset[str], told: Told) -> None:
    """Do every step of `boot`: links, directories, accounts, homes, and then the directories of new accounts.

    Links and directories come first because they take no time, and a home may be in one of them. Accounts that can be
    logged in to come before others, because a client may be waiting.
    """
    from pyssh_gateway.spawner.boot import accounts, homes  # late: only this process needs them

    moved = homes_of(boot, logins)
    to_make = [
        msgspec.structs.replace(account, home=account.home or f"{boot.homes}/{account.user}") if boot.homes else account
        for account in boot.account
    ]

    if os.geteuid() != 0:
        steps = [*map(_link_step, boot.link), *map(_directory_step, boot.directory)]
        for step in steps:
            told(Step(step, NEEDS_ROOT))
        for account in boot.account:
            told(Step(f"account {account.user}", NEEDS_ROOT, account.user))
        for user, home in moved.items():
            told(Step(f"home {home}", NEEDS_ROOT, user))
        return
    for link in boot.link:
        told(Step(_link_step(link), _outcome(make_link, link)))
    later = [directory for directory in boot.directory if not _exists(directory.owner)]
    for directory in boot.directory:
        if directory not in later:
            told(Step(_directory_step(directory), _outcome(make_directory, directory)))
    for account in sorted(to_make, key=lambda account: account.user not in logins):
        outcome = _outcome(accounts.make_account, account, tuple(to_make))
        told(Step(f"account {account.user}", outcome, account.user))
    for user, home in moved.items():
        told(Step(f"home {home}", _outcome(homes.move_home_of, user, home), user))
    for directory in later:
        told(Step(_directory_step(directory), _outcome(make_directory, directory)))


def make_link(link: Link) -> str:
    """Make `link.path` a link to the directory `link.target`, and that directory; returns the outcome.

    An empty directory in the link's place is replaced, and so is a dangling link; anything else there is kept, because
    it belongs to somebody.
    """
    if link.path == link.target:
        return "path and target are the same"
    try:
        target, made = open_directory(link.target)
    except NotADirectoryError:
        return f"{link.target} is no directory"
    os.close(target)
    path = PurePosixPath(link.path)
    place, _ = open_directory(str(path.parent))
    name = path.name
    with closing(place):
        try:
            found = os.lstat(name, dir_fd=place)
        except FileNotFoundError:
            os.symlink(link.target, name, dir_fd=place)
            return OK
        if stat.S_ISLNK(found.st_mode):
            leads_to = os.readlink(name, dir_fd=place)
            if leads_to == link.target:
                return OK if made else UNCHANGED
            if _leads_somewhere(name, place):
                return f"it is a link to {leads_to} already: remove it"
            os.unlink(name, dir_fd=place)
        elif stat.S_ISDIR(found.st_mode):
            try:
                os.rmdir(name, dir_fd=place)
            except OSError as error:
                return f"the directory that is there stays ({error.strerror}): move what is in it to {link.target}"
        else:
            return "there is a file in its place: remove it"
        os.symlink(link.target, name, dir_fd=place)
    return OK


def make_directory(wanted: Directory) -> str:
    """Make the directory if it is missing, and give it to its owner with its mode; returns the outcome."""
    try:
        owner = pwd.getpwnam(wanted.owner)
    except KeyError:
        return f"there is no account {wanted.owner} on this machine"
    place, new = open_directory(wanted.path, mode=0o700)
    with closing(place), closing(really_open(place)) as directory:
        found = os.fstat(directory)
        mode = int(wanted.mode, 8)
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner.pw_uid, owner.pw_gid, mode):
            return OK if new else UNCHANGED
        os.fchown(directory, owner.pw_uid, owner.pw_gid)
        os.fchmod(directory, mode)  # after fchown, which clears set-group-ID
    return OK


def _leads_somewhere(name: str, place: int) -> bool:
    try:
        os.stat(name, dir_fd=place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # for example a loop of links: keep it
        return True
    return True


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _outcome(do: Callable[..., str], *wanted: object) -> str:
    """The outcome that `do` returns, or the text of its exception."""
    try:
        return do(*wanted)
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # noqa: BLE001 - a bug in one step must not cost the machine all the others
        return f"{type(error).__name__}: {error}"


def _link_step(link: Link) -> str:
    return f"link {link.path} -> {link.target}"


def _directory_step(directory: Directory) -> str:
    return f"directory {directory.path}"
