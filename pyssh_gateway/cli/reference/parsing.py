"""Parses the words of a command line into a command and its arguments, by the table of commands.

Written by hand, because argparse costs `hold -- make` 10 ms. The parser can't differ from help and completion, and it
suggests corrections. Options may stand anywhere behind the command, as in GNU programs.
"""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import NoReturn

from pyssh_gateway.cli.exit_codes import WrongUsage
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Argument, Command, Option
from pyssh_gateway.cli.reference.program import HELP, PROGRAM, VERSION
from pyssh_gateway.config.source import MAX_SHOWN, quoted


class Given(SimpleNamespace):
    """The arguments of a command: an attribute for each of its options and arguments (see `model`), and `help`."""


def first_words() -> tuple[str, ...]:
    """The words that can be typed first, in the order of the table: commands, and the names of families."""
    return tuple(dict.fromkeys(command.words[0] for command in COMMANDS))


def members_of(word: str) -> tuple[Command, ...]:
    """The commands of the family `word`, without the one whose whole name is `word`."""
    return tuple(command for command in COMMANDS if len(command.words) > 1 and command.words[0] == word)


def find(words: Sequence[str]) -> tuple[Command, Sequence[str]]:
    """The command that `words`, at least one, begin with, and the rest of them. Raises WrongUsage."""
    for length in (2, 1):
        name = " ".join(words[:length])
        command = next((command for command in COMMANDS if command.name == name), None)
        if command is None or len(command.words) > len(words):
            continue
        rest = words[length:]
        if members_of(name) and rest and not rest[0].startswith("-"):
            _refuse_member(name, rest[0])
        return command, rest
    if members_of(words[0]):
        _refuse_member(words[0], words[1] if len(words) > 1 else "")
    if words[0].startswith("-"):
        _refuse_leading_option(words[0])
    names = [command.name for command in COMMANDS]
    by_last_word = {name.split(" ")[-1]: name for name in reversed(names)}  # `refresh` is `keys refresh`
    by_last_word |= {word: word for word in first_words()}
    close = closest(words[0], by_last_word.keys())
    hint = f"did you mean {by_last_word[close]}?" if close else f"{PROGRAM} --help lists the commands"
    raise WrongUsage(f"unknown command {quoted(words[0])}", hint)


def parse(command: Command, words: Iterable[str]) -> Given:
    """Parse `words`, those behind the command's name. Raises WrongUsage.

    After `--help` nothing more is read: a user who asks for help may not know which arguments are required.
    """
    given = Given(help=False, command=None) if command.takes_command else Given(help=False)
    for option in command.options:
        unset = () if option.repeated else option.default if option.value else False
        setattr(given, option.attribute, unset)
    plain: list[str] = []
    rest = iter(words)
    for typed in rest:
        word = _short(given, command, typed)
        if word == "--":
            if command.takes_command:
                given.command = tuple(rest)
            plain += rest
        elif word in {HELP.name, HELP.short}:
            given.help = True
            return given
        elif typed.startswith("-") and typed != "-":
            if not word:
                continue
            name, equals, value = word.partition("=")
            found = command.option(name) or _refuse_option(command, name)
            if found.value and not equals:
                _put(given, found, next(rest, None))
            else:
                _put(given, found, value if equals else None)
        else:
            plain.append(word)
    _place(given, command, plain)
    return given


def _short(given: Given, command: Command, word: str) -> str:
    """Store the short options that are written together, as in `-fn5`, but the last one; returns that, if any is left.

    What can't be taken apart into options of the command is returned as it is.
    """
    found: list[tuple[Option, str | None]] = []
    left = word
    while len(left) > 2 and left[0] == "-" and left[2] != "=" and (option := command.option(left[:2])) is not None:
        if option.value:
            found.append((option, left[2:]))
            left = ""
        else:
            found.append((option, None))
            left = f"-{left[2:]}"
    if left and command.option(left.partition("=")[0]) is None:
        return word
    for option, value in found:
        _put(given, option, value)
    return left


def _put(given: Given, option: Option, value: str | None) -> None:
    """Store an option with its value, None if there is none."""
    if not option.value:
        if value is not None:
            raise WrongUsage(f"{option.name} takes no value")
        setattr(given, option.attribute, True)
        return
    if value is None:
        raise WrongUsage(f"{option.name} needs a value: {option.name} {option.value}")
    _check_choice(option.name, value, option.choices)
    earlier = getattr(given, option.attribute)
    setattr(given, option.attribute, (*earlier, value) if option.repeated else value)


def _place(given: Given, command: Command, plain: list[str]) -> None:
    """Store the positional arguments."""
    left = list(plain)
    for argument in command.arguments:
        if argument.repeated:
            setattr(given, argument.attribute, tuple(left))
            left = []
        elif left:
            _check_choice(argument.name, left[0], argument.choices)
            setattr(given, argument.attribute, left.pop(0))
        elif argument.needed:
            raise WrongUsage(f"{command.name} needs a {argument.name}: {_about(argument)}")
        else:
            setattr(given, argument.attribute, argument.default)
    if left:
        raise WrongUsage(f"{quoted(left[0])} is one word too many for {command.name}")


def _about(argument: Argument) -> str:
    return " or ".join(argument.choices) if argument.choices else argument.summary


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if choices and value not in choices:
        close = closest(value, choices)
        hint = f"did you mean {close}?" if close else ""
        raise WrongUsage(f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {quoted(value)}", hint)


def _refuse_option(command: Command, name: str) -> NoReturn:
    known = [option.name for option in (*command.options, HELP)]
    close = _choice(command, name) or closest(name, known)
    hint = f"did you mean {close}?" if close else f"it takes {', '.join(known)}"
    raise WrongUsage(f"{command.name} has no option {quoted(name)}", hint)


def _choice(command: Command, name: str) -> str:
    """The option with its value, if somebody has taken a value, or its beginning, for an option; else empty."""
    word = name.removeprefix("--")
    found = (f"{one.name} {choice}" for one in command.options for choice in one.choices if choice.startswith(word))
    return next(found, "") if len(word) > 1 else ""


def _refuse_member(family: str, word: str) -> NoReturn:
    known = [member.words[-1] for member in members_of(family)]
    listed = f"there is {', '.join(f'{family} {member}' for member in known)}"
    if not word or word.startswith("-"):
        raise WrongUsage(f"{family} is not a command by itself", listed)
    close = closest(word, known)
    raise WrongUsage(
        f"unknown command {quoted(f'{family} {word}')}", f"did you mean {family} {close}?" if close else listed
    )


def _refuse_leading_option(word: str) -> NoReturn:
    name = word.partition("=")[0]
    if any(command.option(name) for command in COMMANDS):
        raise WrongUsage(f"{quoted(name)} in front of a command", f"options stand behind it: {PROGRAM} COMMAND {name}")
    options = (HELP, VERSION)
    close = next((option.name for option in options if option.short == name.swapcase()), "")
    close = close or closest(name, [option.name for option in options])
    hint = f"did you mean {close}?" if close else f"{PROGRAM} --help says what there is"
    raise WrongUsage(f"unknown option {quoted(name)}", hint)


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that is most similar to `word`; empty if none is close."""
    from difflib import get_close_matches  # late: only needed after a mistake

    names = list(known)
    begun = [name for name in names if len(word.strip("-")) > 1 and name.startswith(word)]
    return next(iter(begun + get_close_matches(word[:MAX_SHOWN], names, n=1)), "")
