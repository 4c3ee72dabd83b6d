"""Returns free memory to the machine, or keeps it: glibc keeps free memory only below a piece in use.

After 150 forwards with full buffers, 600 MB were left without any connection; malloc_trim(3) returned all but 3
(measured). Buffered bytes are in pieces of 32 KiB, which are too small for a mapping of their own, and the heap ends
only above the last piece in use.
"""

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

QUIET_SECONDS = 1.0
"""Seconds from an end to the next try: further ends may follow, and their memory is returned with it."""

APART_SECONDS = 10.0
"""Least seconds between two tries: returning 64 MiB takes 40 ms, in which nobody is served (measured)."""

LONGEST_SECONDS = 600.0
"""Most seconds between two tries. Memory may become free without a further end: a process that reads its input slowly
still has it after its channel was closed. So there is another try, each after twice the time (backoff)."""

SPARE_BYTES = 8 * 1024 * 1024
"""Bytes above the smallest size so far that are not worth a try: they will be used again."""

KEPT_BYTES = 16 * 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""


class Heap:
    """Returns free memory after connections, forwards and sessions have ended. Without glibc it does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: asyncio.TimerHandle | None = None
        self._tried = -APART_SECONDS
        self._pause = APART_SECONDS
        self._least = resident_bytes()
        self._trim: Callable[[int], object] | None = None

    def something_ended(self) -> None:
        """Schedule a try for some time later; while nothing ends and no memory is left over, there are no tries."""
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


def keep_free_memory() -> None:
    """Keep up to `KEPT_BYTES` of free memory: for a process that takes and frees pieces of some 400 KiB all the time.

    glibc gives each of them back to the kernel at once, and clearing the new pages takes longer than all work on them.
    """
    # As below.
    with suppress(ImportError, OSError, MemoryError, AttributeError):
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 4)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _malloc_trim() -> Callable[[int], object]:
    """glibc's malloc_trim; a function that does nothing where there is none (musl returns memory by itself)."""
    # Late: not needed before something has ended. Where memory may not be writable and executable, the import fails.
    with suppress(ImportError, OSError, MemoryError, AttributeError):
        import ctypes

        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        return trim
    return lambda _pad: None
