"""What is known of a command: its words, its options, what it does and how it ends. Plain data."""

from enum import Enum
from typing import NamedTuple


class Values(Enum):
    """What a shell can propose for the value of an option or for an argument."""

    NOTHING = "nothing"
    FILES = "files"
    DIRECTORIES = "directories"
    ACCOUNTS = "accounts"
    COMMANDS = "commands"
    """Our own, as `help` takes them."""


class Group(Enum):
    """The headings of `--help`, in this order."""

    SERVING = "Serving"
    CONFIGURATION = "Configuration"
    WATCHING = "What goes on"
    HOLDING = "Keeping the machine up"
    KEYS = "Keys"
    MORE = "More"


class Option(NamedTuple):
    """`--name`, or `--name VALUE` if `value` says what the value is called.

    What was given becomes the attribute `into`; without that, the name's own with underscores. Not given, it is False,
    or with a value `default`, or an empty tuple if it may be `repeated`. `choices` are the only values; empty for any.
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
        """Where what was given is found."""
        return self.into or self.name.removeprefix("--").replace("-", "_")


class Argument(NamedTuple):
    """A word that is no option, by its place.

    What was given becomes the attribute that is the name in small letters: text, `default` if it may be left out and
    was, or a tuple if it is `repeated`, which only the last one can be.
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
        """Where what was given is found."""
        return self.name.lower()


class Exit(NamedTuple):
    """An exit code, and what it means."""

    code: int
    meaning: str


class Named(NamedTuple):
    """A variable of the environment, or a file, and what it is."""

    name: str
    meaning: str


class Example(NamedTuple):
    """A command line, and what it is for."""

    line: str
    meaning: str


class Command(NamedTuple):
    """A command. To add one is to add an entry to `reference.commands`, and the function that it names.

    `name` is what is typed, with a space in a family's members: `keys test`. `summary` is one line without a full stop.
    `run` is `module:function`, imported when the command is run, with the shape `cli.main.Run`; empty if `__main__`
    starts it by itself. `details` are the paragraphs of its help, with an empty line between them, and `forms` its
    lines of usage, where they can't be made from options and arguments. `exits` are the codes that mean something else
    than everywhere, or that others don't have. With `takes_command`, what stands behind `--` is the attribute
    `command`: a tuple, None without `--`; whatever goes wrong before that command runs ends with `before_command`.
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
        """The details, a line each."""
        return [" ".join(text.split()) for text in self.details.split("\n\n") if text.strip()]

    def option(self, name: str) -> Option | None:
        """The option that is typed like that."""
        return next((option for option in self.options if name in {option.name, option.short} - {""}), None)
