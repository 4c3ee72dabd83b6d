"""Signals for users' processes, sent with the account's rights and never waited for.

A signal is sent by a helper: a fork of the spawner that becomes the account and calls kill(2). From then on it is the
account's process, which the account may stop for ever, so nobody waits for it. It is reaped when it ends and killed
when it takes too long. There is a bound on an account's helpers; further signals wait, and one that waits already is
not queued twice.

A process group is named by the pid of its leader. While the leader is our unreaped child the number can't be anybody
else's; so the spawner must not reap a leader that a helper is about to signal (`helper_for`).
"""

import os
import resource
import signal
from contextlib import suppress
from typing import NoReturn

import msgspec

from pyssh_gateway.spawner.processes import process

HELPER_SECONDS = 2.0
"""How long a helper may take before it is killed: a few system calls, on a machine that is busy."""

HELPERS_PER_ACCOUNT = 4
"""Helpers of one account at a time. One that nobody stops is there for a millisecond."""

RETRY_SECONDS = 0.2
"""When to try again if no process could be made for a helper."""


class _Helper(msgspec.Struct, frozen=True):
    """A helper that runs: `uid` is whom it signals for, `target` the group, and when it is killed."""

    uid: int
    target: int
    kill_at: float


class Signals:
    """What is to be signalled, and the helpers that do it. Times are `time.monotonic()`'s."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], dict[int, None]] = {}
        self._helpers: dict[int, _Helper] = {}
        self._retry_at: float | None = None

    @property
    def helpers(self) -> list[int]:
        """The processes that are helpers."""
        return list(self._helpers)

    @property
    def active(self) -> bool:
        """Whether any signal is on its way: then a child has to be looked at before it is reaped."""
        return bool(self._helpers or self._waiting)

    def send(self, group: int, uid: int, number: int, now: float) -> None:
        """Send signal `number` to the process group `group`, whose leader is an unreaped child of ours, as `uid`.

        What the account may not signal (a sudo in the foreground) is not signalled: sshd's session process, which is
        the user, can't either.
        """
        if os.geteuid() != 0:
            process.signal_group(group, number)
            return
        self._waiting.setdefault((uid, group), {})[number] = None
        self.tick(now)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        times = [helper.kill_at for helper in self._helpers.values()]
        if self._retry_at is not None:
            times.append(self._retry_at)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Kill helpers that take too long, and start those that have room."""
        for pid, helper in self._helpers.items():
            if now >= helper.kill_at:
                self._kill(pid, now)
        if self._retry_at is not None and now < self._retry_at:
            return
        self._retry_at = None
        busy = {helper.target for helper in self._helpers.values()}
        for (uid, group), numbers in list(self._waiting.items()):
            # One helper for a group at a time, so that its signals arrive in order.
            if group in busy or sum(helper.uid == uid for helper in self._helpers.values()) >= HELPERS_PER_ACCOUNT:
                continue
            try:
                pid = process.fork()
            except OSError:  # no room for a process now; what has waited for long is for a group that has ended
                self._retry_at = now + RETRY_SECONDS
                return
            if pid == 0:
                _help(group, uid, list(numbers))
            del self._waiting[uid, group]
            self._helpers[pid] = _Helper(uid, group, now + HELPER_SECONDS)

    def reaped(self, pid: int, now: float) -> bool:
        """The child `pid` has ended; whether it was a helper."""
        if self._helpers.pop(pid, None) is None:
            return False
        self.tick(now)
        return True

    def helper_for(self, group: int) -> int | None:
        """The helper that may be about to signal `group`, if any: its leader must not be reaped before it."""
        return next((pid for pid, helper in self._helpers.items() if helper.target == group), None)

    def give_up(self, group: int, now: float) -> None:
        """The leader of `group` has ended: nothing is sent to it any more, and a helper that is about to is killed."""
        for key in [key for key in self._waiting if key[1] == group]:
            del self._waiting[key]
        pid = self.helper_for(group)
        if pid is not None:
            self._kill(pid, now)

    def _kill(self, pid: int, now: float) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # which a stopped process gets, too
        helper = self._helpers[pid]
        self._helpers[pid] = msgspec.structs.replace(helper, kill_at=now + HELPER_SECONDS)


def _help(group: int, uid: int, numbers: list[int]) -> NoReturn:
    """The helper. Signals stay blocked, so that the account can stop or kill it and nothing else."""
    try:
        # A helper that is stopped must not keep others' pipes open.
        os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.setgroups([])
        process.become(uid, uid)
        for number in numbers:
            process.signal_group(group, number)
    finally:
        os._exit(0)
