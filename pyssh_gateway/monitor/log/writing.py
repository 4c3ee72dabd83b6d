"""Writes each event to the log, and keeps count of it for the next monitor."""

from collections.abc import Callable

from pyssh_gateway.events import Record
from pyssh_gateway.monitor.log.progress import LogProgress


class LogWriting:
    """The subscriber that hands records to the log; they wait until `begin`. `progress` is for the next monitor.

    It has to be the first subscriber. Others may publish while they are given a record, and lines are written in the
    order of their numbers.
    """

    def __init__(self, log: Callable[[Record], None], progress: LogProgress) -> None:
        self._log = log
        self.progress = progress
        self._early: list[Record] = []
        self.has_begun = False

    def __call__(self, record: Record) -> None:
        """Write the line now, or later."""
        if not record.seq:
            return
        if self.has_begun:
            self._write(record)
        else:
            self._early.append(record)

    def begin(self) -> None:
        """Write what waits, and from now on all that comes."""
        self.has_begun = True
        early, self._early = self._early, []
        for record in early:
            self._write(record)

    def _write(self, record: Record) -> None:
        # After a crash a number may be missing, which is noticed; one that was used twice would look like a forged
        # line. So the number is stored first.
        self.progress.announce(record.seq, record.origin)
        self._log(record)
        if record.origin is not None:
            self.progress.logged(record.origin)
