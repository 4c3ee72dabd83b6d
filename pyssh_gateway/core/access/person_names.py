"""What a person is called who has no account anywhere, only a key's comment or a certificate's key id.

Such a text is anybody's. Shown, it must neither act on a terminal, nor hide something, nor look like two words; and no
two texts may be shown alike, or one person's doings would be another's. Letters of any script stay as they are.
"""

import hashlib

MAX_NAME = 128
"""Characters: it is in every event."""

_SPACE = "\N{OPEN BOX}"
_DIGEST = 8
"""Hexadecimal digits of the digest that stands for the rest of a longer text."""

_BYTE_FIRST, _BYTE_LAST, _BYTE_BASE = 0xDC80, 0xDCFF, 0xDC00
"""A byte that is not UTF-8, as Python's text has it (PEP 383)."""


def visible_name(text: str) -> str:
    """`text` in visible characters, without spaces, at most MAX_NAME of them.

    A space is shown as U+2423, whatever else can't be seen as `<U+202E>`, and a byte that is not UTF-8 as `<0xFC>`.
    """
    # No further than needed: anybody may offer a certificate with a long one.
    shown = "".join(_shown(text, index) for index in range(min(len(text), MAX_NAME + 1)))
    if len(shown) <= MAX_NAME:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{shown[: MAX_NAME - _DIGEST - 1]}~{digest}"


def _shown(text: str, index: int) -> str:
    char = text[index]
    if char == " ":
        return _SPACE
    # What looks like one of ours is none.
    is_ours = char == _SPACE or text.startswith(("<U+", "<0x"), index)
    if char.isprintable() and not is_ours:
        return char
    code = ord(char)
    return f"<0x{code - _BYTE_BASE:02X}>" if _BYTE_FIRST <= code <= _BYTE_LAST else f"<U+{code:04X}>"
