"""core.idle.variable: what PYSSH_HOLD may say, and which processes hold the machine by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.variable import (
    MAX_ENVIRONMENT,
    MAX_VALUE,
    WHILE_IT_RUNS,
    asked_for,
    seconds_of,
    wanted,
)

NOW = 1000.0
DEV = 1000


def process(pid: int, parent: int = 1, *, hold: float = 0.0, started: float = NOW - 10) -> Process:
    """A process that started ten seconds ago."""
    return Process(pid, parent, started, DEV, "make", 0.0, 0, "", hold)


def holders(*processes: Process) -> list[int]:
    """The processes that hold."""
    return [one.pid for one in wanted(Sample(NOW, processes))]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", WHILE_IT_RUNS),
        (b"2h", 7200),
        (b"1h30m", 5400),
        (b"90min", 5400),
        (b"365d", WHILE_IT_RUNS),
        (b"", 0),
        (b"0", 0),
        (b"2", 0),
        (b"01", 0),
        (b"yes", 0),
        (b"2 h", 0),
        (b"2h ", 0),
        (b"2H", 0),
        (b"-2h", 0),
        (b"0s", 0),
        (b"366d", 0),
        (b"\xd9\xa1", 0),  # a digit of another script
        (b"\x1b[2J", 0),
        (b"1" + b"h" * MAX_VALUE, 0),
    ],
)
def test_a_value_is_one_or_a_length(value: bytes, seconds: float) -> None:
    """Protects the bill from values that nobody meant: only `1` and a length with a unit hold."""
    assert seconds_of(value) == seconds


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9hms.]{1,40}", fullmatch=True))
def test_no_value_is_an_error(value: bytes) -> None:
    """Protects the sample from a value that an account has made on purpose: it has a bounded length, or none."""
    assert 0 <= seconds_of(value) <= WHILE_IT_RUNS


@given(st.binary(max_size=300))
def test_no_environment_is_an_error(environment: bytes) -> None:
    """Protects the sample from memory that is no environment: a program may have overwritten it with any bytes."""
    assert 0 <= asked_for(environment) <= WHILE_IT_RUNS


def test_the_variable_is_found_among_others() -> None:
    """The name has to be the whole name, and the first of two counts, as for the program itself."""
    assert asked_for(b"PATH=/bin\0PYSSH_HOLD=2h\0TERM=x\0") == 7200
    assert asked_for(b"PYSSH_HOLD=2h\0PYSSH_HOLD=1\0") == 7200
    assert asked_for(b"MY_PYSSH_HOLD=1\0PYSSH_HOLDER=1\0PYSSH_HOLD\0X=PYSSH_HOLD=1\0") == 0
    assert asked_for(b"") == 0


def test_what_is_read_of_an_environment_is_bounded() -> None:
    """A variable behind the limit is not seen, and one that the limit cuts off means nothing else than before."""
    assert asked_for(b"A=" + b"x" * MAX_ENVIRONMENT + b"\0PYSSH_HOLD=1\0") == 0


def test_the_topmost_process_holds() -> None:
    """One build is one hold: its compilers inherit the variable, also below a process that has dropped it."""
    tree = (process(5, hold=60), process(6, 5, hold=60), process(7, 5), process(8, 7, hold=60), process(9, hold=60))
    assert holders(*tree) == [5, 9]
    assert holders(*tree[1:]) == [6, 8, 9]


def test_a_hold_is_from_the_start_of_its_process() -> None:
    """Protects the bill: `2h` is two hours from the start, however often people come and go meanwhile."""
    (found,) = wanted(Sample(NOW, (process(5, hold=60),)))
    assert (found.pid, found.started, found.uid, found.name, found.seconds) == (5, NOW - 10, DEV, "make", 50)
    assert holders(process(5, hold=10)) == []


def test_a_process_whose_time_is_over_does_not_hold_by_its_children() -> None:
    """Protects the bill: a build's compilers, which are always young, don't make its two hours longer."""
    assert holders(process(5, hold=10), process(6, 5, hold=10, started=NOW - 1)) == []


def test_a_cycle_of_parents_ends() -> None:
    """A torn read of the process table, in which two processes are each other's parents, does not loop for ever."""
    assert holders(process(5, 6), process(6, 5), process(7, 6, hold=60)) == [7]
