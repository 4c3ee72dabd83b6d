"""The displayed name of a person who is known only by a key's comment or a certificate's key id.

Anybody can choose such a text. When it is displayed, it must not control the terminal, hide something, or look like two
words. Two different texts must never look the same, or one person's actions would be attributed to another. Letters of
any script stay as they are.
"""

import hashlib

MAX_NAME = 128
"""Characters: it is in every event."""

_SPACE = "\N{OPEN BOX}"
_DIGEST = 8
"""Hexadecimal digits of the digest that stands for the rest of a longer text."""

_BYTE_FIRST, _BYTE_LAST, _BYTE_BASE = 0xDC80, 0xDCFF, 0xDC00
"""How Python's str represents a byte that is not UTF-8 (PEP 383)."""


def visible_name(text: str) -> str:
    """`text` in visible characters, without spaces, at most MAX_NAME of them.

    A space is shown as U+2423, every other invisible character like `<U+202E>`, and a byte that is not UTF-8 like
    `<0xFC>`.
    """
    # Stop at the limit: anybody may offer a certificate with a long key id.
    shown = "".join(_shown(text, index) for index in range(min(len(text), MAX_NAME + 1)))
    if len(shown) <= MAX_NAME:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{shown[: MAX_NAME - _DIGEST - 1]}~{digest}"


def _shown(text: str, index: int) -> str:
    char = text[index]
    if char == " ":
        return _SPACE
    # A text that contains one of our escape forms must not be mistaken for an escape.
    is_ours = char == _SPACE or text.startswith(("<U+", "<0x"), index)
    if char.isprintable() and not is_ours:
        return char
    code = ord(char)
    return f"<0x{code - _BYTE_BASE:02X}>" if _BYTE_FIRST <= code <= _BYTE_LAST else f"<U+{code:04X}>"
