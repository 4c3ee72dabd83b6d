"""Keeps the ledger of the times that the machine was awake for nobody; `core.idle.nobody` decides what belongs in it.

An entry is made at each stop for want of use, also before a suspend. A stop that was called off takes its entry back,
because the machine stays awake, and a later stop counts the whole time.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from pyssh_gateway.core.idle.nobody import Ledger, Source, Summary, add, awake_for_nobody, summary
from pyssh_gateway.events import Record, StopStep
from pyssh_gateway.machine import nobody_file
from pyssh_gateway.monitor.lifetime.awake import Awake


class _Noted(msgspec.Struct, frozen=True):
    """What the present time awake was counted as, at the stop that ends it."""

    source: Source
    seconds: float
    time: float


class Returned(Protocol):
    """What is asked about clients on probation."""

    @property
    def returned(self) -> str:
        """The person whose client has come back by itself since the machine woke, and was not used; empty for none."""


class ForNobody:
    """Follows the events after `awake` and the idle tracker have.

    `in_use` says whether anything keeps the machine up. `clock` is Unix time, `directory` has the file.
    """

    def __init__(
        self,
        awake: Awake,
        returning: Returned,
        *,
        in_use: Callable[[], bool],
        clock: Callable[[], float],
        directory: Path = Path(),
    ) -> None:
        self._awake = awake
        self._in_use = in_use
        self._clock = clock
        self._returning = returning
        self._directory = directory
        self._woke = awake.wake.woke
        self._needed = False
        self._noted: _Noted | None = None
        self._before = Ledger()
        with suppress(OSError):  # a disk that can't be read must not keep anybody out
            self._before = nobody_file.read(directory)

    def observe(self, record: Record) -> None:
        """Take note of an event."""
        if self._awake.wake.woke != self._woke:
            self._woke = self._awake.wake.woke
            self._before, self._noted, self._needed = self._ledger(), None, False
        elif isinstance(record.event, StopStep) and record.event.result == "called_off":
            self._noted = None
        self._needed = self._needed or self._in_use()

    def source(self) -> Source | None:
        """The source that the present time awake would be counted under if the machine stopped now."""
        wake = self._awake.wake
        return awake_for_nobody(
            wake.woken_by, logged_in=wake.logged_in, needed=self._needed, on_probation=self._returning.returned
        )

    def note(self) -> Callable[[], None]:
        """The machine stops for want of use. Returns what writes that down, which blocks and may raise OSError."""
        source = self.source()
        self._noted = None if source is None else _Noted(source, self._awake.seconds, self._clock())
        ledger, directory = self._ledger(), self._directory
        return lambda: nobody_file.write(directory, ledger)

    def summary(self) -> Summary:
        """What the last days have, without the present time awake."""
        return summary(self._ledger(), self._clock())

    def _ledger(self) -> Ledger:
        noted = self._noted
        return self._before if noted is None else add(self._before, noted.source, noted.seconds, noted.time)
