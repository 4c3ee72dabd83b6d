"""The commands `audit ...`, which read the log: a part of the table of commands."""

from pyssh_gateway.cli.reference.model import Command, Option, Values

DIRECTORY = Option(
    "--dir", "the log is in this directory (default: audit_dir)", value="DIRECTORY", values=Values.DIRECTORIES
)

AUDIT: tuple[Command, ...] = ()
