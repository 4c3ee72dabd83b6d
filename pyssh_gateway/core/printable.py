r"""Hostile text made safe to print, without losing what it was.

User names, commands and client versions come from the network. Printed unchanged, they could move the cursor of a
reader's terminal, forge a line of the log, or hide behind invisible characters. This module turns any text into visible
characters, unambiguously, so that the original can be recovered:

    backslash                                     \\
    newline, carriage return, tab                 \n \r \t
    other ASCII control characters, DEL           \x1b
    a byte that was not UTF-8                     \x80 ... \xff (a surrogate escape in Python's text, PEP 383)
    anything else that `str.isprintable` refuses  \u202e, or \U000e0041 beyond U+FFFF: the C1 controls, format and
                                                  bidi characters, line separators, spaces that only look like one,
                                                  lone surrogates, private and unassigned code points
    more than MAX_TEXT characters                 \[1234 characters cut] in place of the middle

It knows nothing of JSON, terminals or files.
"""

import re

# A command line that VS Code or rsync sends fits many times over; a user name of 256 KiB (one SSH packet) does not.
MAX_TEXT = 4096
# Kept of the end of a longer text, because what matters can stand there: the command after a screenful of spaces,
# the exception under a traceback.
KEPT_TAIL = 1024
KEPT_HEAD = MAX_TEXT - KEPT_TAIL

# ECMA-48: SGR is kept. Every other sequence is removed as a whole (CSI; OSC and the like with their text), as is every
# other control character except newline and tab, including C1 and bidirectional ones.
_CONTROL = re.compile(
    r"(?!\x1b\[[0-9;:]{0,32}m)(?:\x1b\[[0-?]*[ -/]*[@-~]|\x1b[P\]X^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~])"
    r"|\x1b(?!\[[0-9;:]{0,32}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_NO_COLOUR = "\x1b[0m"

_NAMED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# PEP 383: an undecodable byte 0xNN, from 0x80 to 0xff, is represented by the lone surrogate U+DCNN.
_ESCAPED_BYTE_FIRST, _ESCAPED_BYTE_LAST, _ESCAPED_BYTE_BASE = 0xDC80, 0xDCFF, 0xDC00


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """`text` in visible characters only, at most MAX_TEXT of its characters; with `keep_newlines` also newlines."""
    if len(text) > MAX_TEXT:
        head = _escape(text[:KEPT_HEAD], keep_newlines=keep_newlines)
        tail = _escape(text[-KEPT_TAIL:], keep_newlines=keep_newlines)
        return f"{head}\\[{len(text) - MAX_TEXT} characters cut]{tail}"
    return _escape(text, keep_newlines=keep_newlines)


def screen_text(data: bytes) -> bytes:
    """Text for a terminal from a program that may repeat untrusted text: of all controls, only colours (SGR) are kept.

    Lines end in a newline; bytes that are not UTF-8 are shown as U+FFFD. If there were colours, they are reset at the
    end.
    """
    text = _CONTROL.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n"))
    if "\x1b" in text:
        text += _NO_COLOUR
    return text.encode()


def _escape(text: str, *, keep_newlines: bool) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if (char.isprintable() and char != "\\") or (keep_newlines and char == "\n") else _escape_char(char)
        for char in text
    )


def _escape_char(char: str) -> str:
    if named := _NAMED.get(char):
        return named
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    if _ESCAPED_BYTE_FIRST <= code <= _ESCAPED_BYTE_LAST:
        return f"\\x{code - _ESCAPED_BYTE_BASE:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
