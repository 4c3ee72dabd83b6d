"""The description of a command: its name, its options, what it does and how it ends. Plain data."""

from enum import Enum
from typing import NamedTuple


class Values(Enum):
    """Kinds of values that a shell can propose for an option or an argument."""

    NOTHING = "nothing"
    FILES = "files"
    DIRECTORIES = "directories"
    ACCOUNTS = "accounts"
    COMMANDS = "commands"
    """The names of our own commands, which `help` takes."""


class Group(Enum):
    """The headings of `--help`, in this order."""

    SERVING = "Serving"
    CONFIGURATION = "Configuration"
    WATCHING = "What goes on"
    HOLDING = "Keeping the machine up"
    AUDIT = "Who did what"
    KEYS = "Keys"
    MORE = "More"


class Option(NamedTuple):
    """`--name`, or `--name VALUE` if `value` is the name of its value.

    The result is the attribute `into`, or if that is empty, the name with underscores. If the option is not given, the
    attribute is False; for an option with a value `default`; or an empty tuple if it may be `repeated`. `choices` are
    the only values; empty for any.
    """

    name: str
    summary: str
    value: str = ""
    values: Values = Values.NOTHING
    choices: tuple[str, ...] = ()
    repeated: bool = False
    default: str | None = None
    into: str = ""
    short: str = ""

    @property
    def attribute(self) -> str:
        """The attribute of the result."""
        return self.into or self.name.removeprefix("--").replace("-", "_")


class Argument(NamedTuple):
    """A positional argument.

    The result is the attribute with the name in small letters: text, `default` if the argument was left out, or a tuple
    if it is `repeated`, which only the last argument can be.
    """

    name: str
    summary: str
    needed: bool = True
    repeated: bool = False
    values: Values = Values.NOTHING
    choices: tuple[str, ...] = ()
    default: str | None = None

    @property
    def attribute(self) -> str:
        """The attribute of the result."""
        return self.name.lower()


class Exit(NamedTuple):
    """An exit code, and what it means."""

    code: int
    meaning: str


class Named(NamedTuple):
    """A variable of the environment, or a file, and its meaning."""

    name: str
    meaning: str


class Example(NamedTuple):
    """A command line, and its purpose."""

    line: str
    meaning: str


class Command(NamedTuple):
    """A command. To add one, add an entry to `reference.commands`, and the function that it names.

    `name` is what is typed, with a space for a member of a family: `keys test`. `summary` is one line without a full
    stop. `run` is `module:function`, imported when the command is run, of the type `cli.main.Run`; empty if `__main__`
    starts it by itself. `details` are the paragraphs of its help, with an empty line between them. `forms` are its
    lines of usage, if they can't be made from options and arguments. `exits` are the codes that have another meaning
    than for other commands, or that only this one has. With `takes_command`, the words behind `--` are the attribute
    `command`: a tuple, None without `--`; errors before that command runs end with the code `before_command`.
    """

    name: str
    group: Group
    summary: str
    run: str = ""
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    details: str = ""
    examples: tuple[Example, ...] = ()
    exits: tuple[Exit, ...] = ()
    forms: tuple[str, ...] = ()
    takes_command: bool = False
    before_command: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return tuple(self.name.split(" "))

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of the details, a line each."""
        return [" ".join(text.split()) for text in self.details.split("\n\n") if text.strip()]

    def option(self, name: str) -> Option | None:
        """The option that is typed as `name`."""
        return next((option for option in self.options if name in {option.name, option.short} - {""}), None)
