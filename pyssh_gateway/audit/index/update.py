"""Reads the lines of the log that the index does not have yet.

The index knows how many lines it has, and the hash of the last one: so it goes on when that file has been sealed or
renamed since, and notices that the log is another one. The place of that line in the file only saves time.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pyssh_gateway.audit.index.entries import decode
from pyssh_gateway.audit.index.ledger import Batch, Ledger
from pyssh_gateway.audit.index.store import Progress, Store
from pyssh_gateway.audit.reading.damage import readable_lines
from pyssh_gateway.audit.segments import LONGEST_LINE, Line, NoLog, Segment, lines, open_regular, segments

BATCH = 50_000
"""Lines between two writes: what is kept in memory meanwhile has about 50 MB."""

TRIES = 5
"""A file may be sealed, or deleted by its age, between being listed and being opened."""

_TICK = b'"event":"idle.tick"'
_NEAR = 128
"""The name of an event stands within so many bytes from the beginning of its line."""


class Stale(Exception):
    """The index is not of this log, or its last line has changed: it has to be made anew."""


class _Source(NamedTuple):
    """New lines of a file. `offset` is where the first of them begins, if the file is not compressed."""

    segment: Segment
    lines: Iterator[Line]
    offset: int


def update(database: sqlite3.Connection, audit_dir: Path) -> None:
    """Read what is new, and forget what was only in files that are gone. Raises Stale, NoLog, sqlite3.Error.

    The caller has begun a transaction.
    """
    store = Store(database)
    for tried in range(TRIES):
        try:
            _update(store, segments(audit_dir))
        except NoLog as error:
            if tried + 1 == TRIES or not isinstance(error.__cause__ or error.__context__, FileNotFoundError):
                raise
        else:
            return


def _update(store: Store, listed: Sequence[Segment]) -> None:
    progress = store.progress()
    if progress.next and listed[0].first > progress.first:
        store.forget(listed[0].first)
    is_shorter = progress.first != listed[0].first
    progress.first = listed[0].first
    ledger: Ledger | None = None

    def damaged(_: Segment) -> None:
        progress.broken += 1

    for source in _sources(listed, progress, damaged):
        offset = source.offset
        progress.file = source.segment.first
        last: Line | None = None
        for line in source.lines:
            last = line
            ledger = ledger or store.ledger()  # late: mostly there is nothing new
            data = line.data
            offset += len(data) + 1  # wrong behind a line that was too long; `_is_there` finds that out
            if _TICK not in data[:_NEAR]:
                try:
                    ledger.add(line.index, decode(data))
                except ValueError:  # msgspec's errors, and text that is not UTF-8
                    progress.damaged += 1
            if line.index % BATCH == 0:
                _advance(progress, line, 0 if source.segment.is_compressed else offset, ledger)
                store.write(ledger.take_batch(), progress)
        if ledger is not None and last is not None:
            _advance(progress, last, 0 if source.segment.is_compressed else offset, ledger)
    if ledger is not None or is_shorter:
        store.write(Batch() if ledger is None else ledger.take_batch(), progress)


def _advance(progress: Progress, line: Line, offset: int, ledger: Ledger) -> None:
    """`line` is the last one that the ledger has."""
    progress.next, progress.offset, progress.size = line.index + 1, offset, len(line.data) + 1
    progress.last, progress.time = _hash(line.data), ledger.time


def _sources(listed: Sequence[Segment], progress: Progress, damaged: Callable[[Segment], None]) -> Iterator[_Source]:
    """The lines from `progress.next` on, by files. Raises Stale."""
    known = progress.next - 1  # the index of the last known line, which is read again to see that it is the same
    for segment, following in zip(listed, [*listed[1:], None], strict=True):
        if following is not None and following.first <= known:
            continue
        if segment.first > known:
            yield _Source(segment, readable_lines(segment, damaged), _header_size(segment))
        elif _is_there(segment, progress):
            yield _Source(segment, _lines_behind(segment.path, progress.offset, known + 1), progress.offset)
        else:
            new = readable_lines(segment, damaged)
            skipped = _header_size(segment)
            for line in new:
                skipped += len(line.data) + 1
                if line.index == known:
                    if _hash(line.data) != progress.last:
                        raise Stale
                    break
            else:
                raise Stale
            yield _Source(segment, new, skipped)


def _header_size(segment: Segment) -> int:
    """The bytes of a file before its first line, if it is not compressed."""
    if segment.is_compressed:
        return 0
    first = next(lines(segment, header=True), None)
    return len(first.data) + 1 if first is not None and first.index < 0 else 0


def _is_there(segment: Segment, progress: Progress) -> bool:
    """Whether the known last line is still where it was in the file."""
    start = progress.offset - progress.size
    if segment.is_compressed or segment.first != progress.file or start < 0 or not progress.offset:
        return False
    descriptor = open_regular(segment.path)
    try:
        data = os.pread(descriptor, progress.size, start)
    finally:
        os.close(descriptor)
    return data.endswith(b"\n") and _hash(data.removesuffix(b"\n")) == progress.last


def _lines_behind(path: Path, offset: int, index: int) -> Iterator[Line]:
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(offset)
        while line := file.readline(LONGEST_LINE):
            whole = line
            while whole and not whole.endswith(b"\n"):
                whole = file.readline(LONGEST_LINE)
            if not whole:
                return
            yield Line(index, line.removesuffix(b"\n"))
            index += 1


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
