"""Says how far the log is proved by its checkpoints, and where and how it differs from what was signed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pyssh_gateway.audit.proving.checkpoints import Judged, Signed
from pyssh_gateway.audit.proving.findings import UNPROVED, Finding
from pyssh_gateway.audit.proving.looking import SeenLine, look_at, oddities
from pyssh_gateway.audit.proving.tracing import BAD, GOOD, NO_HEADER, Branch, Trace, TracedFile
from pyssh_gateway.audit.segments import NoLog, Segment, segments

MAX_TRIES = 3
"""So often the log is read again if its files were changed meanwhile, which a server does once in a while."""


class Verdict(msgspec.Struct, frozen=True):
    """The result. Lines are counted from 0 in the whole log.

    The lines from `first` on and before `end` are there; those before `proved` are as they were signed, except for what
    is in `findings`. `last` is the last one of these, and `checkpoint` proves it; None if there is none. `checked` is
    the number of checkpoints that were compared, `older` that of those about lines that are gone; `others` are of other
    logs. Of the files `torn` the last line is not complete, so it counts for nothing. `files` are read.
    """

    first: int
    end: int
    proved: int
    last: SeenLine | None
    checkpoint: Signed | None
    checked: int
    older: int
    others: int
    torn: tuple[str, ...]
    files: int
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def unproved(self) -> bool:
        """Whether all that is wrong is that nothing proves it."""
        return bool(self.findings) and all(finding.kind in UNPROVED for finding in self.findings)

    @property
    def uncovered(self) -> int:
        """How many lines no checkpoint covers yet."""
        return self.end - self.proved


def verify(audit_dir: Path, judged: Judged) -> Verdict:
    """Compare the log with these checkpoints. Raises NoLog.

    The checkpoints have to be read before: so the log has at least the lines that they are about.
    """
    for attempt in range(MAX_TRIES):
        listed = segments(audit_dir)
        try:
            verdict = _verify(listed, judged)
        except NoLog:
            if attempt == MAX_TRIES - 1 or segments(audit_dir) == listed:
                raise
            continue
        if verdict.intact or segments(audit_dir) == listed:
            break
    return verdict


def _verify(listed: Sequence[Segment], judged: Judged) -> Verdict:
    roots: dict[int, frozenset[bytes]] = {}
    for one in judged.good:
        roots[one.size] = roots.get(one.size, frozenset()) | {one.root}
    trace = Trace(roots)
    for segment in listed:
        trace.add(segment)
    return _Judgement(trace, judged).verdict()


class _Judgement:
    """Follows the branches that checkpoints prove through the files."""

    def __init__(self, trace: Trace, judged: Judged) -> None:
        self._trace = trace
        self._judged = judged
        self._sizes = sorted({one.size for one in judged.good})
        self._findings = list(judged.findings)
        self._accepted: list[Branch] = []

    def verdict(self) -> Verdict:
        current = self._follow()
        self._findings += _file_findings(self._trace.files)
        first, end, proved = 0, 0, 0
        last = checkpoint = None
        if current is None:
            self._findings.append(Finding("header", "no file says where in the log it begins"))
        else:
            first, end = self._accepted[0].begin, current.size
            self._judge_end(current)
            self._contradictions()
            self._judge_beginning(first, end)
            proved = max((branch.matched for branch in self._accepted if branch.matched is not None), default=first)
            if proved > first:
                checkpoint = next(one for one in self._judged.good if one.size == proved)
                last = self._line(proved)
        if end > first and proved == first and not self._findings:
            self._findings.append(Finding("no_checkpoint", "nothing is signed yet: no checkpoint has a line"))
        return Verdict(
            first=first,
            end=end,
            proved=proved,
            last=last,
            checkpoint=checkpoint,
            checked=sum(one.size >= first for one in self._judged.good),
            older=sum(one.size < first for one in self._judged.good),
            others=self._judged.others,
            torn=tuple(file.name for file in self._trace.files if file.torn),
            files=len(self._trace.files),
            findings=tuple(self._findings),
        )

    # -- from file to file --------------------------------------------------------------------------------------

    def _follow(self) -> Branch | None:
        """Go through the files, and decide at each header that disagrees; returns the branch at the end."""
        current: Branch | None = None
        for file in self._trace.files:
            if current is None:
                current = self._begin(file)
            elif file.header == GOOD and current not in file.agreeing:
                if (current.matched or -1) > current.start_of(file.number):
                    text = f"the header of {file.name} was changed; the lines are proved without it"
                    self._findings.append(Finding("header", text, (file.name,)))
                else:
                    self._disagreement(current, file)
                    current = file.agreeing[0]
                    self._accepted.append(current)
        return current

    def _begin(self, file: TracedFile) -> Branch | None:
        found = next((branch for branch in self._trace.branches if branch.born == file.number), None)
        if found is not None:
            self._accepted.append(found)
        return found

    def _disagreement(self, before: Branch, file: TracedFile) -> None:
        """The lines before this file are others, more or fewer than when the file was begun."""
        first, claimed = self._proved_by(before), file.claimed or 0
        here = before.start_of(file.number)
        previous = self._trace.files[file.number - 1]
        wrong = next((size for size in before.wrong if first < size <= here), None)
        end = claimed
        if here == claimed and wrong is not None:
            kind, what, end = "changed", self._changed(before, first, wrong), wrong
        elif here == claimed:
            kind = "changed"
            what = f"the lines {_span(first, claimed)} are not those that the header of {file.name} counts"
        else:
            kind, count = ("missing", _lines(claimed - here)) if here < claimed else ("added", _lines(here - claimed))
            what = f"{count} {'missing' if here < claimed else 'too many'} before {file.name}"
            what += f", which begins at line {claimed}, while {previous.name} ends before line {here}"
            if first < here:
                what += f"; the lines {_span(first, here)}, or some of them, are not those that were signed"
            if wrong is not None:
                what += f", and the first of these is before line {wrong}"
        self._add(kind, what, before, first, max(here, first), until=file.number, end=end)

    def _changed(self, branch: Branch, proved: int, wrong: int) -> str:
        before = f"line {proved}" if branch.matched is None else f"the checkpoint of {proved} lines"
        return (
            f"the lines {_span(proved, wrong)} are not those that were signed: a line was changed, added, removed or "
            f"moved between {before} and {self._named(wrong)}"
        )

    # -- the beginning ------------------------------------------------------------------------------------------

    def _judge_beginning(self, first: int, end: int) -> None:
        """Whether anything is left that was signed.

        The first header is not signed: anybody can write one that says that the whole log is gone because it is old.
        So one of the checkpoints that were kept elsewhere, if there are any, has to cover a line that is there.
        """
        given = [one for one in self._judged.good if not one.place.local]
        newest = max(given, key=lambda one: one.size, default=None)
        if newest is not None and newest.size <= first and first > 0:
            text = f"the log begins at line {first}, and nothing is left of what {_name(newest)} covers, the newest of "
            text += "those that were given: none of them proves a line that is there"
            self._findings.append(Finding("gone", text, (), 0, first))
        elif first == end > 0 and not self._findings:
            text = f"no line is left: the log begins at line {first}, and has none"
            self._findings.append(Finding("gone", text, (), 0, first))

    # -- the end ------------------------------------------------------------------------------------------------

    def _judge_end(self, current: Branch) -> None:
        """What is wrong behind the last line that is proved."""
        proved = self._proved_by(current)
        end = current.size
        files = len(self._trace.files)
        wrong = [size for size in current.wrong if size > proved]
        beyond = [size for size in self._sizes if size > end]
        if wrong:
            text = self._changed(current, proved, wrong[0])
            self._add("changed", text, current, proved, wrong[0], until=files, end=wrong[0])
        if beyond and not wrong:
            text = f"{_lines(beyond[-1] - end)} missing: the log has {end}, and there is {self._named(beyond[-1])}"
            text += "; they were cut off at the end"
            if proved < end:
                text += f", or are missing among the lines {_span(proved, end)}, which can't be proved without them"
            self._add("cut", text, current, proved, end, until=files, end=beyond[-1])

    def _contradictions(self) -> None:
        """Checkpoints with another root than the lines had, though later ones prove these lines."""
        for branch in self._accepted:
            proved = self._proved_by(branch)
            for size in (size for size in branch.wrong if size <= proved):
                text = f"{self._named(size)} has other lines: the log was rewritten since, and signed again"
                self._findings.append(Finding("rewritten", text, (), branch.begin, size))

    # -- helpers ------------------------------------------------------------------------------------------------

    def _proved_by(self, branch: Branch) -> int:
        return branch.begin if branch.matched is None else branch.matched

    def _named(self, size: int) -> str:
        return _name(next(one for one in self._judged.good if one.size == size))

    def _add(self, kind: str, text: str, branch: Branch, first: int, stop: int, *, until: int, end: int) -> None:
        """A finding about the lines from `first` to `end`; those before `stop` are there, in files before `until`."""
        places = list(self._places(branch, first, stop, until))
        hints = tuple(oddities(places))
        names = tuple(file.name for file, _, _, _ in places)
        self._findings.append(Finding(kind, text, names, first, end, hints))

    def _places(self, branch: Branch, first: int, stop: int, until: int) -> Iterator[tuple[TracedFile, int, int, int]]:
        """The files with these lines: file, which of its lines, from and to, and the index of the first of them."""
        for file in self._trace.files[branch.born : until]:
            begin, end = branch.start_of(file.number), branch.end_of(file.number)
            low, high = max(first, begin), min(stop, end)
            if low < high:
                yield file, low - begin, high - begin, low

    def _line(self, proved: int) -> SeenLine | None:
        """The last line that is proved."""
        branch = next(branch for branch in reversed(self._accepted) if branch.matched == proved)
        for file, low, _, _ in self._places(branch, proved - 1, proved, len(self._trace.files)):
            return look_at(file, low, proved - 1)
        return None


def _file_findings(files: Sequence[TracedFile]) -> Iterator[Finding]:
    """What is wrong with the files themselves."""
    for file in files:
        if file.damage:
            yield Finding("damaged", f"{file.name}: {file.damage}", (file.name,))
        if file.header == BAD:
            yield Finding("header", f"the header of {file.name} was changed", (file.name,))
        if file.header == NO_HEADER and (file.number or file.segment.first):
            yield Finding("header", f"the header of {file.name} is missing", (file.name,))
        if not file.segment.is_current and file.claimed is not None and file.claimed != file.segment.first:
            text = f"{file.name} was renamed: its header says that it begins at line {file.claimed}"
            yield Finding("name", text, (file.name,))


def _name(one: Signed) -> str:
    return f"the checkpoint of {one.size} lines ({one.place})"


def _span(first: int, end: int) -> str:
    return f"{first} to {end - 1}"


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count} lines are"
