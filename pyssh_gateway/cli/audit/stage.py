"""Where a recording is shown: a terminal, or a part of it, to which only what draws is written.

If the terminal has more rows than the recording, the recording has the first ones, and scrolls in them as it did; the
last row says where we are. If it has fewer rows or columns, what doesn't fit is where the terminal puts it, and that is
said.
"""

from collections import deque
from collections.abc import Iterable

from pyssh_gateway.cli.output.raw_terminal import RawTerminal
from pyssh_gateway.core.printable import printable
from pyssh_gateway.core.recordings import asciicast
from pyssh_gateway.core.recordings.asciicast import Code, Event, Header
from pyssh_gateway.core.recordings.terminal_filter import TerminalFilter, region, reset

MAX_REDRAWN = 1024 * 1024
"""To show a moment, so many of the last characters before it are written anew: enough for any screen that programs
draw, and not a gigabyte of a file that has scrolled by."""

WHOLE = "\x1b[r"
"""The whole terminal scrolls."""


class Stage:
    """Shows the events of one recording, and a line about it."""

    def __init__(self, terminal: RawTerminal, header: Header) -> None:
        self._terminal = terminal
        self._header = header
        self._size = (header.cols, header.rows)
        self._filter = TerminalFilter()
        self._drawn = False
        self._covered = False
        self._cursor_saved = False
        self._recent: deque[str] = deque()
        self._length = 0

    @property
    def is_covered(self) -> bool:
        """Whether the line about the recording is over a row of it, so that it has to be drawn anew."""
        return self._covered

    @property
    def too_small(self) -> str:
        """What to say if the recorded terminal was larger than this one; empty if it was not."""
        cols, rows = self._terminal.size
        if self._size[0] <= cols and self._size[1] <= rows:
            return ""
        return f"recorded at {self._size[0]}x{self._size[1]}, here {cols}x{rows}"

    def draw(self, events: Iterable[Event]) -> None:
        """Show what has happened from the beginning, instead of what is shown."""
        self._size = (self._header.cols, self._header.rows)
        self._recent.clear()
        self._length = 0
        for event in events:
            if event.code == Code.OUTPUT:
                self._keep(self._text(event.data))
            elif (size := asciicast.size(event)) is not None:
                self._size = size
        self.redraw()

    def redraw(self) -> None:
        """Show again what is shown."""
        cols, rows = self._terminal.size
        # The first time, what stands on the terminal moves up and can be scrolled back to.
        room = "" if self._drawn else "\r\n" * (rows - 1)
        self._drawn, self._covered, self._cursor_saved = True, False, False
        self._filter = TerminalFilter(self._rows)
        shown = self._filter.feed("".join(self._recent))
        self._terminal.write(f"{reset(cols)}{room}\x1b[2J{region(self._rows)}\x1b[H{shown}")
        self._notice_saved(shown)

    def show(self, events: Iterable[Event]) -> None:
        """Show what happens next."""
        shown: list[str] = []
        for event in events:
            if event.code == Code.OUTPUT:
                self._keep(text := self._text(event.data))
                shown.append(self._filter.feed(text))
            elif (size := asciicast.size(event)) is not None and size != self._size:
                self._size = size
                self._filter.rows = self._rows
                # The cursor stays where it is: a program draws anew after a resize, a shell goes on in its line.
                shown.append(f"\x1b7{region(self._rows) or WHOLE}\x1b8")
        if text := "".join(shown):
            self._terminal.write(text)
            self._notice_saved(text)

    def _keep(self, text: str) -> None:
        self._recent.append(text)
        self._length += len(text)
        while self._length - len(self._recent[0]) > MAX_REDRAWN:
            self._length -= len(self._recent.popleft())

    def _notice_saved(self, text: str) -> None:
        """Whether a program has saved the cursor's place, which the terminal has only one of, for later."""
        saved, restored = (
            max(text.rfind(each) for each in pair) for pair in (("\x1b7", "\x1b[s"), ("\x1b8", "\x1b[u"))
        )
        if saved != restored:
            self._cursor_saved = saved > restored

    def say(self, line: str, *, cover: bool) -> None:
        """Write a line into the last row, if that is free, or may be covered."""
        cols, rows = self._terminal.size
        if self._rows is None:
            if not cover:
                return
            self._covered = True
        elif self._cursor_saved and not cover:
            return
        self._covered = self._covered or self._cursor_saved
        line = printable(line)[: cols - 1]
        self._terminal.write(f"\x1b7\x1b[?6l\x1b[{rows};1H\x1b[0;7m{line}\x1b[0m\x1b[K\x1b8")

    def leave(self) -> None:
        """Leave the terminal in order, with the cursor below everything."""
        cols, rows = self._terminal.size
        self._terminal.write(f"{reset(cols)}\x1b[{rows};1H\x1b[K\r\n")

    @property
    def _rows(self) -> int | None:
        return self._size[1] if self._size[1] < self._terminal.size[1] else None

    def _text(self, text: str) -> str:
        # Without a terminal, as for `ssh host command`, nothing has put the cursor at the beginning of a line.
        return text if self._header.term else text.replace("\r\n", "\n").replace("\n", "\r\n")
