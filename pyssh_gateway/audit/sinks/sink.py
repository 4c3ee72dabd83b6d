"""A bounded queue of lines, and the one daemon thread that delivers them to a receiver somewhere else.

A receiver may be slow, gone or wrong; nobody but this thread ever waits for it. While it can't be reached, lines wait
and the thread tries again, ever more slowly. This module knows neither protocols nor what a line says.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, islice, takewhile
from typing import Protocol

import msgspec

from pyssh_gateway.core.timestamps import timestamp

MAX_LINES = 10_000
MAX_BYTES = 4 * 1024 * 1024
"""What may wait for a receiver: over a thousand logins with their sessions."""

BATCH_BYTES = 512 * 1024
"""What goes at once, or a single longer line. Collectors refuse requests of some megabytes."""

GATHERED_LINES = 256
"""So many lines wait for no more."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds until the next attempt after a failure; each pause is twice as long as the one before. A collector that is
started anew takes some seconds, and one that is gone costs an attempt a minute."""

CLOSE_SECONDS = 2.0
"""How long the end of the server may take for what still waits: a TLS handshake with a distant collector, a batch."""


class Receiver(Protocol):
    """Delivers lines, in the sink's thread alone."""

    name: str
    """What it is and where, for messages; without secrets."""

    most_lines: int
    """How many lines go at once."""

    gathering: float
    """For how many seconds the first line after a silence waits for more."""

    def connect(self) -> None:
        """Connect, and send nothing. Raises OSError or Unreachable."""

    def send(self, lines: Sequence[bytes]) -> int:
        """Deliver lines, each with its newline; returns how many of them are refused for good, all with `Refused`.

        Raises OSError or Unreachable if they have to be sent again.
        """

    def close(self) -> None:
        """Disconnect; `send` connects again."""


class Unreachable(Exception):
    """The receiver does not take lines now. `pause`: it wants to be left alone for so many seconds."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Refused(Exception):
    """The receiver will not take these lines at any later time, either."""


class Sink:
    """Delivers lines to `receiver`. `offer`, `lost` and `close` belong to one thread.

    The thread starts with the first line, so a sink may be made before the process gives up its rights. `on_problem`
    gets a line of text, in the sink's thread, once for each kind of problem.
    """

    def __init__(
        self, receiver: Receiver, on_problem: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._receiver = receiver
        self._on_problem = on_problem
        self._clock = clock
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._awaited = 1
        self._dropped = 0
        self._lost = 0
        self._closing = False
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None

    def offer(self, line: bytes) -> None:
        """Queue `line`, or drop and count it if there is no room. Never blocks.

        A queue that was full takes nothing until it is half empty, and then first a line that says how many lines are
        missing: one long gap is clearer than many short ones.
        """
        with self._changed:
            share = 2 if self._dropped else 1
            if len(self._lines) >= MAX_LINES // share or self._bytes + len(line) > MAX_BYTES // share:
                self._dropped += 1
                self._lost += 1
                return
            self._put_gap()
            self._put(line)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="audit-sink", daemon=True)
            with contextlib.suppress(RuntimeError):  # the machine has no room for a thread: the next line tries again
                thread.start()
                self._thread = thread

    @property
    def lost(self) -> int:
        """How many lines have not been delivered, and never will be: dropped, refused, or left at the end."""
        with self._changed:
            return self._lost

    def begin_to_close(self) -> None:
        """Have the thread try at once to deliver what waits, and end; after a failure it ends, too."""
        with self._changed:
            self._put_gap()
            self._closing = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Wait for the end of the thread after `begin_to_close`, for at most `timeout` seconds, and report the rest.

        A thread that does not end in time is still in its last attempt; it ends with the process.
        """
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            left = len(self._lines)
            self._lost += left
            self._lines.clear()
            lost = self._lost
        if lost:
            self._tell("lost", f"{lost} {'line' if lost == 1 else 'lines'} did not get there")

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while batch := self._next():
            try:
                refused = self._receiver.send(batch)
            except Refused as error:
                self._tell("refused", f"{error}; lines are lost")
                self._done(batch, len(batch))
            except Exception as error:  # noqa: BLE001 - a receiver may answer anything, and a thread that dies sends nothing
                self._disconnect()
                self._tell(_kind(error), f"{reason(error)}; lines wait, and are dropped when {MAX_LINES} do")
                wanted = error.pause if isinstance(error, Unreachable) else 0.0
                if self._wait(max(pause, min(wanted, LONGEST_PAUSE))):
                    continue
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                self._done(batch, refused)
        self._disconnect()

    def _next(self) -> list[bytes]:
        """The oldest lines, which stay queued (and counted) until they are delivered; empty at the end."""
        with self._changed:
            if not self._lines:
                self._awaited = 1
                self._changed.wait_for(lambda: self._lines or self._closing)
                self._awaited = GATHERED_LINES
                self._changed.wait_for(lambda: self._is_full or self._closing, self._receiver.gathering)
            lines = list(islice(self._lines, self._receiver.most_lines))
        lengths = accumulate(map(len, lines))
        fit = sum(1 for _ in takewhile(lambda length: length <= BATCH_BYTES, lengths))
        return lines[: max(1, fit)]

    @property
    def _is_full(self) -> bool:
        return len(self._lines) >= GATHERED_LINES

    def _wait(self, seconds: float) -> bool:
        """Pause after a failure; at the end nothing is tried again. Returns whether the end came during the pause."""
        with self._changed:
            if self._closing:
                self._lost += len(self._lines)
                self._lines.clear()
                return False
            return self._changed.wait_for(lambda: self._closing, seconds)

    def _done(self, batch: list[bytes], refused: int) -> None:
        with self._changed:
            self._lost += refused
            for line in batch:
                if self._lines:
                    self._lines.popleft()
                    self._bytes -= len(line)

    def _disconnect(self) -> None:
        with contextlib.suppress(Exception):
            self._receiver.close()

    # -- under the lock -----------------------------------------------------------------------------------------

    def _put_gap(self) -> None:
        if self._dropped:
            gap = {"ts": timestamp(self._clock()), "event": "log.dropped", "lines": self._dropped}
            self._dropped = 0
            self._put(msgspec.json.encode(gap) + b"\n")

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= self._awaited:  # each wake-up takes the interpreter from the event loop for a moment
            self._changed.notify()

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            with contextlib.suppress(Exception):  # standard error may be gone, too
                self._on_problem(f"audit log: {self._receiver.name}: {text}")


def _kind(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'errno', '') or ''}"


def reason(error: Exception) -> str:
    """Why a receiver can't be reached, for a person."""
    if isinstance(error, Unreachable):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        # A certificate that can't be trusted has its reason in an attribute of its own.
        return getattr(error, "verify_message", "") or error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"
