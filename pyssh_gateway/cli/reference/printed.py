"""`help`, `completion` and `manpage`: what the table of commands says, in the form that each reader wants."""

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference import help_text
from pyssh_gateway.cli.reference.parsing import Given


def help_(given: Given, _context: Context) -> int:
    """What a command does and takes; without one, the overview."""
    printing.lines(help_text.topic(given.command))
    return FINE
