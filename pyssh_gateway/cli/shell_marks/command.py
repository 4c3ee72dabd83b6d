"""Prints what makes a shell mark its prompts and commands, so that recordings know them."""

from importlib import import_module

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given


def shell_marks(given: Given, _context: Context) -> int:
    """Print the script of that shell."""
    printing.write(import_module(f"pyssh_gateway.cli.shell_marks.{given.shell}").SCRIPT)
    return FINE
