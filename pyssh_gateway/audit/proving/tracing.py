"""Computes the tree again from the log's files, and notes where it agrees with checkpoints and with headers.

A header says what the tree was before its file. If the lines before it don't agree, either they were changed or the
header was: so the tree is continued from both, each a `Branch`, and the checkpoints behind tell which of them is right.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.segments import Segment, open_file
from pyssh_gateway.audit.zstd import ZstdError
from pyssh_gateway.core.transparency import signed_note
from pyssh_gateway.core.transparency.merkle import CompactRange

CHUNK_BYTES = 1024 * 1024

MAX_LINE_BYTES = 64 * 1024 * 1024
"""More than any line that the server writes, by far: a file without newlines must not fill the memory."""

MAX_BRANCHES = 4
"""Every branch takes as long as the whole verification, and a log whose headers are all wrong has one for each."""

NO_HEADER, GOOD, BAD = "no header", "good", "bad"


class Branch:
    """The tree as it continues from one header, or from the beginning of the log.

    `begin` is the index of its first line. `matched` is the largest size at which a checkpoint has its root, None if
    there is none; `wrong` are the sizes at which one has another root. `starts` are its sizes at the beginning of each
    file from `born` on.
    """

    def __init__(self, tree: CompactRange, born: int, roots: Mapping[int, frozenset[bytes]]) -> None:
        self._tree = tree
        self._roots = roots
        self._sizes: Sequence[int] = sorted(roots)
        self._next = bisect_left(self._sizes, tree.size)
        self.begin = tree.size
        self.born = born
        self.matched: int | None = None
        self.wrong: list[int] = []
        self.starts: list[int] = []

    @property
    def size(self) -> int:
        """The index of the line after the last one."""
        return self._tree.size

    def agrees(self, tree: CompactRange) -> bool:
        """Whether it has the same leaves."""
        return self._tree.size == tree.size and self._tree.edges == tree.edges

    def start(self) -> None:
        """A file begins."""
        self.starts.append(self.size)
        self._compare()

    def start_of(self, file: int) -> int:
        """Its size at the beginning of the file with this number; its last one if it was given up before."""
        return self.starts[file - self.born] if file - self.born < len(self.starts) else self.size

    def end_of(self, file: int) -> int:
        """Its size at the end of that file."""
        return self.start_of(file + 1)

    def feed(self, lines: Sequence[bytes]) -> None:
        """Add lines of the file."""
        tree, at, append = self._tree, 0, self._tree.append
        while at < len(lines):
            stop = len(lines)
            if self._next < len(self._sizes):
                stop = min(stop, at + self._sizes[self._next] - tree.size)
            for data in lines[at:stop]:
                append(data)
            at = stop
            self._compare()

    def _compare(self) -> None:
        if self._next < len(self._sizes) and self._sizes[self._next] == self.size:
            # Checkpoints of one size that differ: the log has signed two histories, and `wrong` says so.
            roots = self._roots[self.size]
            if self._tree.root() in roots:
                self.matched = self.size
            if roots != {self._tree.root()}:
                self.wrong.append(self.size)
            self._next += 1


class TracedFile:
    """What was found in a file. `agreeing` are the branches that agree with its header.

    `lines` is how many it has, without its header; `torn` whether its end is cut off within a line; `damage` why it
    could not be read to its end, empty if it could.
    """

    def __init__(self, segment: Segment, number: int) -> None:
        self.segment = segment
        self.number = number
        self.name = segment.path.name
        self.header = NO_HEADER
        self.claimed: int | None = None
        self.agreeing: list[Branch] = []
        self.lines = 0
        self.torn = False
        self.damage = ""


class Trace:
    """All files of a log, traced in their order. `roots` are those of the checkpoints, by their sizes."""

    def __init__(self, roots: Mapping[int, frozenset[bytes]]) -> None:
        self._roots = roots
        self._alive: list[Branch] = []
        self.branches: list[Branch] = []
        self.files: list[TracedFile] = []

    def add(self, segment: Segment) -> None:
        """Trace the next file. Raises NoLog if it can't be opened."""
        file = TracedFile(segment, len(self.files))
        with open_file(segment.path) as opened:
            reader = LineReader(opened)
            chunks = iter(reader)
            begin = next(chunks, [])
            if begin and begin[0].startswith(headers.BEGINNING):
                self._read_header(file, headers.decode(begin.pop(0)))
            elif not self.files and segment.first == 0:
                self._branch_off(CompactRange(), file)
            for branch in self._alive:
                branch.start()
            self.files.append(file)
            for lines in _with(begin, chunks):
                file.lines += len(lines)
                for branch in self._alive:
                    branch.feed(lines)
        file.torn = reader.torn
        file.damage = reader.damage

    def _read_header(self, file: TracedFile, header: Header | None) -> None:
        file.header = BAD
        if header is None:
            return
        if header.first == 0 and not self.files:  # the first file of a log has none
            self._branch_off(CompactRange(), file)
            return
        try:
            tree = CompactRange(header.first, (signed_note.decode(one, "a hash") for one in header.tree))
        except ValueError:
            return
        file.header = GOOD
        file.claimed = header.first
        file.agreeing = [branch for branch in self._alive if branch.agrees(tree)]
        if not file.agreeing:
            file.agreeing = [self._branch_off(tree, file)]

    def _branch_off(self, tree: CompactRange, file: TracedFile) -> Branch:
        branch = Branch(tree, file.number, self._roots)
        self.branches.append(branch)
        self._alive = [*self._alive[1 - MAX_BRANCHES :], branch]
        return branch


class LineReader:
    """The lines of an open file without their newlines, in lists; afterwards `torn` and `damage` are set."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.torn = False
        self.damage = ""

    def __iter__(self) -> Iterator[list[bytes]]:
        parts: list[bytes] = []
        held = 0
        try:
            while chunk := self._file.read(CHUNK_BYTES):
                head, *more = chunk.split(b"\n")
                parts.append(head)
                held += len(head)
                if held > MAX_LINE_BYTES:
                    self.damage = f"it has a line of more than {MAX_LINE_BYTES} bytes"
                    return
                if more:
                    lines = [b"".join(parts), *more[:-1]]
                    parts, held = [more[-1]], len(more[-1])
                    yield lines
        except (ZstdError, EOFError):
            self.damage = "it can't be decompressed to its end"
        except OSError as error:
            self.damage = f"it can't be read to its end: {error.strerror or error}"
        self.torn = held > 0


def _with(first: list[bytes], others: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    if first:
        yield first
    yield from others
