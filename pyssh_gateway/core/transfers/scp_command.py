"""The parser of the commands that `scp -O` and similar programs send to the remote side. Pure.

The remote side of a legacy copy is started by a command line that the login shell would parse. The built-in server has
no shell, so the line is parsed here. A line that needs more of a shell than quoting, tilde expansion and file name
patterns is refused.
"""

import msgspec

MAGIC = b"*?["
"""The special characters of file name patterns. In the words of `parse`, a quoted one stands in brackets (`[*]`)."""

_REFUSED = b"\0\n\r$`;&|<>()"
"""Outside of quotes, these need more of a shell than words."""

_ESCAPABLE_IN_QUOTES = frozenset(b'$`"\\')
"""The characters that a backslash quotes within double quotes; before others it stands for itself (POSIX shell,
2.2.3)."""


class Options(msgspec.Struct, frozen=True):
    """The task of the remote side: send `words` (if `source`), or receive into the only word."""

    source: bool
    recursive: bool
    preserve: bool
    directory: bool
    verbose: bool
    words: tuple[bytes, ...]


def parse(command: bytes) -> list[bytes] | None:
    """The words of `command` if it starts the remote side of a copy and needs no shell for more than words; else None.

    As in a shell, an unquoted word may be a pattern or begin with a tilde; quoted characters are rewritten so that they
    are neither (`[*]`, `./~`).
    """
    argv = _words(command)
    if argv is None or options(argv) is None:
        return None
    return argv


def options(argv: list[bytes]) -> Options | None:
    """The options in `argv`, or None if it does not start the remote side of a copy."""
    if not argv or argv[0] != b"scp":
        return None
    flags = b""
    rest = argv[1:]
    while rest and rest[0].startswith(b"-") and rest[0] != b"-":
        flag, *rest = rest
        if flag == b"--":
            break
        flags += flag[1:]
    # `q` is sent by some clients and ignored; exactly one of `t` (to here) and `f` (from here) is needed.
    if not set(flags) <= set(b"vrpdqtf") or (b"t" in flags) == (b"f" in flags) or not rest:
        return None
    return Options(
        source=b"f" in flags,
        recursive=b"r" in flags,
        preserve=b"p" in flags,
        directory=b"d" in flags,
        verbose=b"v" in flags,
        words=tuple(rest),
    )


def _words(command: bytes) -> list[bytes] | None:
    """The words that a POSIX shell would make of `command`, or None if it would do anything else with it."""
    words = []
    at = 0
    while at < len(command):
        if command[at] in b" \t":
            at += 1
            continue
        if command[at] in b"#":
            return None
        word = _word(command, at)
        if word is None:
            return None
        text, at = word
        words.append(text)
    return words


def _word(command: bytes, start: int) -> tuple[bytes, int] | None:
    """The word that begins at `start`, and where it ends."""
    text = bytearray()
    bare = bytearray()  # what was not quoted
    at = start
    while at < len(command) and command[at] not in b" \t":
        char = command[at : at + 1]
        if char in _REFUSED:  # below, this also refuses a newline after a backslash, which no client sends
            return None
        if char in b"'\"":
            quoted = _quoted(command, at)
            if quoted is None:
                return None
            inside, at = quoted
        elif char == b"\\":
            inside = command[at + 1 : at + 2]
            if inside in {b"", b"\n", b"\0"}:
                return None
            at += 2
        else:
            text += char
            bare += char
            at += 1
            continue
        text += (b"./" if not text and inside.startswith(b"~") else b"") + _plain(inside)
    if b"{" in bare and (b"," in bare or b".." in bare):
        return None  # some shells would split it into several words
    return bytes(text), at


def _quoted(command: bytes, start: int) -> tuple[bytes, int] | None:
    """The text in the quotes that open at `start`, and the position after them; None if they need a shell."""
    quote = command[start]
    inside = bytearray()
    at = start + 1
    while at < len(command) and command[at] != quote:
        char = command[at]
        if char == 0 or (quote == ord('"') and char in b"$`"):
            return None
        if quote == ord('"') and char == ord("\\") and _ESCAPABLE_IN_QUOTES.issuperset(command[at + 1 : at + 2]):
            at += 1
            if at == len(command):
                return None
            char = command[at]
        inside.append(char)
        at += 1
    return None if at >= len(command) else (bytes(inside), at + 1)


def _plain(text: bytes) -> bytes:
    """A pattern that matches `text` alone."""
    return b"".join(b"[%c]" % char if char in MAGIC else b"%c" % char for char in text)
