"""monitor.log.progress: after a kill at any moment, the next monitor knows what is in the log."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.events import Origin, Record, ServerStopped
from pyssh_gateway.monitor.log import progress as log_progress
from pyssh_gateway.monitor.log.progress import PROCESSES, PROGRESS_BYTES, LogProgress
from pyssh_gateway.monitor.log.writing import LogWriting


class _Killed(BaseException):
    """Stands for the monitor's death."""


@contextmanager
def memory() -> Iterator[int]:
    """A new memfd."""
    descriptor = os.memfd_create("registry")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_new_memory_has_nothing() -> None:
    """Protects the first start: no line is counted, and no report is in the log."""
    with memory() as descriptor:
        progress = LogProgress(descriptor)
        progress.settle(7)
        assert (progress.line, progress.logged_of(0), progress.logged_of(1)) == (0, 0, 0)


REPORTS = st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=1, max_size=30)


@given(REPORTS, st.integers(0, 3000))
def test_no_report_is_lost_or_doubled(reports: list[int | None], cut: int) -> None:
    """Protects the log: whichever byte is the last that a monitor writes, each report gets one line.

    The processes send their reports again, as the next monitor expects them. The monitor writes to the memory and to
    the log, and is killed after `cut` bytes in all: within a write, or between two.
    """
    left = cut
    lines: list[tuple[int, Origin | None]] = []
    counts = dict.fromkeys((1, 2, 3), 0)
    origins: list[Origin | None] = []
    for process in reports:
        if process is None:
            origins.append(None)
        else:
            counts[process] += 1
            origins.append(Origin(process, counts[process]))

    def put(descriptor: int, data: bytes, offset: int) -> None:
        nonlocal left
        os.pwrite(descriptor, data[:left], offset)
        left -= len(data)
        if left < 0:
            raise _Killed

    def log(record: Record) -> None:
        nonlocal left
        left -= 20
        if left < 0:
            raise _Killed
        lines.append((record.seq, record.origin))

    with memory() as descriptor, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_progress, "put", put)
        for _ in range(2):
            progress = LogProgress(descriptor)
            progress.settle(lines[-1][0] if lines else 0)
            writing = LogWriting(log, progress)
            writing.begin()
            seq = progress.line
            assert seq >= (lines[-1][0] if lines else 0)
            try:
                for origin in origins:
                    if origin is not None and origin.number > progress.logged_of(origin.process):
                        seq += 1
                        writing(Record(seq, 0.0, ServerStopped(reason="x", exit_code=0), origin))
            except _Killed:
                left = 1 << 30
    numbers = [number for number, _ in lines]
    assert numbers == sorted(set(numbers))
    assert [origin for _, origin in lines] == [origin for origin in origins if origin is not None]


def test_a_line_that_was_announced_and_not_written() -> None:
    """Protects a report from a kill just before its line is written, or just after: the file decides."""
    with memory() as descriptor:
        before = LogProgress(descriptor)
        before.announce(6, None)
        before.announce(7, Origin(3, 40))
        unwritten = LogProgress(descriptor)
        unwritten.settle(6)
        assert (unwritten.line, unwritten.logged_of(3)) == (7, 0)
        written = LogProgress(descriptor)
        written.settle(7)
        assert written.logged_of(3) == 40
        assert LogProgress(descriptor).logged_of(3) == 40


def test_places_are_used_again() -> None:
    """Protects the memory from the processes of a long life: each place serves one after the other."""
    with memory() as descriptor:
        progress = LogProgress(descriptor)
        for process in range(1, 3 * PROCESSES):
            progress.logged(Origin(process, process))
            progress.logged(Origin(process, process + 1))
            progress.forget(process)
        progress.forget(1)
        for process in (5000, 5001):
            progress.logged(Origin(process, 1))
        following = LogProgress(descriptor)
        assert following.logged_of(5000) == following.logged_of(5001) == 1
        following.keep({5001})
        following.logged(Origin(5002, 9))
        assert [LogProgress(descriptor).logged_of(process) for process in (5000, 5001, 5002)] == [0, 1, 9]


def test_one_process_too_many() -> None:
    """Protects the others: reports of a process for which there is no place are only not remembered."""
    with memory() as descriptor:
        progress = LogProgress(descriptor)
        for process in range(1, PROCESSES + 2):
            progress.logged(Origin(process, 1))
        following = LogProgress(descriptor)
        assert [following.logged_of(process) for process in (1, PROCESSES, PROCESSES + 1)] == [1, 1, 0]


@given(st.binary(max_size=4000))
def test_rubbish_is_nothing(rubbish: bytes) -> None:
    """Protects a monitor's start from a memory with arbitrary contents."""
    with memory() as descriptor:
        os.pwrite(descriptor, rubbish, 0)
        progress = LogProgress(descriptor)
        progress.settle(1)
        for process in (1, 2):
            progress.logged(Origin(process, 5))
        assert LogProgress(descriptor).logged_of(2) == 5


def test_it_stays_within_its_part() -> None:
    """Protects the registry behind it."""
    with memory() as descriptor:
        progress = LogProgress(descriptor)
        for process in range(1, PROCESSES + 1):
            progress.logged(Origin(process, 1))
            progress.logged(Origin(process, 2))
        assert os.fstat(descriptor).st_size <= PROGRESS_BYTES
