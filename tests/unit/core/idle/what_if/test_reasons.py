"""core.idle.what_if.reasons: for each moment awake exactly one reason, the strongest that holds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.replay.spans import merged, total
from pyssh_gateway.core.idle.what_if.history import Awake, Connection, History, Kept, Span
from pyssh_gateway.core.idle.what_if.reading import read
from pyssh_gateway.core.idle.what_if.reasons import awake_spans, on_and_used, stretches, wakes
from pyssh_gateway.events import ClientUsed, HoldStarted, ScheduleEntered, TerminalQuiet, TerminalUsed
from tests.support.written_log import MONDAY, WrittenLog

HOUR = 3600


def why(log: WrittenLog) -> list[tuple[float, float, str]]:
    """The stretches of the log's time awake, in seconds after midnight."""
    history = read(log.lines, since=0.0, now=MONDAY + 24 * HOUR)
    return [(one.begun - MONDAY, one.ended - MONDAY, one.why) for one in stretches(history)]


def test_a_day_with_every_reason() -> None:
    """People, their pauses, a hold, work, the schedule, a terminal of mosh, and nobody: each has its time."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.quiet(1400, "c1", 1200)
    log.write(1500, ClientUsed(conn="c1", user="dev"))
    log.go(2000, "c1", (0, 190), (1490, 1890))
    log.write(2000, HoldStarted(hold="h1", user="dev", seconds=500, reason="", pid=0))
    log.write(2400, ScheduleEntered(seconds=600, what="mon-fri 08:00-18:00"))
    log.write(3100, TerminalUsed(what="amos"))
    log.write(3200, TerminalQuiet(what="amos"))
    log.work(3500, 45)
    log.work(3600, 0)
    log.stop(3700)
    assert why(log) == [
        (0, 10, "nobody"),
        (10, 200, "used"),
        (200, 1400, "connected"),
        (1400, 1500, "nobody"),
        (1500, 1900, "used"),
        (1900, 2000, "connected"),
        (2000, 2500, "hold"),
        (2500, 3000, "schedule"),
        (3000, 3100, "nobody"),
        (3100, 3200, "used"),
        (3200, 3485, "nobody"),
        (3485, 3545, "work"),
        (3545, 3700, "nobody"),
    ]


def test_a_client_on_probation_is_nobody_until_it_is_used() -> None:
    """A client that came back by itself does not count; a terminal that is opened on it ends that."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos", probation=60.0)
    log.terminal(100, "c1")
    log.go(200, "c1")
    log.come(300, "c2", "amos", probation=60.0)
    log.go(400, "c2")
    log.stop(400)
    assert why(log) == [(0, 100, "nobody"), (100, 200, "used"), (200, 400, "nobody")]


def test_a_schedule_ends_with_the_machine_and_is_entered_again() -> None:
    """Its hours do not go on while the machine is down."""
    log = WrittenLog()
    log.start(0)
    log.write(10, ScheduleEntered(seconds=HOUR, what=""))
    log.write(20, ScheduleEntered(seconds=HOUR, what=""))
    log.stop(60, reason="signal")
    assert why(log) == [(0, 10, "nobody"), (10, 60, "schedule")]


def test_wakes_for_nobody_and_their_causes() -> None:
    """A scanner's wake is for nobody and names it; a person's is not; one without a connection names nobody."""
    log = WrittenLog()
    log.start(0)
    log.come(1, "c1", peer="192.0.2.77")
    log.stop(8)
    log.start(100)
    log.come(101, "c2", "amos")
    log.go(200, "c2")
    log.stop(300)
    log.start(400)
    log.come(480, "c3", peer="192.0.2.78")
    log.stop(500)
    log.start(600)
    log.write(700, TerminalQuiet(what=""))
    history = read(log.lines, since=0.0, now=MONDAY + 24 * HOUR)
    found = [
        (one.begun - MONDAY, one.ended - MONDAY, one.woken_by, one.is_for_nobody)
        for one in wakes(history, stretches(history))
    ]
    assert found == [
        (0, 8, "192.0.2.77", True),
        (100, 300, "203.0.113.9", False),
        (400, 500, "", True),
        (600, 700, "", False),  # it is still awake
    ]


def test_the_time_of_a_person_counts_once_and_only_while_awake() -> None:
    """Two clients at the same time are one person, and a suspended machine has nobody."""
    connections = [
        Connection(0, 100, "", 10, "dev", "amos", uses=((10, 50),)),
        Connection(0, 200, "", 20, "dev", "amos", uses=((40, 60), (150, 180))),
        Connection(0, 1000, ""),
        Connection(300, 310, "", 300, "dev", "amos"),
    ]
    assert on_and_used(connections, [(0, 170), (290, 400)]) == (160 + 10, 50 + 20 + 10)


TIMES = st.integers(0, 60).map(float)
SPANS = st.lists(st.tuples(TIMES, TIMES).map(lambda pair: (min(pair), max(pair))), max_size=6)


@pytest.mark.hypothesis
@given(SPANS, SPANS, SPANS, SPANS)
def test_every_moment_awake_has_one_reason(up: list[Span], on: list[Span], used: list[Span], held: list[Span]) -> None:
    """Whatever the history says, the stretches are in order, do not overlap, and cover the time awake exactly."""
    awake = tuple(Awake(begun, ended, "idle") for begun, ended in merged(up))
    connections = tuple(
        Connection(begun, ended, "", begun, "dev", "amos", uses=tuple(used), unused=tuple(merged(held)))
        for begun, ended in sorted(on)
    )
    kept = tuple(Kept("hold", begun, ended) for begun, ended in sorted(held))
    history = History(0, 60, awake, connections, kept)
    found = stretches(history)
    assert merged((one.begun, one.ended) for one in found) == awake_spans(history)
    assert sum(one.ended - one.begun for one in found) == total(up)
    assert all(before.ended <= after.begun for before, after in pairwise(found))
    at_work = merged(span for one in connections for span in used)
    assert not [one for one in found if one.why == "hold" and any(b < one.ended and one.begun < e for b, e in at_work)]
