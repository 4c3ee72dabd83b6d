"""Ends what runs in the sessions of a connection whose key was revoked: a hang-up, some time, and then a kill.

A session's processes are those of its session in the kernel's sense (setsid(2)), which its first process leads. What
has left that on purpose, a tmux server or a daemon, is the account's and not the connection's. The account's rights
do it: what somebody has started with sudo is root's, and stays, as it would at a lost line.
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
"""How often it is looked for processes to kill: one that forks all the while may have a child that was not seen."""


class Revoked:
    """The sessions that are being ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, tuple[Callable[[], bool], asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        """How many there are whose time is not over."""
        return len(self._waiting)

    def end(self, leader: int, has_ended: Callable[[], bool]) -> None:
        """Hang up the session that the process `leader` leads. `has_ended` says whether that one has been reaped."""
        if leader in self._waiting:
            return
        self._signal(leader, has_ended, signal.SIGHUP, signal.SIGCONT)
        self._waiting[leader] = has_ended, self._loop.call_later(GRACE_SECONDS, self._kill, leader)

    def close(self) -> None:
        """The process ends, and waits for nobody."""
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
        """Send the signals to every process of the session; whether there was one."""
        members = _members(leader)
        if leader in members and has_ended():  # the number is another process's by now
            return False
        for pid in members:
            for number in numbers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return bool(members)


def _members(session: int) -> set[int]:
    """The processes of the session that may be seen."""
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_in(entry, session)}


def _is_in(entry: Path, session: int) -> bool:
    try:
        return os.getsid(int(entry.name)) == session
    except OSError:  # it has ended meanwhile
        return False
