"""Ends the processes of a connection whose key was revoked: first a hang-up, then, after some time, a kill.

An SSH session's processes are those of its kernel session (setsid(2)), whose leader is its first process. A process
that has left the kernel session on purpose, such as a tmux server or a daemon, belongs to the account and not to the
connection. The signals are sent with the account's rights: a process started with sudo is root's and stays, as it would
after a lost connection.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5.0
"""From the hang-up to the kill: for a shell's trap and an editor's last save. The warning was ten seconds earlier."""

ROUNDS = 3
"""How often processes are listed and killed: one that keeps forking may have a child that the last list missed."""


class Revoked:
    """The sessions that are being ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, tuple[Callable[[], bool], asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        """How many sessions have not been killed yet."""
        return len(self._waiting)

    def end(self, leader: int, has_ended: Callable[[], bool]) -> None:
        """Hang up the session of the process `leader`. `has_ended` says whether the leader has been reaped."""
        if leader in self._waiting:
            return
        self._signal(leader, has_ended, signal.SIGHUP, signal.SIGCONT)
        self._waiting[leader] = has_ended, self._loop.call_later(GRACE_SECONDS, self._kill, leader)

    def close(self) -> None:
        """This process ends: kill the sessions now, without waiting."""
        for leader in tuple(self._waiting):
            self._waiting[leader][1].cancel()
            self._kill(leader)

    def _kill(self, leader: int) -> None:
        has_ended, _ = self._waiting.pop(leader)
        for _ in range(ROUNDS):
            if not self._signal(leader, has_ended, signal.SIGKILL):
                break

    @staticmethod
    def _signal(leader: int, has_ended: Callable[[], bool], *numbers: int) -> bool:
        """Send the signals to every process of the session; returns whether there was any."""
        members = _members(leader)
        if leader in members and has_ended():  # the pid has been reused by another process
            return False
        for pid in members:
            for number in numbers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return bool(members)


def _members(session: int) -> set[int]:
    """The processes of the session, as far as they are visible."""
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_in(entry, session)}


def _is_in(entry: Path, session: int) -> bool:
    try:
        return os.getsid(int(entry.name)) == session
    except OSError:  # it has ended meanwhile
        return False
