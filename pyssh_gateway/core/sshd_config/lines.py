"""The lines of sshd_config(5): keyword and arguments, quotes, comments, Match blocks and Include.

Read as OpenSSH 9 and 10 do (servconf.c, process_server_config_line_depth; misc.c, argv_split). Files are opened by the
caller. Pure.
"""

from collections.abc import Callable, Iterator

import msgspec

MAX_DEPTH = 16
"""How deep files may include others (servconf.c, SERVCONF_MAX_DEPTH)."""

MAX_DIRECTIVES = 10_000
"""The most lines of all files together: this also stops a file that includes itself by a pattern."""

_WHITESPACE = " \t\r\n"
_TAKES_TEXT = frozenset({"forcecommand"})
"""Keywords whose argument is all that follows, so that a `#` in it begins no comment."""

_ESCAPED = frozenset("'\"\\")


class SshdConfigError(Exception):
    """A line that sshd itself would refuse; the text names the place."""


class Criterion(msgspec.Struct, frozen=True):
    """One criterion of a Match line: its name in lower case, and its argument, empty for none."""

    name: str
    argument: str = ""


class Block(msgspec.Struct, frozen=True):
    """A Match line, with its place. All of its criteria have to match."""

    criteria: tuple[Criterion, ...]
    text: str
    file: str
    line: int


class Directive(msgspec.Struct, frozen=True):
    """One line. `keyword` is in lower case; `rest` is the unparsed text after it, for keywords that take a command.

    `blocks` are the Match lines above it that apply: more than one where a block includes a file with blocks.
    """

    keyword: str
    arguments: tuple[str, ...]
    rest: str
    file: str
    line: int
    blocks: tuple[Block, ...] = ()

    @property
    def text(self) -> str:
        """The line, as a person would write it."""
        return f"{self.keyword} {self.rest}"


Include = Callable[[str], list[tuple[str, str]]]
"""Returns the files for an argument of Include, which may be a pattern, in their order: name and content."""


def directives(name: str, content: str, include: Include) -> tuple[Directive, ...]:
    """All lines of the file `name` and of those that it includes, in the order in which they count.

    Raises `SshdConfigError`.
    """
    found: list[Directive] = []
    for directive in _read(name, content, include, (), 0):
        found.append(directive)
        if len(found) > MAX_DIRECTIVES:
            raise SshdConfigError(f"{directive.file} line {directive.line}: these are more than {MAX_DIRECTIVES} lines")
    return tuple(found)


def split(text: str) -> tuple[str, ...]:
    """The arguments in `text`, up to a comment. Raises ValueError for a quote that is not closed."""
    arguments: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == "#":
            break
        else:
            argument, at = _argument(text, at)
            arguments.append(argument)
    return tuple(arguments)


def _argument(text: str, at: int) -> tuple[str, int]:
    """The argument that begins at `at`, and where it ends. Quotes may begin and end within it."""
    characters: list[str] = []
    quote = ""
    while at < len(text):
        character, following = text[at], text[at + 1 : at + 2]
        if character == "\\" and ((following in _ESCAPED and following) or (following == " " and not quote)):
            characters.append(following)
            at += 1
        elif not quote and character in " \t":
            break
        elif not quote and character in "\"'":
            quote = character
        elif character == quote:
            quote = ""
        else:
            characters.append(character)
        at += 1
    if quote:
        raise ValueError("invalid quotes")
    return "".join(characters), at


def _keyword(line: str) -> tuple[str, str]:
    """The keyword and the rest of a line (strdelim): white space, one `=`, or both are between them."""
    line = line.strip(_WHITESPACE + "\f")
    if line.startswith('"'):
        keyword, _, rest = line[1:].partition('"')
    else:
        end = next((at for at, character in enumerate(line) if character in _WHITESPACE + '"='), len(line))
        keyword, rest = line[:end], line[end:]
    rest = rest.lstrip(_WHITESPACE)
    if rest.startswith("="):
        rest = rest[1:].lstrip(_WHITESPACE)
    return keyword.lower(), rest


def _read(name: str, content: str, include: Include, outer: tuple[Block, ...], depth: int) -> Iterator[Directive]:
    blocks = outer
    for number, line in enumerate(content.split("\n"), 1):
        keyword, rest = _keyword(line)
        if not keyword or keyword.startswith("#"):
            continue
        where = f"{name} line {number}"
        try:
            arguments = split(rest)
        except ValueError as error:
            raise SshdConfigError(f"{where}: {error}") from None
        if not rest:
            raise SshdConfigError(f"{where}: no argument after keyword {keyword}")
        if keyword == "match":
            blocks = (*outer, Block(_criteria(arguments, where), rest, name, number))
        elif not arguments and keyword not in _TAKES_TEXT:
            raise SshdConfigError(f"{where}: no argument after keyword {keyword}")
        elif keyword == "include":
            if depth == MAX_DEPTH:
                raise SshdConfigError(f"{where}: files include each other more than {MAX_DEPTH} deep")
            for argument in arguments:
                for file, text in include(argument):
                    yield from _read(file, text, include, blocks, depth + 1)
        else:
            yield Directive(keyword, arguments, rest, name, number, blocks)


def _criteria(arguments: tuple[str, ...], where: str) -> tuple[Criterion, ...]:
    """The criteria of a Match line: `User amos`, `User=amos`, `all`, `invalid-user`."""
    criteria: list[Criterion] = []
    words = list(arguments)
    while words:
        name, equals, argument = words.pop(0).partition("=")
        name = name.lower()
        if name not in {"all", "invalid-user"}:
            if not equals:
                argument = words.pop(0) if words else ""
            if not argument:
                raise SshdConfigError(f"{where}: Match {name} needs an argument")
        criteria.append(Criterion(name, argument))
    if not criteria or (len(criteria) > 1 and any(criterion.name == "all" for criterion in criteria)):
        raise SshdConfigError(f"{where}: Match takes criteria, or all and nothing else")
    return tuple(criteria)
