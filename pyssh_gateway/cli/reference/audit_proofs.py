"""The commands `audit ...` that prove what the log says: a part of the table of commands."""

from pyssh_gateway.cli.reference.model import Argument, Command, Example, Exit, Group, Option, Values
from pyssh_gateway.cli.reference.shared_options import CONFIG, DIRECTORY, JSON

_KEY = Option(
    "--key", "go by this public key, as `audit key` shows it (default: that beside the log)", value="KEY", repeated=True
)
_CHECKPOINTS = Option(
    "--checkpoints",
    "also by the checkpoints in this file; - for standard input",
    value="FILE",
    values=Values.FILES,
    repeated=True,
)

PROOFS: tuple[Command, ...] = (
    Command(
        "audit checkpoint",
        Group.AUDIT,
        "print the newest signed checkpoint of the log",
        run="pyssh_gateway.cli.audit.checkpoint:newest",
        options=(DIRECTORY, CONFIG, JSON),
        details="""
It is a signed note, as in https://c2sp.org/tlog-checkpoint. Keep it where this machine can't change it.
""",
        exits=(Exit(1, "there is none, or the log can't be read"),),
    ),
    Command(
        "audit key",
        Group.AUDIT,
        "print the public key that verifies checkpoints",
        run="pyssh_gateway.cli.audit.checkpoint:key",
        options=(DIRECTORY, CONFIG, JSON),
        details="If the key was replaced, there are several, and the newest one is the last.",
        exits=(Exit(1, "there is none, or the log can't be read"),),
    ),
    Command(
        "audit prove",
        Group.AUDIT,
        "prove that a line is in the log, or check such a proof",
        run="pyssh_gateway.cli.audit.prove:run",
        options=(
            Option("--line", "the line with this index, from 0, instead of an event", value="INDEX"),
            Option("--check", "check the proof in this file; - for standard input", value="FILE", values=Values.FILES),
            _CHECKPOINTS,
            _KEY,
            DIRECTORY,
            CONFIG,
            JSON,
        ),
        arguments=(Argument("SEQ", "the number of the event", needed=False),),
        details="""
The proof is a line of JSON: the log's line, its index, and the hashes that lead from it to a signed checkpoint. It can
be checked without the log, also by other programs (docs/audit.md has one).
""",
        examples=(
            Example("pyssh-gateway audit prove 42 >proof.json", "prove what event 42 says"),
            Example("pyssh-gateway audit prove --check proof.json --key KEY", "check that elsewhere"),
        ),
        exits=(Exit(1, "there is no such line, no checkpoint covers it yet, or the proof is wrong"),),
    ),
    Command(
        "audit verify",
        Group.AUDIT,
        "say whether the log is as it was signed, and where it is not",
        run="pyssh_gateway.cli.audit.verify:run",
        options=(_CHECKPOINTS, _KEY, DIRECTORY, CONFIG, JSON),
        details="""
Computes the log's tree again and compares it with every checkpoint: those beside the log, and those in files, which may
be signed notes, or what a log collector has kept of the server's standard output. With the key and checkpoints from
elsewhere it does not depend on anything that can be changed on this machine.

Lines after the last checkpoint are not covered yet; the server signs one within a minute. Old files may be missing.
""",
        examples=(
            Example("pyssh-gateway audit verify", "by what is beside the log"),
            Example("fly logs | pyssh-gateway audit verify --checkpoints - --key KEY", "by what Fly has kept"),
        ),
        exits=(Exit(0, "it is"), Exit(1, "it is not, nothing proves it, or it can't be read")),
    ),
)
