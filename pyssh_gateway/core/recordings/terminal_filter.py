r"""Recorded output made safe to write to a terminal: what is on the screen stays the same, and nothing else happens.

What was recorded may have been made for the person who replays it. So only what draws is let through: text, movements
of the cursor, erasing, colours, scrolling, character sets, the alternate screen. It is a list of what is known to be
safe, and what is passed on is always a complete sequence, so a terminal can't understand it differently. Left out is
whatever

- makes the terminal answer, as if the person had typed it: device attributes, status, ENQ, DECRQSS, reports of titles,
  sizes, colours and modes (CSI c, n, t, x, $p; DCS; ENQ)
- acts outside of the screen: the clipboard (OSC 52), titles, notifications, links, palettes (all OSC), printing,
  resizing the window, erasing what has scrolled away, the bell
- changes what keys send: application keys, mouse, focus, bracketed paste, kitty's keyboard protocol

A full reset (ESC c) becomes a soft one and an empty screen.
"""

import re

from pyssh_gateway.core.recordings.sequences import TOKEN, Splitter

SHOWN_CONTROLS = frozenset("\b\t\n\v\f\r\x0e\x0f")
"""The controls that move the cursor or switch the character set."""

_PLAIN = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*")

_ESC = re.compile(r"\x1b(?:[78DEHM]|[()*+][0AB]|#[34568])")
"""DECSC, DECRC, IND, NEL, HTS, RI; ASCII, British and line drawing; double width and height, DECALN."""

_CSI = re.compile(
    r"\x1b\[(?:"
    r"[0-9]{0,5}[@ABCDEFGIKLMPSTXZ`abdeg]"  # one number: movement, insertion, deletion, scrolling, tabs, REP
    r"|[012]?J"  # not 3, which erases what has scrolled away
    r"|(?:[0-9]{0,5};?[0-9]{0,5})[Hfr]"
    r"|[0-9;:]{0,128}m"
    r"|[su]"
    r"|4[hl]"  # IRM; not LNM, which changes what the Return key sends
    r"|!p|[0-6]? q"  # DECSTR, DECSCUSR
    r")"
)

_MODES = frozenset({"5", "6", "7", "12", "25", "47", "1047", "1048", "1049"})
"""DEC's private modes that are about the screen: reverse video, origin, wrapping, cursor, alternate screen."""

_SOFT_RESET = "\x1b[!p\x1b[?6l\x1b[4l\x1b[0m\x1b[?1049l\x1b[?5l\x1b[?7h\x1b[?25h\x1b(B\x0f\x1b[H\x1b[2J"


def reset(cols: int) -> str:
    """Undoes everything that is let through, except what is on the screen; `cols` is the width of the terminal.

    The cursor is anywhere after that. The scroll region, the origin and the insert mode are named one by one, too: tmux
    ignores DECSTR (CSI ! p).
    """
    tabs = "\r\x1b[3g" + "\x1b[8C\x1bH" * ((cols - 1) // 8)
    return f"\x1b[?1049l\x1b[!p\x1b[r\x1b[?6l\x1b[4l\x1b[?5l\x1b[?7h\x1b[?25h\x1b[0 q\x1b(B\x0f\x1b[0m{tabs}"


class TerminalFilter:
    """For one recording, whose output is given in order, in pieces of any size.

    With `rows`, the recording is shown in the first rows of a terminal that has more: it scrolls where it scrolled when
    it was recorded.
    """

    def __init__(self, rows: int | None = None) -> None:
        self._splitter = Splitter()
        self.rows = rows

    def feed(self, text: str) -> str:
        """What may be written to a terminal, of `text` and what was incomplete before."""
        complete = self._splitter.feed(text)
        if _PLAIN.fullmatch(complete):
            return complete
        return TOKEN.sub(self._allowed, complete)

    def _allowed(self, match: re.Match[str]) -> str:
        found = match[0]
        match match.lastgroup:
            case "text":
                return found
            case "control":
                return found if found in SHOWN_CONTROLS else ""
            case "esc":
                if found == "\x1bc":
                    return _SOFT_RESET + region(self.rows)
                return found if _ESC.fullmatch(found) else ""
            case "csi":
                if _CSI.fullmatch(found):
                    return found if self.rows is None else _within(self.rows, found, match["params"], match["final"])
                return _private_modes(match["params"], match["final"]) if not match["between"] else ""
            case _:
                return ""


def region(rows: int | None) -> str:
    """Scrolls in the first rows of the terminal only; the cursor is at the top then."""
    return "" if rows is None else f"\x1b[1;{rows}r"


def _within(rows: int, found: str, params: str, final: str) -> str:
    """A sequence that names rows, so that it names none below those of the recording."""
    if final in "Hfrd":
        first, semicolon, second = params.partition(";")
        if final == "r":
            return f"\x1b[{first or 1};{min(int(second or rows) or rows, rows)}r"
        return f"\x1b[{min(int(first or 1), rows)}{semicolon}{second}{final}"
    return found + region(rows) if final == "p" else found


def _private_modes(params: str, final: str) -> str:
    if not params.startswith("?") or final not in "hl":
        return ""
    kept = [mode for mode in params[1:].split(";") if mode in _MODES]
    return f"\x1b[?{';'.join(kept)}{final}" if kept else ""
