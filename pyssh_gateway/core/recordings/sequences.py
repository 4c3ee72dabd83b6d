r"""Splits what is written to a terminal into text, controls and escape sequences (ECMA-48; xterm's ctlseqs).

Output is hostile, so everything is bounded, and each character belongs to exactly one token:

    text      characters that are shown
    control   one character of C0 or C1, or DEL. C1 is never the beginning of a sequence here: in UTF-8 nobody uses it
              so, and few terminals understand it
    csi       ESC [ params intermediates final
    string    ESC and one of P ] X ^ _ (DCS, OSC, SOS, PM, APC), its text, and its end: ST, for OSC also BEL; it is cut
              by CAN, SUB or another ESC
    esc       ESC intermediates final
    broken    the beginning of a sequence that goes on with something else
"""

import re

TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9f])"
    r"|(?P<csi>\x1b\[(?P<params>[0-?]*)(?P<between>[ -/]*)(?P<final>[@-~]))"
    r"|(?P<string>\x1b(?:\](?P<osc>[^\x07\x18\x1a\x1b]*)(?:\x07|(?=[\x18\x1a\x1b])|\Z)|[PX^_][^\x18\x1a\x1b]*)(?:\x1b\\)?)"
    r"|(?P<esc>\x1b[ -/]*[0-OQ-WYZ\\`-~])"
    r"|(?P<broken>\x1b(?:\[[ -?]*[@-~]?|[ -/]*))"
)
"""A token; `lastgroup` of its match is its kind. Only for text in which all sequences are complete: see `Splitter`. A
string at its end was cut by an ESC that is still held back."""

MAX_SEQUENCE = 4096
"""Of a longer one that comes in pieces the rest is left out. Longer ones are images and the clipboard, which no reader
of recordings needs; those that are needed are colours and marks."""

_BEGUN = re.compile(r"\x1b(?:\[[ -?]*|[ -/]*|(?:\][^\x07\x18\x1a\x1b]*|[PX^_][^\x18\x1a\x1b]*)\x1b?)\Z")
"""The beginning of a sequence, at the end of the text."""

_STRING_END = re.compile(r"[\x07\x18\x1a]|\x1b\\?")


class Splitter:
    """Holds back the beginning of a sequence whose end has not come yet."""

    def __init__(self) -> None:
        self._held = ""
        self._in_string = False

    def feed(self, text: str) -> str:
        """What is complete, of what was held back and `text`."""
        text = self._held + text
        self._held = ""
        if self._in_string:
            end = _STRING_END.search(text)
            if end is None:
                return ""
            self._in_string = False
            text = text[end.start() :] if end[0] == "\x1b" else text[end.end() :]
        start = text.rfind("\x1b")
        if start > 0 and start == len(text) - 1:  # perhaps the end of a string that began before
            before = text.rfind("\x1b", 0, start)
            start = before if before >= 0 and _BEGUN.match(text, before) else start
        if start < 0 or not _BEGUN.match(text, start):
            return text
        if len(text) - start > MAX_SEQUENCE:
            self._in_string = text[start + 1] in "P]X^_"
        else:
            self._held = text[start:]
        return text[:start]
