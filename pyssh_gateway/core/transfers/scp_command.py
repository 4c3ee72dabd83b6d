"""Which commands are those that `scp -O` and its relatives send to the far side, and what they ask for. Pure.

The far side of a legacy copy is started by a command line that the login shell would take apart. For the built-in
server there is no shell, so the line is taken apart here, and a line that asks more of a shell than to quote, to
expand a tilde and to match file names is not taken at all.
"""

import msgspec

MAGIC = b"*?["
"""What begins a pattern for file names. Quoted, each of these stands in brackets of its own in the words of `parse`."""

_REFUSED = b"\0\n\r$`;&|<>()"
"""Outside of quotes, these ask the shell for more than a word."""

_ESCAPABLE_IN_QUOTES = frozenset(b'$`"\\')
"""What a backslash quotes within double quotes; before anything else it stands for itself (POSIX shell, 2.2.3)."""


class Options(msgspec.Struct, frozen=True):
    """What the far side is to do: send `words` (the `source`), or receive what comes into the one word."""

    source: bool
    recursive: bool
    preserve: bool
    directory: bool
    verbose: bool
    words: tuple[bytes, ...]


def parse(command: bytes) -> list[bytes] | None:
    """The words of `command` if it starts the far side of a copy and needs no shell for more than words; else None.

    A word may be a pattern, and may begin with a tilde, as the shell would have seen them: what was quoted is put so
    that it is neither (`[*]`, `./~`).
    """
    argv = _words(command)
    if argv is None or options(argv) is None:
        return None
    return argv


def options(argv: list[bytes]) -> Options | None:
    """What `argv` asks for, or None if it is not how the far side of a copy is started."""
    if not argv or argv[0] != b"scp":
        return None
    flags = b""
    rest = argv[1:]
    while rest and rest[0].startswith(b"-") and rest[0] != b"-":
        flag, *rest = rest
        if flag == b"--":
            break
        flags += flag[1:]
    # `q` is sent by some clients and means nothing here; exactly one of `t`, to here, and `f`, from here.
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
        if char in _REFUSED:  # also a backslash's newline, below: nobody sends one
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
        return None  # some shells would make several words of it
    return bytes(text), at


def _quoted(command: bytes, start: int) -> tuple[bytes, int] | None:
    """What is within the quotes that open at `start`, and where the text goes on; None if they need a shell."""
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
