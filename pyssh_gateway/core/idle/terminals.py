"""Whether a person uses a terminal without a connection of ours: mosh, whose SSH connection only starts it.

Such a terminal belongs to processes that a session has left behind. Typing reveals a person: the device's access time
is that of the last key that a program read from it (`w` computes idle times from it). Output does not: a clock writes,
too. A login record shows a connected mosh client, where there are such records. Pure: it is given the terminals.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from pyssh_gateway.core.idle.background import Sample

PAUSE_SECONDS = 300.0
"""How long a person may type nothing without counting as gone, unless `idle.client_idle` is set: as long as a lost SSH
client counts as connected (`session.keepalive` times `session.keepalive_misses`)."""

CLOCK_SECONDS = 8.0
"""By how much a key press may be later than the terminal's access time, which the kernel rounds (tty_io.c,
tty_update_time)."""

MOSH_SERVER = "mosh-server"

_FIRST_PTS_MAJOR, _PTS_MAJORS = 136, 8
"""UNIX98_PTY_SLAVE_MAJOR and UNIX98_PTY_MAJOR_COUNT of the kernel's major.h."""

_DEVPTS = ["/dev/pts", "devpts"]
_MODE = re.compile(r"(?:^|,)mode=([0-7]{3,4})(?:,|$)", re.ASCII)
_GROUP_WRITE = 0o020

_BY_MOSH = re.compile(r".* via mosh \[([0-9]{1,10})\]")
"""What mosh-server writes into the record's host field while it hears from its client (mosh-server.cc). After half a
minute without the client, it writes "mosh [pid]"."""


class Terminal(msgspec.Struct, frozen=True):
    """A terminal: its name below /dev, its owner, and the name of the program behind it.

    `typed` is the Unix time of the last key, or while there was none, equal to `made`, the time of its creation.
    `connected`: a login record says that its client is connected.
    """

    line: str
    uid: int
    holder: str
    typed: float
    made: float
    connected: bool = False


def is_pty(major: int) -> bool:
    """Whether a device with this major number is a pty's terminal."""
    return _FIRST_PTS_MAJOR <= major < _FIRST_PTS_MAJOR + _PTS_MAJORS


def tells_who_wants_messages(mounts: str) -> bool:
    """Whether `mesg n` can be told from a new terminal's mode, by the text of /proc/self/mounts.

    mesg(1) takes the right to write from the group of the terminal (tty). New terminals have that right on most
    machines, but not in containers whose /dev/pts was mounted without `mode=620`.
    """
    modes = [_MODE.search(fields[3]) for line in mounts.splitlines() if (fields := line.split(" "))[1:3] == _DEVPTS]
    return bool(modes) and modes[-1] is not None and bool(int(modes[-1][1], 8) & _GROUP_WRITE)


def line_of(number: int) -> str:
    """The terminal with the device number `number`, as in /proc/PID/stat (tty_nr); empty if it is not a pty."""
    # MKDEV's 32 bits (kdev_t.h, new_encode_dev): minor numbers on both sides of the major one.
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if not is_pty(major):
        return ""
    return f"pts/{(major - _FIRST_PTS_MAJOR) * 256 + minor}"


def left_behind(sample: Sample, ours: Iterable[str]) -> dict[str, tuple[int, str]]:
    """The terminals of the sample's processes that are not `ours`: the owner of each, and the program behind it."""
    by_pid = {process.pid: process for process in sample.processes}
    known, found = set(ours), dict[str, tuple[int, str]]()
    for process in sorted(sample.processes, key=lambda one: one.started):
        parent = by_pid.get(process.parent)
        if process.tty and process.tty not in known | found.keys() and (parent is None or parent.tty != process.tty):
            found[process.tty] = process.uid, parent.name if parent is not None else process.name
    return found


def connected_by_mosh(hosts: Mapping[str, str], sample: Sample) -> frozenset[str]:
    """The terminals with a connected mosh client by `hosts` (line -> host field), if its server is in the sample."""
    servers = {process.pid for process in sample.processes if process.name == MOSH_SERVER}
    found = {line: _BY_MOSH.fullmatch(host) for line, host in hosts.items()}
    return frozenset(line for line, match in found.items() if match is not None and int(match[1]) in servers)


def used(
    terminals: Iterable[Terminal], *, now: float, since: float, timeout: float, client_idle: float | None
) -> tuple[Terminal, ...]:
    """The terminals in use at `now` (Unix time) without a connection; the last connection ended at `since`.

    Keys from before `since` came through that connection: nobody uses a detached tmux. With mosh, the person need not
    have typed anything yet.
    """
    pause = max(timeout, PAUSE_SECONDS) if client_idle is None else client_idle

    def is_used(terminal: Terminal) -> bool:
        if terminal.connected and client_idle is None:
            return True
        is_recent = now - terminal.typed < pause + CLOCK_SECONDS
        return is_recent and (terminal.holder == MOSH_SERVER or terminal.typed > max(since, terminal.made))

    return tuple(filter(is_used, terminals))
