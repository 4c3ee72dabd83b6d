"""The text of `--help` and `help`: an overview with a line for each command, and a page for each of them."""

import textwrap
from collections.abc import Iterable, Sequence

from pyssh_gateway.cli.exit_codes import NOBODY, WrongUsage
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Argument, Command, Exit, Group, Option
from pyssh_gateway.cli.reference.parsing import find, members_of
from pyssh_gateway.cli.reference.program import ABOUT, ENVIRONMENT, EXITS, HELP, PROGRAM, VERSION
from pyssh_gateway.config.source import quoted

WIDTH = 80
"""The usual width of a terminal in columns."""


def usage(command: Command | None) -> list[str]:
    """The usage of a command, a line for each form, and a pointer to its help; None: the program itself."""
    if command is None:
        return [f"usage: {PROGRAM} COMMAND [OPTION...]", f"{PROGRAM} --help lists the commands"]
    return [*_usage(command), f"{PROGRAM} help {command.name} says more"]


def topic(words: Sequence[str]) -> list[str]:
    """The page of the command, or the family of commands, that has this name; the overview for no words.

    Raises WrongUsage.
    """
    if not words:
        return _overview()
    if len(words) == 1 and members_of(words[0]) and not any(command.name == words[0] for command in COMMANDS):
        return [f"usage: {PROGRAM} {words[0]} COMMAND [OPTION...]", *_members(words[0])]
    command, rest = find(words)
    if rest:
        raise WrongUsage(f"{command.name} has no command {quoted(rest[0])}")
    return _page(command)


def exits_of(command: Command) -> list[Exit]:
    """Every exit code that a command can have, with its meaning there, in ascending order."""
    own = {one.code: one for one in command.exits}
    common = {} if command.name == "serve" else {one.code: one for one in EXITS}
    if command.group is Group.AUDIT:  # they read files
        common.pop(NOBODY, None)
    return [{**common, **own}[code] for code in sorted({**common, **own})]


def forms(command: Command) -> list[str]:
    """The usage of a command, without the name of the program."""
    if command.forms:
        return [f"{command.name} {form}" for form in command.forms]
    words = [command.name, *(_option_word(option) for option in command.options)]
    return [" ".join(words + [_argument_word(argument) for argument in command.arguments])]


def option_names(option: Option) -> str:
    """`-h, --help` or `--config FILE`."""
    short = f"{option.short}, " if option.short else ""
    return f"{short}{option.name} {option.value}".rstrip()


def described(entry: Option | Argument) -> str:
    """The meaning of an option or an argument, with the values that it takes."""
    if not entry.choices:
        return entry.summary
    again = "; may be given again" if isinstance(entry, Option) and entry.repeated else ""
    listed = f"{', '.join(entry.choices[:-1])} or {entry.choices[-1]}"
    return entry.summary if listed in entry.summary else f"{entry.summary}: {listed}{again}"


def _overview() -> list[str]:
    lines = [f"{ABOUT[0].upper()}{ABOUT[1:]}.", "", f"usage: {PROGRAM} COMMAND [OPTION...]"]
    width = max(len(command.name) for command in COMMANDS)
    for group in Group:
        members = [(command.name, command.summary) for command in COMMANDS if command.group is group]
        if members:
            lines += ["", group.value, *_table(members, width)]
    options = [(option_names(option), option.summary) for option in (HELP, VERSION)]
    lines += ["", "Options", *_table(options, width)]
    lines += ["", "Exit codes", *_table([(str(one.code), one.meaning) for one in EXITS], width)]
    lines += ["", "Environment", *_table(ENVIRONMENT, max(width, *(len(one.name) for one in ENVIRONMENT)))]
    return [*lines, "", f"{PROGRAM} help COMMAND says more about each of them."]


def _page(command: Command) -> list[str]:
    lines = [*textwrap.wrap(f"{PROGRAM} {command.name}: {command.summary}", WIDTH), "", *_usage(command)]
    for paragraph in command.paragraphs:
        lines += ["", *textwrap.wrap(paragraph, WIDTH)]
    arguments = [(argument.name, described(argument)) for argument in command.arguments]
    options = [(option_names(option), described(option)) for option in (*command.options, HELP)]
    exits = [(str(one.code), one.meaning) for one in exits_of(command)]
    for heading, rows in (("Arguments", arguments), ("Options", options), ("Exit codes", exits)):
        if rows:
            lines += ["", heading, *_table(rows, max(len(name) for name, _ in rows))]
    lines += _members(command.name)
    if command.examples:
        lines += ["", "Examples"]
        for example in command.examples:
            lines += [f"  # {example.meaning}", f"  {example.line}"]
    return lines


def _members(family: str) -> list[str]:
    """The commands that begin with that word, under a heading, if there are any."""
    rows = [(member.name, member.summary) for member in members_of(family)]
    return ["", "Commands", *_table(rows, max(len(name) for name, _ in rows))] if rows else []


def _usage(command: Command) -> list[str]:
    lines: list[str] = []
    for form in forms(command):
        lead = "usage: " if not lines else "       "
        # Lines are not broken within brackets: the words in them belong together.
        text = form.replace(" ", "\0").replace("]\0", "] ").replace("\0[", " [")
        indent = " " * (len(lead) + len(PROGRAM) + 1)
        wrapped = textwrap.wrap(text, WIDTH, initial_indent=f"{lead}{PROGRAM} ", subsequent_indent=indent)
        lines += [line.replace("\0", " ") for line in wrapped]
    return lines


def _option_word(option: Option) -> str:
    return f"[{option.name} {option.value}]" if option.value else f"[{option.name}]"


def _argument_word(argument: Argument) -> str:
    name = f"{argument.name}..." if argument.repeated else argument.name
    return name if argument.needed else f"[{name}]"


def _table(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Two columns; a text that is too long for the second continues below."""
    lines = []
    for name, meaning in rows:
        lead = f"  {name:<{width}}  "
        lines += textwrap.wrap(meaning, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))
    return lines
