"""`help`, `completion` and `manpage`: print the table of commands in three forms."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference import help_text
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.parsing import Given, find


def help_(given: Given, _context: Context) -> int:
    """Print the help of a command; without one, the overview."""
    printing.lines(help_text.topic(given.command))
    return FINE


def completion(given: Given, _context: Context) -> int:
    """Print the script that makes a shell complete our commands."""
    module = import_module(f"pyssh_gateway.cli.reference.completion_{given.shell}")
    printing.write(module.script())
    return FINE


def manpage(given: Given, context: Context) -> int:
    """Print the man page of a command, or write all of them into a directory."""
    from pyssh_gateway.cli.reference import man_pages

    day = _day(context.environ)
    if given.directory is None:
        command, rest = find(given.command) if given.command else (None, ())
        if rest:
            raise WrongUsage(f"there is no command {' '.join(given.command)}")
        printing.write(man_pages.page(command, day))
        return FINE
    if given.command:
        raise WrongUsage("a command, or --directory for all of them")
    directory = Path(given.directory)
    pages = {man_pages.name_of(command): man_pages.page(command, day) for command in (None, *COMMANDS)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (directory / f"{name}.{man_pages.SECTION}").write_text(text)
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    printing.lines([f"{len(pages)} pages written to {directory}"])
    return FINE


def _day(environ: Mapping[str, str]) -> date:
    """Today, or the day of SOURCE_DATE_EPOCH, which makes builds of packages reproducible."""
    given = environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given), UTC).date() if given.isdecimal() else datetime.now(UTC).date()
