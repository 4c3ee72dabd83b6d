"""Finds the command for the words of the command line, runs it, and turns errors into an exit code.

Every command but `serve` and `sftp-server` is run from here. So is `hold`, which has to start fast, so nothing heavy is
imported except by the command itself.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, INTERRUPTED, WRONG_USAGE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing, streams
from pyssh_gateway.cli.reference import parsing
from pyssh_gateway.cli.reference.model import Command
from pyssh_gateway.cli.reference.program import HELP, PROGRAM, VERSION
from pyssh_gateway.cli.reference.shared_options import JSON
from pyssh_gateway.config.source import ConfigError

PACKAGE = __name__.partition(".")[0]

Run = Callable[[parsing.Given, Context], int]
"""A command: takes its arguments and its context, returns its exit code. Raises Failed, ConfigError."""


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command that `words` begin with; returns the exit code, unless another command replaces this process."""
    streams.prepare()
    try:
        code = _run(words, environ)
        printing.flush()
    except printing.OutputFailed as error:
        streams.give_up_output()
        if not error.is_gone:
            printing.remark(str(error))
        return error.code
    except KeyboardInterrupt:
        streams.give_up_output()
        return INTERRUPTED
    return code


def refuse_serve(words: Sequence[str], problem: str) -> int:
    """Print what is wrong with the options of `serve`, which parses them by itself; returns the exit code.

    The table of commands finds the mistake and suggests a correction; if it finds none, `problem` is printed.
    """
    streams.prepare()
    command, _ = parsing.find(("serve",))
    try:
        parsing.parse(command, words)
    except WrongUsage as error:
        problem = str(error)
    _explain_usage(problem, command)
    return WRONG_USAGE


def _run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """As `run`, but raises OutputFailed."""
    end = words.index("--") if "--" in words else len(words)
    command: Command | None = None
    try:
        if not words:
            return _nothing_said()
        if words[0] in {VERSION.name, VERSION.short}:
            return _version()
        if set(words[:2]) & {HELP.name, HELP.short}:
            return _help(words[:1] if words[0] not in {HELP.name, HELP.short} else ())
        command, rest = parsing.find(words)
        given = parsing.parse(command, rest)
        if given.help:
            return _help(command.words)
        return _call(command, given, Context(getattr(given, "config", None), environ))
    except printing.OutputFailed:
        raise
    except ConfigError as error:
        code, kind, problems = WRONG_USAGE, "config", error.problems
    except Failed as error:
        code, kind, problems = error.code, error.kind, error.reasons
        if isinstance(error, WrongUsage):
            _explain_usage(str(error), command)
    if JSON.name in words[:end]:
        printing.error_object(kind, problems)
    if kind != WrongUsage.kind:
        for problem in problems:
            printing.remark(problem)
    return command.before_command or code if command is not None and end < len(words) else code


def _call(command: Command, given: parsing.Given, context: Context) -> int:
    try:
        return _function(command)(given, context)
    except ModuleNotFoundError as error:
        if (error.name or PACKAGE).partition(".")[0] == PACKAGE:
            raise  # a mistake of ours
        raise Failed(f"this needs the Python package {error.name}, which {sys.executable} does not have") from None


def _function(command: Command) -> Run:
    if not command.run:  # `__main__` has not recognised the command in these words
        raise WrongUsage(f"{command.name} stands alone")
    module, _, name = command.run.partition(":")
    run: Run = getattr(__import__(module, fromlist=(name,)), name)  # importlib would be one more import
    return run


def _explain_usage(problem: str, command: Command | None) -> None:
    from pyssh_gateway.cli.reference import help_text  # late: only needed after a mistake

    printing.remark(problem)
    printing.aside(["", *help_text.usage(command)])


def _nothing_said() -> int:
    from pyssh_gateway.cli.reference import help_text

    printing.aside(help_text.topic(()))
    return WRONG_USAGE


def _version() -> int:
    from pyssh_gateway import __version__

    printing.lines([f"{PROGRAM} {__version__}"])
    return FINE


def _help(words: Sequence[str]) -> int:
    from pyssh_gateway.cli.reference import help_text  # late: not needed by a command that runs

    printing.lines(help_text.topic(words))
    return FINE
