"""Gives up rights for good: steps of a process before it handles untrusted data.

All functions raise OSError if the kernel refuses, or has no such call; the caller decides what follows from that.
"""

import errno
import os
import signal
import struct

from pyssh_gateway.system import libc

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
"""prctl(2)."""

MOST_CAPABILITIES = 64
"""The number of capabilities in the kernel's sets; Linux 6 has 41 (linux/capability.h)."""

_CAPABILITY_HEADER = struct.pack("@Ii", 0x20080522, 0)
"""_LINUX_CAPABILITY_VERSION_3, whose sets have 64 bits, and 0 for the calling thread (capset(2))."""

_NO_CAPABILITIES = struct.pack("@6I", 0, 0, 0, 0, 0, 0)
"""Effective, permitted and inheritable, each in two halves."""


def become(uid: int, gid: int) -> None:
    """Give up every right that is not `uid`'s. The process must not go on if this raises."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError("the process kept rights that it should have lost")


def empty_bounding_set() -> None:
    """Make sure that no program that this process starts gains a capability (capabilities(7)).

    Takes CAP_SETPCAP, so it has to be done before the process stops being root.
    """
    for capability in range(MOST_CAPABILITIES):
        try:
            libc.prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel has no more
                return
            raise


def drop_capabilities() -> None:
    """Drop all capabilities, also the inheritable ones. That empties the ambient set, too (capabilities(7))."""
    libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES)


def no_new_privileges() -> None:
    """Gain no rights by setuid programs and the like any more, in this process and in all that it starts."""
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1)


def undumpable() -> None:
    """Keep this process's memory from others of its account: no ptrace(2), no core file, /proc belongs to root.

    A change of uid undoes this, so it comes after `become`.
    """
    libc.prctl(PR_SET_DUMPABLE, 0)


def end_with_parent(parent: int) -> None:
    """Have this process killed when the process that forked it, `parent`, ends. A change of uid undoes this, too."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)
