"""The screen of a terminal, as text without colours.

It is pyte's, with what pyte lacks or does otherwise than xterm: the alternate screen, REP, scrolling up and down, wide
characters at the right margin, characters without a width, one saved cursor, lines that were wrapped, shrinking.
`emulator` knows the sequences. Imported late: pyte is in the extra `audit`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache

from pyte import modes
from pyte.screens import Char, Cursor, Margins, Savepoint, Screen, StaticDefaultDict
from wcwidth import wcwidth

MAX_COLS = 500
MAX_ROWS = 200
"""A larger terminal is emulated with this size: nobody has one."""

_BLANK = Char(" ")
_STUB = Char("")


class Row(StaticDefaultDict[int, Char]):
    """A line of the screen, the same object wherever it is scrolled to.

    `wrapped`: the text goes on in the next row. `text` and `since`: what stands in it, and since when, as its reader
    has seen it.
    """

    def __init__(self) -> None:
        super().__init__(_BLANK)
        self.wrapped = False
        self.text = ""
        self.since = 0.0

    def split_wide(self, *edges: int) -> None:
        """A wide character of which one half will be overwritten, to the left or right of an edge, is gone."""
        for x in edges:
            if x in self and not self[x].data:
                self[x] = self[x - 1] = _BLANK

    def render(self, *, whole: bool = False) -> str:
        """The text in it, without spaces at its end, or with those that were written there."""
        if not self:
            return ""
        get = self.get
        text = "".join([get(x, _BLANK).data for x in range(max(self) + 1)])
        return text if whole else text.rstrip()


class TextScreen(Screen):
    """A screen. `scrolled` are the rows that have left it at the top.

    Each operation is a few passes over the screen at most.
    """

    buffer: dict[int, Row]  # type: ignore[assignment]  # rows of our own

    def __init__(self, cols: int, rows: int) -> None:
        super().__init__(min(cols, MAX_COLS), min(rows, MAX_ROWS))
        self.buffer = defaultdict(Row)
        self.scrolled: list[Row] = []
        self.moved = False
        """Whether rows have been removed or moved since this was last set to False."""
        self._normal: dict[int, Row] | None = None
        self._saved: Savepoint | None = None
        self._last = " "

    @property
    def is_alternate(self) -> bool:
        """Whether a program like vim has taken the whole screen, and gives it back at its end."""
        return self._normal is not None

    @property
    def is_plain(self) -> bool:
        """Whether output without sequences just adds lines at the bottom."""
        simple = self.margins is None and self.charset == 0 and modes.IRM not in self.mode and modes.DECAWM in self.mode
        return simple and not self.is_alternate

    def draw(self, data: str) -> None:
        """Write text at the cursor."""
        if self.charset or self.g0_charset != _ASCII:
            data = data.translate(self.g1_charset if self.charset else self.g0_charset)
        if data.isascii() and modes.IRM not in self.mode:
            self._draw_ascii(data)
        else:
            for char in data:
                self._draw_one(char)
        self.dirty.add(self.cursor.y)

    def _draw_ascii(self, data: str) -> None:
        start, length = 0, len(data)
        while start < length:
            if self.cursor.x >= self.columns:
                self._wrap()
            room = self.columns - self.cursor.x
            piece = data[start : start + room]
            row, x = self.buffer[self.cursor.y], self.cursor.x
            row.split_wide(x, x + len(piece))
            row.update(zip(range(x, x + len(piece)), map(_char, piece), strict=True))
            self.cursor.x = x + len(piece)
            start += len(piece)
        self._last = data[-1]

    def _draw_one(self, char: str) -> None:
        width = _width(char)
        if width == 0:
            self._combine(char)
            return
        if self.cursor.x + width > self.columns:
            self._wrap(width)
        if modes.IRM in self.mode:
            self.insert_characters(width)
        row, x = self.buffer[self.cursor.y], self.cursor.x
        row.split_wide(x, x + width)
        row[x] = _char(char)
        if width == 2:
            row[x + 1] = _STUB
        self.cursor.x = x + width
        self._last = char

    def _wrap(self, width: int = 1) -> None:
        if modes.DECAWM not in self.mode:
            self.cursor.x = max(0, self.columns - width)
            return
        self.buffer[self.cursor.y].wrapped = True
        self.dirty.add(self.cursor.y)
        self.carriage_return()
        self.index()

    def _combine(self, char: str) -> None:
        """Add a character without a width to the one before."""
        row, x = self.buffer[self.cursor.y], self.cursor.x - 1
        if x > 0 and x in row and not row[x].data:
            x -= 1
        if x >= 0 and len(row[x].data) < 16:
            row[x] = Char(unicodedata.normalize("NFC", row[x].data + char))

    def switch_screen(self, number: int, *, on: bool) -> None:
        """To the alternate screen, which is empty then, or back, by one of its three private modes."""
        self.moved = True
        if on and self._normal is None:
            if number == 1049:
                self.save_cursor()
            self._normal = self.buffer
            self.buffer = defaultdict(Row)
        elif not on and self._normal is not None:
            self.buffer, self._normal = self._normal, None
            if number == 1049:
                self.restore_cursor()
        self.dirty.update(range(self.lines))

    def soft_reset(self) -> None:
        """DECSTR."""
        self.reset_mode(modes.IRM)
        self.reset_mode(6, private=True)
        self.set_mode(7, 25, private=True)
        self.margins = None
        self.charset, self.g0_charset = 0, _ASCII
        self._saved = None

    def reset(self) -> None:
        """Everything as at the start."""
        super().reset()
        self.moved = True
        self._normal = self._saved = None

    def index(self) -> None:
        """One line down; at the bottom of the region the others move up, and the first one is gone."""
        top, bottom = self.margins or Margins(0, self.lines - 1)
        if self.cursor.y != bottom:
            self.cursor.y = min(self.cursor.y + 1, self.lines - 1)
            return
        buffer = self.buffer
        gone = buffer.pop(top, None)
        if gone and not self.is_alternate and top == 0:
            self.scrolled.append(gone)
        for y in range(top + 1, bottom + 1):
            if (row := buffer.pop(y, None)) is not None:
                buffer[y - 1] = row
        self.dirty = {y - 1 if top < y <= bottom else y for y in self.dirty if y != top}
        self.moved = True

    def next_line(self) -> None:
        """NEL."""
        self.carriage_return()
        self.index()

    def reverse_index(self) -> None:
        """One line up; at the top the others move down."""
        self.moved = True
        super().reverse_index()

    def insert_lines(self, count: int | None = None) -> None:
        """IL."""
        self.moved = True
        super().insert_lines(count)

    def delete_lines(self, count: int | None = None) -> None:
        """DL."""
        top, bottom = self.margins or Margins(0, self.lines - 1)
        if not top <= self.cursor.y <= bottom:
            return
        self.moved = True
        for y in range(self.cursor.y, bottom + 1):
            self.buffer.pop(y, None)
            if y + (count or 1) <= bottom and (row := self.buffer.pop(y + (count or 1), None)) is not None:
                self.buffer[y] = row
        self.dirty.update(range(self.cursor.y, bottom + 1))
        self.carriage_return()

    def scroll_up(self, count: int) -> None:
        """SU."""
        self._at_top(self.delete_lines, count)

    def scroll_down(self, count: int) -> None:
        """SD."""
        self._at_top(self.insert_lines, count)

    def _at_top(self, do: Callable[[int], None], count: int) -> None:
        x, y = self.cursor.x, self.cursor.y
        self.cursor.y = self.margins.top if self.margins else 0
        do(count)
        self.cursor.x, self.cursor.y = x, y

    def tabs(self, count: int) -> None:
        """CHT."""
        for _ in range(min(count, self.columns)):
            self.tab()

    def back_tabs(self, count: int) -> None:
        """CBT."""
        stops = sorted(stop for stop in self.tabstops if stop < self.cursor.x)
        self.cursor.x = stops[-count] if count <= len(stops) else 0

    def repeat(self, count: int) -> None:
        """REP: the last character again."""
        self.draw(self._last * min(count, self.columns * self.lines))

    def erase_characters(self, count: int | None = None) -> None:
        """ECH."""
        self._erase(self.cursor.y, self.cursor.x, self.cursor.x + (count or 1))

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:  # noqa: ARG002 - pyte's
        """EL."""
        first = self.cursor.x if how == 0 else 0
        self._erase(self.cursor.y, first, self.cursor.x + 1 if how == 1 else self.columns)

    def erase_in_display(self, how: int = 0, *_args: object, **_kwargs: object) -> None:
        """ED."""
        first = self.cursor.y + 1 if how == 0 else 0
        last = self.cursor.y if how == 1 else self.lines
        for y in range(first, last):
            self._erase(y, 0, self.columns)
        if how != 2:
            self.erase_in_line(how)

    def _erase(self, y: int, first: int, last: int) -> None:
        row = self.buffer.get(y)
        if row:
            self.dirty.add(y)
            if first == 0 and last >= self.columns:
                row.clear()
            else:
                row.split_wide(first, min(last, self.columns))
                for x in range(first, min(last, self.columns)):
                    row.pop(x, None)
            row.wrapped = row.wrapped and last < self.columns

    def save_cursor(self) -> None:
        """DECSC: one place, not a stack."""
        self.savepoints.clear()
        super().save_cursor()
        self._saved = self.savepoints.pop()

    def restore_cursor(self) -> None:
        """DECRC: as often as wanted."""
        if self._saved is None:
            self.cursor_position()
            return
        saved = self._saved
        self.savepoints.append(saved._replace(cursor=Cursor(saved.cursor.x, saved.cursor.y)))
        super().restore_cursor()

    def cursor_to_line(self, line: int | None = None) -> None:
        """VPA."""
        top = self.margins.top if self.margins and modes.DECOM in self.mode else 0
        self.cursor.y = top + (line or 1) - 1
        self.ensure_vbounds()

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Another size. Of fewer rows, empty ones below the cursor go first, then those at the top, as in xterm."""
        rows, cols = min(lines or self.lines, MAX_ROWS), min(columns or self.columns, MAX_COLS)
        self.margins = None
        surplus = max(0, self.cursor.y + 1 - rows)
        for _ in range(surplus):
            x = self.cursor.x
            self.cursor.y = self.lines - 1
            self.index()
            self.cursor.x = x
        self.cursor.y = min(self.cursor.y, rows - 1)
        for buffer in (self.buffer, *([self._normal] if self._normal else [])):
            for y in [y for y in buffer if y >= rows]:
                del buffer[y]
            for row in buffer.values():
                for x in [x for x in row if x >= cols]:
                    del row[x]
        self.lines, self.columns = rows, cols
        self.cursor.x = min(self.cursor.x, cols - 1)
        self.tabstops = {stop for stop in self.tabstops if stop < cols} | set(range(8, cols, 8))
        self.dirty = set(range(rows))
        self.moved = True


_ASCII = Screen(1, 1).g0_charset


@lru_cache(maxsize=65536)
def _char(char: str) -> Char:
    return Char(char)


@lru_cache(maxsize=65536)
def _width(char: str) -> int:
    """How many cells a character takes; one that can't be shown takes none."""
    return max(0, wcwidth(char))
