"""The walls around a preauth process: what is given up between its fork and the first byte of a stranger.

Straight-line code, because the order is the security property: what a step needs, no step before it has given up.
"""

import os
import pwd
import resource
from collections.abc import Collection

from pyssh_gateway.system import privileges
from pyssh_gateway.system.confinement import NO_BOUNDS, attempt, confine
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import PREAUTH

MOST_DESCRIPTORS = 16
"""Standard input, output and error, the client's socket, the one to the monitor, three of asyncio's loop; the rest is
room for a descriptor on its way. What has a higher number already stays open."""

STANDARD_DESCRIPTORS = 3

MOST_WRITTEN = 32 * 1024
"""How long a file may become by its writing. There is one, the memory that keeps its standard error for the spawner:
half of this (`spawner/processes/server_process.py`, WORDS_BYTES), so that a traceback is cut off and kills nobody."""


def enter(account: pwd.struct_passwd | None, directory: int | None, *, keep: Collection[int]) -> tuple[str, ...]:
    """Lock the calling process in, for good: it is a fork of the spawner with one thread, and forks no more.

    Started by root: `account` is whom to become, `directory` is open and becomes the root directory (see
    `startup.empty_directory`). Started by an ordinary account both are None, and the process stays that account.
    `keep` are the descriptors that stay open; standard ones that are not among them lead nowhere. What would be
    imported later has to be imported before: there are no files in here.

    The spawner calls `seccomp.prepare(PREAUTH)` once, or each process does what that saves: a millisecond.

    Returns what this machine does not have, a line each for the log. Raises OSError if the process can't become the
    account or can't leave the file system; it must not go on then.
    """
    seccomp.prepare(PREAUTH)
    missing: list[str] = []
    kept = {*keep} if directory is None else {*keep, directory}
    _close_all_but(kept)
    for limit, most in (
        (resource.RLIMIT_NOFILE, MOST_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN),
        (resource.RLIMIT_CORE, 0),  # its memory has what the client sends
        (resource.RLIMIT_NPROC, 0),  # no process, no thread; root is not bound by it, the account is
    ):
        resource.setrlimit(limit, (most, most))
    if account is not None:
        if directory is None:
            raise ValueError("a preauth process with an account of its own needs a root directory")
        os.fchdir(directory)
        os.chroot(".")
        os.chdir("/")
        os.close(directory)
        attempt(missing, NO_BOUNDS, privileges.empty_bounding_set)
        os.setgroups([])
        privileges.become(account.pw_uid, account.pw_gid)
    return (*missing, *confine(PREAUTH))


def _close_all_but(kept: Collection[int]) -> None:
    """Close what is not in `kept`. The spawner never lowers its limit, so all numbers are below that."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in range(STANDARD_DESCRIPTORS):
        if standard not in kept:
            os.dup2(null, standard)
    lowest = STANDARD_DESCRIPTORS
    for descriptor in sorted(each for each in kept if each >= STANDARD_DESCRIPTORS):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
