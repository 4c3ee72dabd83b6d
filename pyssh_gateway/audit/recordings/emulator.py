"""Shows output on a screen: reads its sequences, and does what those do that change the screen.

Output is hostile: numbers are bounded, so no token costs more than a few passes over the screen. Imported late, like
`screen`.
"""

from pyte import modes

from pyssh_gateway.audit.recordings.screen import TextScreen
from pyssh_gateway.core.recordings.sequences import TOKEN, Splitter

MAX_COUNT = 9999
"""Of a parameter of a sequence."""

ALTERNATE = frozenset({47, 1047, 1049})
"""The private modes that switch to the alternate screen (xterm's ctlseqs)."""

_CONTROLS = {
    "\b": "backspace",
    "\t": "tab",
    "\n": "linefeed",
    "\v": "linefeed",
    "\f": "linefeed",
    "\r": "carriage_return",
    "\x0e": "shift_out",
    "\x0f": "shift_in",
}
_ESC = {
    "\x1bD": "index",
    "\x1bE": "next_line",
    "\x1bM": "reverse_index",
    "\x1bH": "set_tab_stop",
    "\x1b7": "save_cursor",
    "\x1b8": "restore_cursor",
    "\x1bc": "reset",
}
_COUNTED = {
    "@": "insert_characters",
    "A": "cursor_up",
    "B": "cursor_down",
    "C": "cursor_forward",
    "D": "cursor_back",
    "E": "cursor_down1",
    "F": "cursor_up1",
    "G": "cursor_to_column",
    "I": "tabs",
    "L": "insert_lines",
    "M": "delete_lines",
    "P": "delete_characters",
    "S": "scroll_up",
    "T": "scroll_down",
    "X": "erase_characters",
    "Z": "back_tabs",
    "`": "cursor_to_column",
    "a": "cursor_forward",
    "b": "repeat",
    "d": "cursor_to_line",
    "e": "cursor_down",
}
"""Final bytes with one number, which is 1 if it is missing or 0."""


class Emulator:
    """Shows the output of one recording on `screen`."""

    def __init__(self, screen: TextScreen) -> None:
        self.screen = screen
        self._splitter = Splitter()

    def feed(self, output: str) -> int:
        """Show `output`, a piece of any size; returns how many tokens that were."""
        count = 0
        for match in TOKEN.finditer(self._splitter.feed(output)):
            count += 1
            kind, token = match.lastgroup, match[0]
            if kind == "text":
                self.screen.draw(token)
            elif kind == "control":
                if (name := _CONTROLS.get(token)) is not None:
                    getattr(self.screen, name)()
            elif kind == "csi":
                self._csi(match["params"], match["between"], match["final"])
            elif kind == "esc":
                if (name := _ESC.get(token)) is not None:
                    getattr(self.screen, name)()
                elif token[1] in "()":
                    self.screen.define_charset(token[2:], token[1])
        return count

    def _csi(self, params: str, between: str, final: str) -> None:  # noqa: C901 - a table of sequences
        if between:
            if between == "!" and final == "p":
                self.screen.soft_reset()
            return
        if params.startswith("?"):
            if final in "hl":
                self._private_modes(_numbers(params[1:]), on=final == "h")
            return
        if not params.isascii() or params[:1] in tuple("<=>"):
            return
        numbers = _numbers(params)
        if (name := _COUNTED.get(final)) is not None:
            getattr(self.screen, name)(numbers[0] or 1)
        elif final in "Hf":
            self.screen.cursor_position(numbers[0], numbers[1] if len(numbers) > 1 else 1)
        elif final == "J" and numbers[0] <= 2:
            self.screen.erase_in_display(numbers[0])
        elif final == "K" and numbers[0] <= 2:
            self.screen.erase_in_line(numbers[0])
        elif final == "r":
            self.screen.set_margins(numbers[0] or 1, (numbers[1] if len(numbers) > 1 else 0) or self.screen.lines)
        elif final == "g":
            self.screen.clear_tab_stop(numbers[0])
        elif final in "hl" and numbers == [4]:
            (self.screen.set_mode if final == "h" else self.screen.reset_mode)(modes.IRM)
        elif final == "s" and not params:
            self.screen.save_cursor()
        elif final == "u" and not params:
            self.screen.restore_cursor()

    def _private_modes(self, numbers: list[int], *, on: bool) -> None:
        for number in numbers:
            if number in ALTERNATE:
                self.screen.switch_screen(number, on=on)
            elif number == 1048:
                (self.screen.save_cursor if on else self.screen.restore_cursor)()
            elif number in {6, 7, 25}:
                (self.screen.set_mode if on else self.screen.reset_mode)(number, private=True)


def _numbers(params: str) -> list[int]:
    found = [int(each) if each.isdecimal() and len(each) <= 5 else 0 for each in params.split(";")[:16]]
    return [min(each, MAX_COUNT) for each in found]
