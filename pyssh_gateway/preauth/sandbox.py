"""The sandbox of a preauth process: the rights that it gives up between its fork and the first byte of its client.

Straight-line code, because the order is the security property: a step may not give up what a later step needs.
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
room for a descriptor that is being received. Descriptors that are open already keep their higher numbers."""

STANDARD_DESCRIPTORS = 3

MOST_WRITTEN = 32 * 1024
"""How long a file may become, in bytes. The process can write to one file only, the memory file that keeps its standard
error for the spawner. That has half of this (`spawner/processes/server_process.py`, WORDS_BYTES), so a long traceback
is cut off there, and never reaches this limit, which would kill the process."""


def enter(account: pwd.struct_passwd | None, directory: int | None, *, keep: Collection[int]) -> tuple[str, ...]:
    """Confine the calling process for good: it is a fork of the spawner with one thread, and can't fork afterwards.

    Started by root: the process becomes `account`, and `directory`, a descriptor, becomes its root directory (see
    `startup.empty_directory`). Started by an ordinary account, both are None, and the process stays that account.
    `keep` are the descriptors that stay open; standard descriptors that are not among them lead to /dev/null. Every
    module must have been imported before: there are no files inside.

    The spawner should call `seccomp.prepare(PREAUTH)` once; that saves each process a millisecond.

    Returns the protections that this machine lacks, a line each for the log. Raises OSError if the process can't become
    the account or can't leave the file system; it must not go on then.
    """
    seccomp.prepare(PREAUTH)
    missing: list[str] = []
    kept = {*keep} if directory is None else {*keep, directory}
    _close_all_but(kept)
    for limit, most in (
        (resource.RLIMIT_NOFILE, MOST_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN),
        (resource.RLIMIT_CORE, 0),  # a core dump would contain what the client sent
        (resource.RLIMIT_NPROC, 0),  # no new process or thread; binds the account, not root
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
    """Close all descriptors that are not in `kept`. All are below RLIMIT_NOFILE: the spawner never lowers it."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in range(STANDARD_DESCRIPTORS):
        if standard not in kept:
            os.dup2(null, standard)
    lowest = STANDARD_DESCRIPTORS
    for descriptor in sorted(each for each in kept if each >= STANDARD_DESCRIPTORS):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
