"""A terminal that a command has for itself: keys one by one, and its settings as they were when the command ends."""

import fcntl
import os
import re
import select
import signal
import struct
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ESCAPED = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\x1b[1~": "home",
    b"\x1b[4~": "end",
    b"\x1b[7~": "home",
    b"\x1b[8~": "end",
}
"""Keys that are sequences, as terminals send them in their normal mode."""

_BEGUN = re.compile(rb"\x1b(?:O|\[[0-9;]{0,6})?")
"""The beginning of such a key."""

QUIT = "q"
"""The key that is as good as pressed when there will be no more."""

KEY_SECONDS = 0.05
"""How long the rest of a key's sequence may take."""


class RawTerminal:
    """Standard output, and standard input if that is a terminal, too."""

    def __init__(self, keys: int | None, screen: int) -> None:
        self._keys = keys
        self._screen = screen
        self.resized = False
        """Whether the window's size has changed since this was last set to False."""

    @property
    def has_keys(self) -> bool:
        """Whether somebody can press any."""
        return self._keys is not None

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and rows now."""
        return window_size(self._screen)

    def write(self, text: str) -> None:
        """Write all of `text`, however slow the terminal is. Raises OSError."""
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            try:
                data = data[os.write(self._screen, data) :]
            except BlockingIOError:
                select.select([], [self._screen], [])

    def key(self, seconds: float) -> str:
        """The next key that is pressed within that time; empty if none was, or there are none."""
        if self._keys is None:
            time.sleep(seconds)  # without keys, time is all that passes
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        data = os.read(self._keys, 1)
        if not data:
            return QUIT
        while _BEGUN.fullmatch(data) and select.select([self._keys], [], [], KEY_SECONDS)[0]:
            data += os.read(self._keys, 1)
        return _ESCAPED.get(data.replace(b"\x1bO", b"\x1b["), data.decode("ascii", "replace"))


def window_size(descriptor: int) -> tuple[int, int]:
    """The columns and rows of a terminal; 80x24 if it doesn't say."""
    rows, cols, _, _ = struct.unpack("4H", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return (cols, rows) if cols and rows else (80, 24)


@contextmanager
def raw_terminal(keys: int, screen: int) -> Iterator[RawTerminal]:
    """Standard input and output as one: in raw mode if `keys` is a terminal, and restored whatever ends the command.

    Signals that end it raise SystemExit meanwhile, so that everything is put back in order.
    """
    is_terminal = os.isatty(keys)
    terminal = RawTerminal(keys if is_terminal else None, screen)

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def resized(_number: int, _frame: FrameType | None) -> None:
        terminal.resized = True

    before = [(number, signal.signal(number, end)) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    before.append((signal.SIGWINCH, signal.signal(signal.SIGWINCH, resized)))
    settings = termios.tcgetattr(keys) if is_terminal else None
    try:
        if is_terminal:
            tty.setraw(keys, termios.TCSADRAIN)
        yield terminal
    finally:
        if settings is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, settings)
        for number, handler in before:
            signal.signal(number, handler)
