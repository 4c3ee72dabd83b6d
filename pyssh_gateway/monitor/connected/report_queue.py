"""The reports of one postauth process: taken in their order, a few in each turn of the loop, and acknowledged.

This module does not know what they report.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc.spawner import ProtocolError

REPORTS_A_TURN = 32
"""How many reports of one process are logged in a turn of the loop: 3 ms. Other processes are served between two turns,
and the rest of a flood waits in the socket of its own process."""

Report = ipc.Told | ipc.Crashed | ipc.Lost | ipc.Taken


class Messages(Protocol):
    """The socket from which the reports come."""

    def pause(self) -> None:
        """Read no more messages."""

    def resume(self) -> None:
        """Read again."""


class ReportQueue:
    """`on_report` gets each report with its number, and may raise ProtocolError, which ends the queue.

    `on_nonsense` is called with the reason for that. `acknowledge` gets the number of the last report that was dealt
    with, if `is_logging`. The first report may have any number if the process was `taken_over`, otherwise it has 1.
    """

    def __init__(
        self,
        messages: Messages,
        loop: asyncio.AbstractEventLoop,
        *,
        on_report: Callable[[int, Report], None],
        on_nonsense: Callable[[str], None],
        acknowledge: Callable[[int], None],
        is_logging: Callable[[], bool],
        taken_over: bool,
    ) -> None:
        self._messages = messages
        self._loop = loop
        self._on_report = on_report
        self._on_nonsense = on_nonsense
        self._acknowledge = acknowledge
        self._is_logging = is_logging
        self._reports: deque[tuple[int, Report]] = deque()
        self._last: int | None = None if taken_over else 0
        self._done_with = 0
        self._acknowledged = 0
        self._paused = False
        self._turn: asyncio.Handle | None = None

    def take(self, first: int, *reports: Report) -> None:
        """Reports that have come, numbered from `first` on. Raises ProtocolError if some are missing before them."""
        if self._last is not None and first != self._last + 1:
            raise ProtocolError(f"report {first} does not follow report {self._last}")
        self._last = first + len(reports) - 1
        self._reports.extend(enumerate(reports, first))
        self._next()

    def acknowledge(self) -> None:
        """Say which reports are in the log, so that the process need not keep them."""
        if self._done_with > self._acknowledged and self._is_logging():
            self._acknowledged = self._done_with
            self._acknowledge(self._done_with)

    def close(self) -> None:
        """Drop what waits."""
        self._reports.clear()
        if self._turn is not None:
            self._turn.cancel()

    def _next(self) -> None:
        """Deal with as many as a turn may have; while some are left, no more messages are read."""
        self._turn = None
        try:
            for _ in range(REPORTS_A_TURN):
                if not self._reports:
                    break
                number, report = self._reports.popleft()
                self._on_report(number, report)
                self._done_with = number
        except ProtocolError as error:
            self._on_nonsense(str(error))
            return
        self.acknowledge()
        if self._reports:
            if not self._paused:
                self._messages.pause()
            self._turn = self._loop.call_soon(self._next)
        elif self._paused:
            self._messages.resume()
        self._paused = bool(self._reports)
