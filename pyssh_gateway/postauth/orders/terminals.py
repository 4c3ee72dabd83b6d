"""Writes a line on the account's terminals that belong to no session, such as those inside an editor.

The monitor names terminals of processes that sessions have started. Whether one may be written to is decided here, with
the account's own rights: it is a pty of this account, whose owner takes messages (mesg(1)).
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.idle.terminals import is_pty, tells_who_wants_messages

MOST = 4
"""On how many terminals a line is written: the last used ones. What an editor shows goes to its client by a forward,
where a dozen lines would be more than a trickle, and so count as use of the client that they warn."""

DEVICES = Path("/dev")
MOUNTS = Path("/proc/self/mounts")


def show(lines: Iterable[str], text: str) -> int:
    """Write `text` on the terminals `lines` (names below /dev); returns on how many.

    One that does not take all of it at once (stopped, or nobody reads it) is passed over.
    """
    found: list[tuple[float, Path]] = []
    needed = stat.S_IWGRP if _tells_who_wants_messages() else 0
    for line in lines:
        with suppress(OSError):  # it is gone
            status = (DEVICES / line).lstat()
            if _is_own(status) and status.st_mode & needed == needed:
                found.append((status.st_atime, DEVICES / line))
    data = f"\r\n{text}\r\n".encode()
    return sum(_write(path, data) for _, path in sorted(found, reverse=True)[:MOST])


def _write(path: Path, data: bytes) -> bool:
    # It must not become this process's terminal, nor may it block this process.
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError):  # it is gone, or takes nothing now
        terminal = os.open(path, flags)
        try:  # another one may have the name by now
            return _is_own(os.fstat(terminal)) and os.write(terminal, data) == len(data)
        finally:
            os.close(terminal)
    return False


def _is_own(status: os.stat_result) -> bool:
    """Whether it is a pty of this account."""
    is_terminal = stat.S_ISCHR(status.st_mode) and is_pty(os.major(status.st_rdev))
    return is_terminal and status.st_uid == os.geteuid()


def _tells_who_wants_messages() -> bool:
    """Whether a terminal without the group's right to write is one whose owner wants no messages."""
    try:
        return tells_who_wants_messages(MOUNTS.read_text(errors="replace"))
    except OSError:
        return True
