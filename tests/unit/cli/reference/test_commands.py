"""cli.reference.commands: the table of commands, and that it agrees with the code."""

import inspect
import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

from pyssh_gateway import __main__ as program
from pyssh_gateway.cli.reference import parsing
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Command
from pyssh_gateway.cli.reference.program import EXITS
from pyssh_gateway.keys.host_keys import KINDS
from tests.support.places import ROOT

NAMES = [command.name for command in COMMANDS]
IN_MAIN = {"serve", "sftp-server"}
"""The commands that `__main__` starts without the table."""


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_every_command_leads_to_a_function(command: Command) -> None:
    """Each command in `--help` can be run: its entry names a function that takes two arguments."""
    module, _, function = command.run.partition(":")
    assert bool(command.run) == (command.name not in IN_MAIN)
    if command.run:
        assert len(inspect.signature(getattr(import_module(module), function)).parameters) == 2


def test_names_are_said_once() -> None:
    """Names in the table are unique, and consist of one word, or two for a member of a family."""
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z-]+( [a-z-]+)?", name) for name in NAMES)


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_options_are_said_in_one_way(command: Command) -> None:
    """No two options or arguments of a command share an attribute, and each summary is one line without a full stop."""
    attributes = [option.attribute for option in command.options]
    attributes += [argument.attribute for argument in command.arguments]
    assert len(set(attributes)) == len(attributes)
    assert "help" not in attributes
    texts = [command.summary, *(option.summary for option in command.options)]
    texts += [argument.summary for argument in command.arguments]
    texts += [one.meaning for one in (*EXITS, *command.exits)] + [example.meaning for example in command.examples]
    for said in texts:
        assert said.isprintable()
        assert len(said) <= 100
        assert not said.endswith(".")
    assert len(command.summary) <= 60  # one line in the overview


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_examples_can_be_typed(command: Command) -> None:
    """Protects people who copy an example: each is a valid command line of the command that it stands under."""
    for example in command.examples:
        (typed,) = re.findall(r"pyssh-gateway ([^|>)]+)", example.line)[:1]
        found, rest = parsing.find(shlex.split(typed))
        parsing.parse(found, rest)
        assert found == command


def test_serve_takes_what_the_table_says() -> None:
    """`serve` reads its options itself, before the table is imported, and accepts exactly the table's."""
    (serve,) = [command for command in COMMANDS if command.name == "serve"]
    source = inspect.getsource(program._serve)  # noqa: SLF001 - its text is compared, it has no other way to say it
    assert {option.name for option in serve.options} == set(re.findall(r'"(--[a-z]+)"', source))


def test_a_server_starts_without_the_table() -> None:
    """Protects the client that waits for a start: modules for commands are not imported before the port is bound."""
    script = "import sys, pyssh_gateway.__main__, pyssh_gateway.startup.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("pyssh_gateway.cli")] == []


def test_types_of_host_keys_are_those_that_there_are() -> None:
    """The table avoids heavy imports and so repeats the types of host keys; they are the same as in the code."""
    (rotate,) = [command for command in COMMANDS if command.name == "keys rotate-host"]
    (kinds,) = [option.choices for option in rotate.options if option.name == "--type"]
    assert set(kinds) == set(KINDS)
