"""Finds the log that a command is about, and turns a log that can't be read into an error for the person."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from pyssh_gateway.audit.segments import NoLog
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config.parser import parse


def audit_dir(given: Given, context: Context) -> Path:
    """The directory of the log: --dir's, else that of the configuration. Raises ConfigError.

    A configuration that was not named and can't be read counts as missing: the log's readers need not be root.
    """
    return Path(given.dir or parse(context.raw).audit_dir)


def same_log(given: Given) -> str:
    """The options, with a space before each, with which another command reads the same log; made for a shell."""
    named = ((name, getattr(given, name, None)) for name in ("config", "dir"))
    return "".join(f" --{name} {quote(value)}" for name, value in named if value)


@contextmanager
def readable() -> Iterator[None]:
    """Ends the command with the reason if the log can't be read."""
    try:
        yield
    except NoLog as error:
        raise Failed(str(error)) from None
