"""Facts about processes from the kernel: their descendants, names and memory, and whether a port is listened on."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.005
"""How often a condition without an event is polled, where the time itself is not measured."""

_LISTEN = "0A"  # TCP_LISTEN in proc_net_tcp(5)


class Deadline(Exception):
    """Something that was due did not happen in time."""


def wait_for(look: Callable[[], T], seconds: float, what: str, *, poll: float = POLL_SECONDS) -> T:
    """The result of `look` as soon as it is true. Raises `Deadline` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise Deadline(f"no {what} within {seconds:.0f} s")
        time.sleep(poll)


def is_listening(port: int) -> bool:
    """Whether a connection to `port` on 127.0.0.1 would be accepted; asks the kernel and not the server."""
    with Path("/proc/net/tcp").open() as sockets:
        next(sockets)
        for line in sockets:
            _, local, _, state = line.split(None, 4)[:4]
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


def tree(root: int) -> list[int]:
    """`root` and everything below it that is still running."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def owned_by(uid: int) -> list[int]:
    """The processes of an account."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The entry itself belongs to root for an undumpable process, such as postauth.
            status = (entry / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        real = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
        if real and int(real[1]) == uid:
            found.append(int(entry.name))
    return found


def process_name(pid: int) -> str:
    """The name of a process as `ps -o comm` shows it to every account; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def family(root: int, prefix: str) -> list[int]:
    """`root`, and those of its descendants whose names begin with `prefix`.

    The executable says less: a process that a server forks for a user without an exec (SFTP) has that of the server.
    """
    return [pid for pid in tree(root) if pid == root or process_name(pid).startswith(prefix)]


def pss_bytes(pid: int) -> int:
    """A process's proportional set size: a page that three share counts as a third. 0 if it has ended.

    Raises `PermissionError` if it is undumpable and we are not root.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def written_bytes(pid: int) -> int:
    """How much a process has passed to write(2) so far."""
    found = re.search(r"^wchar: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
