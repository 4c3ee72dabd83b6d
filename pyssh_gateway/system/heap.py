"""Memory that is free goes back to the machine: glibc keeps what lies below something that is still used.

150 forwards that were full left 600 MB behind with nobody on, of which malloc_trim(3) gave back all but 3 (measured).
Bytes that wait are in pieces of 32 KiB, too small to be mapped by themselves, and the heap ends only above the last
piece in use.
"""

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

QUIET_SECONDS = 1.0
"""How long after an end to look: others may follow, and what they held is given back with it."""

APART_SECONDS = 10.0
"""How far apart two tries are at least: giving 64 MiB back takes 40 ms, in which nobody is served (measured)."""

LONGEST_SECONDS = 600.0
"""How far apart they are at most. What is still in use is free later, and nothing need end then: a process that takes
its input slowly has it still when its channel has been closed. So there is another try, after twice the time."""

SPARE_BYTES = 8 * 1024 * 1024
"""So much more than at the least is not worth a try: it will be used again."""


class Heap:
    """Gives free memory back after connections, forwards and sessions have ended. Without glibc it does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: asyncio.TimerHandle | None = None
        self._tried = -APART_SECONDS
        self._pause = APART_SECONDS
        self._least = resident_bytes()
        self._trim: Callable[[int], object] | None = None

    def something_ended(self) -> None:
        """Look some time later; while nothing ends, and nothing is left over, do nothing."""
        self._pause = APART_SECONDS
        self._look_at(self._loop.time() + QUIET_SECONDS)

    def _look_at(self, when: float) -> None:
        when = max(when, self._tried + APART_SECONDS)
        if self._due is not None:
            if self._due.when() <= when:
                return
            self._due.cancel()
        self._due = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._due = None
        resident = resident_bytes()
        if resident > self._least + SPARE_BYTES:
            self._tried = self._loop.time()
            if self._trim is None:
                self._trim = _malloc_trim()
            self._trim(0)
            resident = resident_bytes()
        if resident > self._least + SPARE_BYTES:
            self._look_at(self._tried + self._pause)
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
        self._least = min(self._least, resident)


def resident_bytes() -> int:
    """The memory that this process occupies (proc(5), statm); 0 if it can't be known."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _malloc_trim() -> Callable[[int], object]:
    """glibc's function of that name; one that does nothing where there is none (musl gives back by itself)."""
    # Late: nobody needs it before something has ended. Where code must not be written, importing ctypes fails so.
    with suppress(ImportError, OSError, MemoryError, AttributeError):
        import ctypes

        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        return trim
    return lambda _pad: None
