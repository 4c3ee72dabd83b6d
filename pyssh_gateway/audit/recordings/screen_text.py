"""The lines of text that a recording's screen has shown, for a search.

The output goes through a terminal's emulator, so a line is what a person saw: edited, moved, drawn by vim. Emulation
costs about a microsecond for each sequence or piece of text, so a flood of plain lines (a large `cat`) goes past it.
What is given up for that, and for bounds that a hostile user can't exceed:

- of a flood, `BURST` lines and then `RATE` a second are found, and the last screen of it
- text that was overwritten within `STOOD` seconds is not found: nobody could read it, and progress bars do nothing else
- after `MAX_TOKENS` pieces of output that are no plain lines, only plain lines are found
- a line longer than `MAX_LINE` is cut
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyssh_gateway.audit.recordings.reading import Recording
from pyssh_gateway.core.recordings import asciicast
from pyssh_gateway.core.recordings.asciicast import Code, Event, Header

if TYPE_CHECKING:
    from pyssh_gateway.audit.recordings.emulator import Emulator
    from pyssh_gateway.audit.recordings.screen import Row

BURST = 20_000
RATE = 200.0
"""Lines for a second of the recording: ten times faster than anybody reads."""

STOOD = 0.2
"""In seconds."""

MAX_TOKENS = 5_000_000
"""An hour of htop is about half a million."""

MAX_LINE = 4096
"""In characters."""

FLOOD = 512
"""Characters at once that may be part of a flood."""

MAX_FLOOD_LINE = 1024 * 1024
"""Characters without a newline that are held back."""

REMEMBERED = 50_000
"""Lines that are not reported again, the latest ones."""

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_TEXT = bytes(byte for byte in range(256) if byte >= 0x20 and byte != 0x7F)
_LINE_CONTROLS = b"\r\n\t"


class Shown(msgspec.Struct, frozen=True):
    """A line, and when it was shown first, in seconds since the beginning of the recording."""

    time: float
    text: str


def shown(*files: Path) -> Iterator[Shown]:
    """The lines that a recording has shown, each once, in the order in which they were complete.

    `files` are its parts. Raises NoRecording; ImportError without the extra `audit`.
    """
    from pyssh_gateway.audit.recordings import emulator, screen  # late: pyte is in an extra

    with Recording(files) as recording:
        header = recording.header
        text = _ScreenText(header, emulator.Emulator(screen.TextScreen(header.cols, header.rows)))
        while (events := recording.read()) is not None:
            for event in events:
                text.add(event)
            yield from text.take()
        text.end()
        yield from text.take()


class _ScreenText:
    """Follows what is on the screen."""

    def __init__(self, header: Header, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._screen = emulator.screen
        # Without a terminal, a newline is the end of a line; a terminal has made \r\n of it, or wants to go down only.
        self._no_terminal = not header.term
        self._found: list[Shown] = []
        self._known: dict[int, None] = {}
        self._rows: list[Row] = []
        self._flood: list[str] = []
        self._flood_at = 0.0
        self._line = ""
        self._line_since: float | None = None
        self._line_stood = False
        self._budget, self._budget_at = float(BURST), 0.0
        self._tokens = 0
        self._now = 0.0

    def take(self) -> list[Shown]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found

    def add(self, event: Event) -> None:
        """Follow the next event."""
        self._now = event.at
        if event.code == Code.RESIZE and (size := asciicast.size(event)) is not None:
            self._end_flood()
            self._screen.resize(lines=size[1], columns=size[0])
            self._look()
        elif event.code == Code.OUTPUT:
            data = event.data.replace("\n", "\r\n") if self._no_terminal else event.data
            if self._add_flood(data):
                return
            self._end_flood()
            if self._tokens < MAX_TOKENS:
                self._tokens += self._emulator.feed(data)
                self._look()

    def end(self) -> None:
        """The recording ends here: what is on the screen stands."""
        self._end_flood()
        self._look()
        for row in self._on_screen():
            self._leave(row, last=True)
        self._finish_line()

    def _add_flood(self, data: str) -> bool:
        """Plain lines that more than fill the screen, if `data` is that: the last ones wait for what comes then."""
        screen = self._screen
        if len(data) < FLOOD or not screen.is_plain:
            return False
        if "\x1b" in data:
            data = _SGR.sub("", data)
        controls = data.encode("utf-8", "replace").translate(None, _TEXT)
        if controls.strip(_LINE_CONTROLS) or controls.count(b"\r") != data.count("\r\n"):
            return False
        if not self._flood:
            if data.count("\n") < 3 * screen.lines:
                return False
            first, _, data = data.partition("\n")
            self._emulator.feed(first + "\n")
            self._look()
            for row in self._on_screen():
                self._leave(row)
            screen.buffer.clear()
            screen.cursor_position(screen.lines)
            self._rows = []
            self._flood = [""]
        *lines, last = self._flood
        lines += (last + data).split("\n")
        kept = max(0, len(lines) - screen.lines - 1)
        for line in lines[: min(int(self._refill()), kept)]:
            self._report(self._now, line.rstrip("\r").expandtabs(1), stood=False)
        self._flood, self._flood_at = lines[kept:], self._now
        if len(self._flood[-1]) > MAX_FLOOD_LINE:
            self._end_flood()
        return True

    def _end_flood(self) -> None:
        if self._flood:
            self._emulator.feed("\n".join(self._flood))
            self._flood = []
            now, self._now = self._now, self._flood_at
            self._look()
            self._now = now

    def _look(self) -> None:
        """Take notice of what has changed on the screen."""
        screen = self._screen
        for gone in screen.scrolled:
            self._leave(gone)
        screen.scrolled.clear()
        for y in screen.dirty:
            row = screen.buffer.get(y)
            if row is not None and (text := row.render()) != row.text:
                if not row.text:
                    self._rows.append(row)
                elif not text.startswith(row.text):
                    self._replaced(row)
                row.text, row.since = text, self._now
        screen.dirty.clear()
        if screen.moved:
            rows = self._on_screen()
            still = {id(row) for row in rows}
            for row in self._rows:
                if id(row) not in still and row.text:
                    self._replaced(row)
            self._rows, screen.moved = rows, False

    def _on_screen(self) -> "list[Row]":
        return [row for _, row in sorted(self._screen.buffer.items())]

    def _replaced(self, row: "Row") -> None:
        """Something else stands where this text stood."""
        if self._now - row.since >= STOOD:
            self._report(row.since, row.text, stood=True)

    def _leave(self, row: "Row", *, last: bool = False) -> None:
        """A row has left at the top, or is read at the end. One that was wrapped goes on in the next."""
        text = row.render()
        seen = text == row.text and text
        if self._line_since is None:
            self._line_since = row.since if seen else self._now
        self._line_stood = self._line_stood or last or bool(seen and self._now - row.since >= STOOD)
        row.text = ""
        if len(self._line) < MAX_LINE:
            self._line += row.render(whole=True) if row.wrapped else text
        if not row.wrapped:
            self._finish_line()

    def _finish_line(self) -> None:
        if self._line:
            self._report(self._line_since or 0.0, self._line, stood=self._line_stood)
        self._line, self._line_since, self._line_stood = "", None, False

    def _report(self, time: float, text: str, *, stood: bool) -> None:
        """A line, if it is new. One that `stood` on the screen is no flood: there is room for only so many."""
        text = text.strip()[:MAX_LINE]
        key = hash(text)
        if not text or key in self._known or not (stood or self._refill() >= 1):
            return
        self._budget -= 1
        self._known[key] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        self._found.append(Shown(time, text))

    def _refill(self) -> float:
        self._budget = min(BURST, self._budget + (self._now - self._budget_at) * RATE)
        self._budget_at = self._now
        return self._budget
