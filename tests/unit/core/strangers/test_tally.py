"""Refusals in the log: the first few singly, the others summed up, and none lost."""

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.strangers.tally import FIRST, MAX_PERIOD_SECONDS, MAX_SOURCES, PERIOD_SECONDS, RefusalTally
from pyssh_gateway.events import ConnectionRefused


def refusal(peer: str = "192.0.2.1", port: int = 1, reason: str = "full") -> ConnectionRefused:
    """A refused connection."""
    return ConnectionRefused(peer=peer, peer_port=port, reason=reason)


def test_the_first_few_have_a_line_each() -> None:
    """A person who reads the log sees the first refusals singly and at once."""
    tally = RefusalTally()
    for number in range(FIRST):
        assert tally.refused(refusal(port=number), 0) == refusal(port=number)
    assert tally.refused(refusal(), 0) is None
    assert tally.refused(refusal("192.0.2.2"), 0) == refusal("192.0.2.2")


def test_the_others_have_one_together() -> None:
    """After ten seconds, one line has the number of further refusals, and the last one."""
    tally = RefusalTally()
    for number in range(FIRST + 1000):
        tally.refused(refusal(port=number, reason=f"reason {number}"), number / 1000)
    assert tally.next_due() == PERIOD_SECONDS
    assert tally.due(PERIOD_SECONDS - 1) == []
    (line,) = tally.due(PERIOD_SECONDS)
    last = FIRST + 999
    assert line == ConnectionRefused(
        peer="192.0.2.1", peer_port=last, reason=f"reason {last}", count=1000, seconds=PERIOD_SECONDS
    )


def test_a_source_that_goes_on_has_ever_fewer_lines() -> None:
    """A source that floods for an hour gets a line a minute, and no single lines again."""
    tally = RefusalTally()
    lines, single = [], 0
    for second in range(3600):
        single += tally.refused(refusal(), second) is not None
        lines += tally.due(second + 0.5)
    assert single == FIRST
    assert [round(line.seconds / 10) for line in lines[:5]] == [1, 2, 4, 6, 6]
    assert len(lines) < 3600 / MAX_PERIOD_SECONDS + 3
    assert FIRST + sum(line.count for line in [*lines, *tally.rest(3600)]) == 3600


def test_after_a_quiet_period_it_begins_anew() -> None:
    """After a quiet period a source's refusals are single again, and until then it takes up no memory."""
    tally = RefusalTally()
    for _ in range(FIRST + 1):
        tally.refused(refusal(), 0)
    assert len(tally.due(PERIOD_SECONDS)) == 1
    assert tally.due(3 * PERIOD_SECONDS) == []
    assert tally.next_due() is None
    assert tally.refused(refusal(), 100) is not None


def test_many_sources_have_a_line_together() -> None:
    """A thousand addresses make no more lines than a few."""
    tally = RefusalTally()
    single = 0
    for number in range(2000):
        single += tally.refused(refusal(f"192.0.{number // 200}.{number % 200}"), 0) is not None
    assert single == MAX_SOURCES + FIRST
    (line,) = tally.due(PERIOD_SECONDS)
    assert (line.peer, line.count) == ("192.0.9.199", 2000 - single)
    assert line.reason == "of many addresses, this the last: full"


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from([0.0, 0.1, 3.0, 11.0])), max_size=400))
def test_none_is_lost(refusals: list[tuple[int, float]]) -> None:
    """For any times and sources, the counts of all lines add up to the number of refusals."""
    tally = RefusalTally()
    now, told = 0.0, 0
    for number, pause in refusals:
        now += pause
        told += sum(line.count for line in tally.due(now))
        line = tally.refused(refusal(f"198.51.{number // 200}.{number % 200}"), now)
        told += 0 if line is None else line.count
    assert told + sum(line.count for line in tally.rest(now)) == len(refusals)
    assert tally.rest(now) == []
