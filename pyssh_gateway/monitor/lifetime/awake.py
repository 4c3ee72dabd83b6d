"""Remembers across a crash since when the machine is awake, and who woke it; `core.idle.wake` decides both."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.wake import Kept, Wake
from pyssh_gateway.events import Record
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("awake.json")
"""In the working directory, which is the server's own."""

MAX_STATE_BYTES = 4096
"""Size limit of the file, which has two times and an address of at most 45 characters."""


class Awake:
    """Since when the machine is awake, and who woke it; `observe` gets each event before the parts that ask.

    `started` is the Unix time of the server's start, the same for each process that follows a crash. `by_hand`: a
    person has started it, at a terminal.
    """

    def __init__(
        self, started: float, clocks: Callable[[], Clocks], state: Path = STATE_FILE, *, by_hand: bool = False
    ) -> None:
        self._clocks = clocks
        self._state = state
        kept = None
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kept = msgspec.json.decode(read_state(state, MAX_STATE_BYTES), type=Kept)
        self.wake = Wake(started, clocks(), kept, by_hand=by_hand)

    @property
    def since(self) -> float:
        """Unix time."""
        return self.wake.since

    @property
    def woken_by(self) -> str:
        """An address; empty if nobody has woken it."""
        return self.wake.woken_by

    @property
    def seconds(self) -> float:
        """For how long, by a clock that nobody sets."""
        return self.wake.seconds(self._clocks().steady)

    def observe(self, record: Record) -> None:
        """Take note of an event, and write down what it has changed."""
        before = self.wake.kept
        self.wake.observe(record.event, self._clocks())
        if self.wake.kept != before:
            with suppress(OSError):  # a full disk must not keep anybody out
                write_state(self._state, msgspec.json.encode(self.wake.kept))
