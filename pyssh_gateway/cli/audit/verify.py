"""`audit verify`: whether the log is as it was signed, how far, and where it is not."""

import msgspec

from pyssh_gateway.audit.proving.verification import Verdict, verify
from pyssh_gateway.cli.audit.evidence import checkpoints, keys
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, NO
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.output.text import number
from pyssh_gateway.cli.reference.parsing import Given


class Point(msgspec.Struct, frozen=True):
    """The last line that is proved, the size of the checkpoint that proves it, and the place where that was found."""

    line: int
    seq: int | None
    ts: str | None
    file: str
    checkpoint: int
    found_in: str


class Broken(msgspec.Struct, frozen=True):
    """Something that is wrong: `kind` is a stable word, `first` and `end` are the lines from and before (or null)."""

    kind: str
    text: str
    files: tuple[str, ...]
    first: int | None
    end: int | None
    hints: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """The answer. The lines from `first` on and before `end` are there, counted from 0; `uncovered` are not signed."""

    intact: bool
    first: int
    end: int
    proved: Point | None
    uncovered: int
    checkpoints: int
    older_checkpoints: int
    other_checkpoints: int
    torn: tuple[str, ...]
    files: int
    broken: tuple[Broken, ...]


def run(given: Given, context: Context) -> int:
    """Compare the log with its checkpoints. No server is asked."""
    directory = audit_dir(given, context)
    with readable():
        judged = checkpoints(directory, given.checkpoints, keys(given.key, directory), sole=bool(given.key))
        verdict = verify(directory, judged)
    if given.json:
        printing.json(_answer(verdict))
    else:
        printing.lines(_lines(verdict))
    return FINE if verdict.intact else NO


def _answer(verdict: Verdict) -> Answer:
    point = None
    if verdict.last is not None and verdict.checkpoint is not None:
        last, proof = verdict.last, verdict.checkpoint
        point = Point(last.index, last.seq, last.ts, last.file, proof.size, str(proof.place))
    return Answer(
        intact=verdict.intact,
        first=verdict.first,
        end=verdict.end,
        proved=point,
        uncovered=verdict.uncovered,
        checkpoints=verdict.checked,
        older_checkpoints=verdict.older,
        other_checkpoints=verdict.others,
        torn=verdict.torn,
        files=verdict.files,
        broken=tuple(Broken(**msgspec.structs.asdict(one)) for one in verdict.findings),
    )


def _lines(verdict: Verdict) -> list[str]:
    lines = []
    for finding in verdict.findings:
        lines.append(f"! {finding.text}")
        if finding.files:
            lines.append(f"    in {', '.join(finding.files)}")
        lines += [f"    {hint}" for hint in finding.hints]
    last, checkpoint = verdict.last, verdict.checkpoint
    if last is not None and checkpoint is not None:
        event = "" if last.seq is None else f", seq {last.seq}, {last.ts}"
        word = "intact" if verdict.intact else "signed" if verdict.unproved else "otherwise proved"
        all_of_it = verdict.intact and not verdict.uncovered and not verdict.first
        lines.append(f"{word}: all {number(verdict.end, 'line')}" if all_of_it else f"{word} up to line {last.index}")
        lines[-1] += event.replace(", seq", ", to seq") if all_of_it else event
        lines.append(f"  by the checkpoint of {number(checkpoint.size, 'line')} ({checkpoint.place})")
        lines.append(f"  {number(verdict.checked, 'checkpoint')} and {number(verdict.files, 'file')} were compared")
    elif verdict.intact:
        lines.append("intact: the log is empty")
    if verdict.uncovered:
        are = "is" if verdict.uncovered == 1 else "are"
        after = "" if last is None else " after it"
        state = "not covered by a checkpoint yet" if verdict.intact or verdict.unproved else "not proved"
        lines.append(f"  {number(verdict.uncovered, 'line')}{after} {are} {state}")
    if verdict.first:
        gone = f"lines 0 to {verdict.first - 1} are gone with their files; the other files prove themselves"
        older = f" ({number(verdict.older, 'checkpoint')} about them not compared)" if verdict.older else ""
        lines.append(f"  {gone}{older}")
    if verdict.others:
        lines.append(f"  {number(verdict.others, 'checkpoint')} of other logs not compared")
    lines += [f"  the last line of {name} is not complete, and counts for nothing" for name in verdict.torn]
    if verdict.unproved:
        lines.append("NOT PROVED: the log may be as it was signed, or not")
    elif not verdict.intact:
        lines.append("BROKEN: the log is not as it was signed")
    return lines
