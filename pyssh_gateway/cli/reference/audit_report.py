"""The commands `audit ...` that make reports: a part of the table of commands."""

from pyssh_gateway.cli.reference.model import Command, Example, Exit, Group, Option, Values
from pyssh_gateway.cli.reference.shared_options import CONFIG, DIRECTORY

REPORT: tuple[Command, ...] = (
    Command(
        "audit report",
        Group.AUDIT,
        "write a page for a browser: who was on, why, at what cost",
        run="pyssh_gateway.cli.audit.report:report",
        options=(
            Option("--since", "from then on, as for audit sessions (default: 30d)", value="TIME", default="30d"),
            Option("--until", "up to then (default: now)", value="TIME"),
            Option(
                "--output",
                "write it to this file; - for standard output (default: report.html)",
                value="FILE",
                values=Values.FILES,
                default="report.html",
                short="-o",
            ),
            Option("--price", "what an hour awake costs, in any currency", value="PRICE"),
            Option(
                "--person",
                "only what this person, account or key did, such as github:example; may be repeated",
                value="PERSON",
                repeated=True,
            ),
            Option(
                "--recordings",
                "put recordings of at most this size into it, the newest first; 0 for none (default: 20MiB)",
                value="SIZE",
                default="20MiB",
            ),
            Option("--title", "the heading (default: Audit report)", value="TEXT", default="Audit report"),
            DIRECTORY,
            CONFIG,
        ),
        details="""
The page is one file that loads nothing: it can be sent to a colleague, searched, printed and read without a network.
Recordings are played in it. It shows what the log and the recordings show, so treat it like them; only its owner may
read the file. An earlier report is replaced once the new one is complete; another file is not. No server is asked.
""",
        examples=(
            Example(
                "sudo pyssh-gateway audit report -o november.html --price 0.50", "the last 30 days, with their cost"
            ),
            Example("sudo pyssh-gateway audit report --since 2026-11-01 --until 2026-11-30", "a month"),
            Example("sudo pyssh-gateway audit report --since 7d --person github:example", "one person's week"),
        ),
        exits=(Exit(1, "the log can't be read, or has nothing of that time; or the page can't be written"),),
    ),
)
