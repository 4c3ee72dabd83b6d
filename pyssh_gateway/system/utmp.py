"""The format of the records of logged-in users on the disk, and reading them: utmp(5)."""

import os
import struct
from pathlib import Path

import msgspec

UTMP = "/var/run/utmp"
"""_PATH_UTMP of paths.h."""

MAX_UTMP_BYTES = 4 * 1024 * 1024
"""A utmp over this size, ten thousand lines, is broken: a machine has 4096 ptys (/proc/sys/kernel/pty/max)."""

USER_PROCESS = 7
"""The type of the entry of a logged-in user (USER_PROCESS of utmp.h)."""

_WIDE_MACHINES = frozenset({"aarch64", "s390x", "loongarch64"})
"""Where glibc's struct utmp has 64-bit times: `__WORDSIZE_TIME64_COMPAT32` is 0 in its bits/wordsize.h. Everywhere
else it has the layout of the 32-bit machines that came before."""


class Layout(msgspec.Struct, frozen=True):
    """The layout of utmp(5) and lastlog entries.

    A utmp entry: type, pid, line, id, user, host, the two of an exit status, session, seconds, microseconds, address.
    A lastlog entry: seconds, line, host.
    """

    utmp: struct.Struct
    lastlog: struct.Struct


# Seconds are unsigned here, as glibc has come to see them (2.40): the 32 bits then last until 2106.
NARROW = Layout(struct.Struct("=h2xi32s4s32s256shhiII16s20x"), struct.Struct("=I32s256s"))
WIDE = Layout(struct.Struct("=h2xi32s4s32s256shhqqq16s24x"), struct.Struct("=q32s256s"))


def layout(machine: str) -> Layout:
    """The layout on `machine`, as uname(2) names it, to a process of its own word size."""
    return WIDE if machine in _WIDE_MACHINES and struct.calcsize("P") == 8 else NARROW


def hosts(path: Path) -> dict[str, str]:
    """The remote host of each terminal line in use, from the utmp file at `path`. Raises `OSError`."""
    form = layout(os.uname().machine)
    with path.open("rb") as file:
        content = file.read(MAX_UTMP_BYTES)
    found = {}
    for place in range(0, len(content) - form.utmp.size + 1, form.utmp.size):
        kind, _, line, _, _, host, *_ = form.utmp.unpack_from(content, place)
        if kind == USER_PROCESS:
            found[line.rstrip(b"\0").decode(errors="replace")] = host.rstrip(b"\0").decode(errors="replace")
    return found
