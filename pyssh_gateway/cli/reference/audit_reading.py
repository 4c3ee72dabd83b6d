"""The commands `audit ...` that answer questions about the log: a part of the table of commands."""

from pyssh_gateway.cli.reference.model import Argument, Command, Example, Exit, Group, Option, Values
from pyssh_gateway.cli.reference.shared_options import CONFIG, DIRECTORY, JSON

SINCE = Option("--since", "from then on: 7d, 12h, 14:00, yesterday, 2026-01-31, '2026-01-31 14:00'", value="TIME")
UNTIL = Option("--until", "up to then", value="TIME")
PERSON = Option("--person", "of this person, such as github:example, or with this key's fingerprint", value="PERSON")
USER = Option("--user", "in this account", value="NAME", values=Values.ACCOUNTS)
FROM = Option("--from", "from this address or network, such as 203.0.113.0/24", value="NETWORK", into="network")
NEWEST = Option("--lines", "only the last N", value="N", short="-n")

_NO_LOG = Exit(1, "the log can't be read")

_INDEX = """
It asks an index of the log, which it brings up to date first: index.sqlite beside the log if this account may write
there, else a file in its cache directory. The index may be deleted at any time.
"""

READING: tuple[Command, ...] = (
    Command(
        "audit export",
        Group.AUDIT,
        "print the log's events in another format",
        run="pyssh_gateway.cli.audit.export:export",
        options=(
            Option(
                "--format",
                "how: as they are, a table, or in the words of these schemas (default: jsonl)",
                value="FORMAT",
                choices=("jsonl", "csv", "ecs", "ocsf"),
                default="jsonl",
            ),
            SINCE,
            UNTIL,
            PERSON,
            USER,
            FROM,
            Option("--event", "only these, or all of a kind: session.opened, session", value="EVENT", repeated=True),
            DIRECTORY,
            CONFIG,
        ),
        details="""
One event a line, on standard output. In csv, a text that a spreadsheet would take for a formula, since it begins with
=, +, - or @, has a ' in front of it; the other formats have everything as it is. ocsf has only the events for which
there is a class.
""",
        examples=(Example("pyssh-gateway audit export --format csv --since 30d >log.csv", "for a spreadsheet"),),
        exits=(_NO_LOG,),
    ),
    Command(
        "audit search",
        Group.AUDIT,
        "find a text in what was done, and in recordings",
        run="pyssh_gateway.cli.audit.search:search",
        options=(
            Option(
                "--what", "only where it is that, as WHAT says: command, 'file read', forward, screen", value="WHAT"
            ),
            SINCE,
            UNTIL,
            PERSON,
            USER,
            FROM,
            NEWEST,
            DIRECTORY,
            CONFIG,
            JSON,
        ),
        arguments=(Argument("TEXT", "any part of it; upper and lower case are the same"),),
        details=f"""
Looks in commands, paths of files, targets of forwards, accounts, people, keys, addresses, requests and holds, and in
what recordings showed on the screen: there with the command that replays it.

{_INDEX}
""",
        examples=(
            Example("pyssh-gateway audit search 'rm -rf' --since 7d", "who has run that this week?"),
            Example("pyssh-gateway audit search / --what 'file read'", "which files were copied away, and by whom?"),
            Example("pyssh-gateway audit search -- --force", "a text that looks like an option"),
        ),
        exits=(Exit(0, "it was found"), Exit(1, "it was not found, or the log can't be read")),
    ),
    Command(
        "audit sessions",
        Group.AUDIT,
        "list who was on, from where, what ran and how it ended",
        run="pyssh_gateway.cli.audit.sessions:sessions",
        options=(
            SINCE,
            UNTIL,
            Option("--at", "at that moment, or on that day", value="TIME"),
            PERSON,
            USER,
            FROM,
            Option("--command", "with this text in the command", value="TEXT"),
            Option("--denied", "instead: connections on which nobody got in, and why"),
            Option("--lost", "only those whose connection the client has not ended on purpose, and how it ended"),
            NEWEST,
            DIRECTORY,
            CONFIG,
            JSON,
        ),
        details=f"""
A line a session, and one for each connection without any, in the order in which they began; those that lasted at some
time between --since and --until. EXIT is the exit status or the signal; on: it has not ended; left: its process was
left running; lost: the server ended without a word.

{_INDEX}
""",
        examples=(
            Example("pyssh-gateway audit sessions --since 7d --person github:example", "a person's week"),
            Example("pyssh-gateway audit sessions --at 14:00", "who was on at two?"),
        ),
        exits=(_NO_LOG,),
    ),
    Command(
        "audit show",
        Group.AUDIT,
        "tell what happened in a session, or on a connection",
        run="pyssh_gateway.cli.audit.show:show",
        options=(
            Option("--all", "every operation on files and every forward, instead of their sums", into="every"),
            DIRECTORY,
            CONFIG,
            JSON,
        ),
        arguments=(Argument("NAME", "as audit sessions shows it: c12.1 is a session, c12 its connection"),),
        details=_INDEX,
        exits=(Exit(1, "the log has no such session or connection, or can't be read"),),
    ),
    Command(
        "audit tail",
        Group.AUDIT,
        "print the last lines of the log, and those that follow",
        run="pyssh_gateway.cli.audit.tail:tail",
        options=(
            Option("--follow", "print new lines as they are written, until Ctrl-C", short="-f"),
            Option("--lines", "the last N (default: 20; with --since or --until all)", value="N", short="-n"),
            SINCE,
            UNTIL,
            Option("--event", "only these, or all of a kind: session.opened, session", value="EVENT", repeated=True),
            PERSON,
            USER,
            FROM,
            Option("--conn", "only of this connection or session", value="NAME"),
            Option("--denied", "only logins, requests and connections that were refused"),
            DIRECTORY,
            CONFIG,
            Option("--json", "for programs: the lines as they are in the log"),
        ),
        details="""
The lines for people are those that the server prints on a terminal; their times are in UTC, as in the log. idle.tick,
which only says that nothing has happened, is left out unless --event asks for it.
""",
        examples=(
            Example("pyssh-gateway audit tail -f --event session --event forward", "watch what is done"),
            Example("pyssh-gateway audit tail --denied --since yesterday", "what was refused?"),
        ),
        exits=(_NO_LOG,),
    ),
)
