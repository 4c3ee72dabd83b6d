"""Keeps the outputs of processes whose channel has ended, and discards their data.

When the server ends a channel while processes still hold its pipe open, a process that writes to the pipe must neither
die of SIGPIPE nor block. Each output kept costs a descriptor and, however much is written, ten system calls a second.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

PAUSE_SECONDS = 0.1
"""Pause after each read of an output that had data. The writer can fill a pipe (1 MiB) in that time, which is more than
any program logs, and a program that writes without end can't keep this process busy."""

MOST_AT_ONCE = 1024 * 1024
"""Bytes discarded at a time: all that the pipe of a session holds (`launch.PIPE_BYTES`)."""

MAX_OUTPUTS = 256
MAX_OUTPUTS_OF_USER = 64
"""Most outputs that are kept, in all and of one account. A command leaves two at most. A new one replaces the oldest,
whose writer then gets SIGPIPE, as it would from sshd."""


class Drains:
    """The outputs that are kept. Each is closed once every writer has closed it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._null = -1
        self._outputs: dict[int, str] = {}
        self._pauses: dict[int, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """How many outputs are kept."""
        return len(self._outputs)

    def take(self, user: str, descriptors: list[int]) -> None:
        """Own these pipes of processes of `user`, and discard what is written to them."""
        if descriptors and self._null < 0:
            try:
                self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:  # no descriptors are left: close the pipes, and their writers get SIGPIPE
                for descriptor in descriptors:
                    os.close(descriptor)
                return
        for descriptor in descriptors:
            self._make_room(lambda owner: owner == user, MAX_OUTPUTS_OF_USER)
            self._make_room(lambda _owner: True, MAX_OUTPUTS)
            os.set_blocking(descriptor, False)
            self._outputs[descriptor] = user
            self._loop.add_reader(descriptor, self._look, descriptor)

    def close(self) -> None:
        """Close all of them: this process ends."""
        for descriptor in list(self._outputs):
            self._let_go(descriptor)
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def _make_room(self, counts: Callable[[str], bool], most: int) -> None:
        counted = [descriptor for descriptor, owner in self._outputs.items() if counts(owner)]
        if len(counted) >= most:
            self._let_go(counted[0])

    def _look(self, descriptor: int) -> None:
        try:
            # The kernel moves the data into /dev/null without copying it.
            moved = os.splice(descriptor, self._null, MOST_AT_ONCE, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return
        except OSError:  # not a pipe, or broken
            moved = 0
        if not moved:
            self._let_go(descriptor)
            return
        self._loop.remove_reader(descriptor)
        self._pauses[descriptor] = self._loop.call_later(PAUSE_SECONDS, self._go_on, descriptor)

    def _go_on(self, descriptor: int) -> None:
        del self._pauses[descriptor]
        self._loop.add_reader(descriptor, self._look, descriptor)

    def _let_go(self, descriptor: int) -> None:
        del self._outputs[descriptor]
        if (pause := self._pauses.pop(descriptor, None)) is not None:
            pause.cancel()
        self._loop.remove_reader(descriptor)
        with suppress(OSError):
            os.close(descriptor)
