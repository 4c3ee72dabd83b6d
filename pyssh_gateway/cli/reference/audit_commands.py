"""The commands `audit ...`, which read the log: a part of the table of commands."""

from pyssh_gateway.cli.reference.audit_proofs import PROOFS
from pyssh_gateway.cli.reference.audit_reading import READING
from pyssh_gateway.cli.reference.audit_recordings import RECORDINGS
from pyssh_gateway.cli.reference.audit_report import REPORT
from pyssh_gateway.cli.reference.model import Command

AUDIT: tuple[Command, ...] = tuple(sorted(REPORT + PROOFS + READING + RECORDINGS, key=lambda command: command.name))
