"""Man pages, in the macros of man(7): one for the program, and one for each command, as with git."""

from datetime import date

from pyssh_gateway import __version__
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.help_text import described, exits_of, forms
from pyssh_gateway.cli.reference.model import Command, Exit, Group, Option
from pyssh_gateway.cli.reference.parsing import members_of
from pyssh_gateway.cli.reference.program import ABOUT, ENVIRONMENT, EXITS, FILES, HELP, PROGRAM, VERSION

SECTION = 1


def name_of(command: Command | None) -> str:
    """The name of a page; None: that of the program."""
    return PROGRAM if command is None else "-".join((PROGRAM, *command.words))


def page(command: Command | None, day: date) -> str:
    """The page of a command, with the date `day`; None: that of the program."""
    title = f'.TH {_plain(name_of(command).upper())} {SECTION} {day.isoformat()} "{PROGRAM} {__version__}"'
    parts = _program() if command is None else _command(command)
    return "\n".join([title, *parts]) + "\n"


def _program() -> list[str]:
    lines = [*_name(PROGRAM, ABOUT), ".SH SYNOPSIS", f".B {_plain(PROGRAM)}", r"\fICOMMAND\fP [\fIOPTION\fP...]"]
    for group in Group:
        members = [command for command in COMMANDS if command.group is group]
        if members:
            lines.append(f'.SH "{group.value.upper()}"')
        for command in members:
            lines += _item(rf"\fB{_plain(name_of(command))}\fP({SECTION})", command.summary)
    lines.append(".SH OPTIONS")
    for option in (HELP, VERSION):
        lines += _item(_option_names(option), option.summary)
    lines += _exit_status(list(EXITS))
    for heading, rows in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        lines.append(f".SH {heading}")
        for entry in rows:
            lines += _item(rf"\fI{_plain(entry.name)}\fP", entry.meaning)
    return lines


def _command(command: Command) -> list[str]:
    lines = [*_name(name_of(command), command.summary), ".SH SYNOPSIS"]
    for place, form in enumerate(forms(command)):
        words = _plain(form.removeprefix(command.name).strip())
        lines += ([".br"] if place else []) + [rf"\fB{_plain(f'{PROGRAM} {command.name}')}\fP {words}".rstrip()]
    if command.paragraphs:
        lines += [".SH DESCRIPTION", _plain(command.paragraphs[0])]
        lines += [line for text in command.paragraphs[1:] for line in (".PP", _plain(text))]
    if command.arguments:
        lines.append(".SH ARGUMENTS")
        for argument in command.arguments:
            lines += _item(rf"\fI{argument.name}\fP", described(argument))
    lines.append(".SH OPTIONS")
    for option in (*command.options, HELP):
        lines += _item(_option_names(option), described(option))
    lines += _exit_status(exits_of(command))
    if command.examples:
        lines.append(".SH EXAMPLES")
        for example in command.examples:
            lines += [".TP", _plain(f"{example.meaning}:"), rf"\fB{_plain(example.line)}\fP"]
    others = [None, *(other for other in members_of(command.words[0]) if other != command)]
    pages = [rf"\fB{_plain(name_of(other))}\fP({SECTION})" for other in others]
    return [*lines, '.SH "SEE ALSO"', ",\n".join(pages)]


def _name(name: str, summary: str) -> list[str]:
    return [".SH NAME", rf"{_plain(name)} \- {_plain(summary)}"]


def _option_names(option: Option) -> str:
    names = ", ".join(rf"\fB{_plain(name)}\fP" for name in (option.short, option.name) if name)
    return rf"{names} \fI{_plain(option.value)}\fP" if option.value else names


def _exit_status(exits: list[Exit]) -> list[str]:
    lines = ['.SH "EXIT STATUS"']
    for one in exits:
        lines += _item(rf"\fB{one.code}\fP", one.meaning)
    return lines


def _item(term: str, meaning: str) -> list[str]:
    return [".TP", term, _plain(meaning)]


def _plain(text: str) -> str:
    """`text` escaped for troff: its hyphens can be copied, and nothing in it is a request or an escape."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
