"""core.idle.background: which work of processes that sessions left behind counts, and how long it holds the machine."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.background import (
    FIRST_HOLD,
    INTERVAL_SECONDS,
    INTERVALS_IN_IDLE,
    IO_BYTES_PER_SECOND,
    LONGEST_HOLD,
    SLOW_BYTES_PER_SECOND,
    SLOW_INTERVALS,
    Hold,
    Over,
    Patience,
    Process,
    Sample,
    Vigil,
    Work,
    busy_terminals,
    interval,
    work_between,
)

PERCENT = 10
START = 1000.0
LATER = START + 10

DEV, AMOS = 1000, 1001


def process(
    pid: int,
    name: str = "make",
    *,
    parent: int = 1,
    cpu: float = 0.0,
    io: int = 0,
    started: float = 1.0,
    uid: int = DEV,
) -> Process:
    """A process, by default started long before the first sample."""
    return Process(pid, parent, started, uid, name, cpu, io)


def work(before: Iterable[Process], after: Iterable[Process]) -> Work | None:
    """The work between two samples ten seconds apart."""
    return work_between(Sample(START, tuple(before)), Sample(LATER, tuple(after)), PERCENT)


def test_which_terminals_are_busy() -> None:
    """The processes of one terminal count together; those without a terminal make none busy."""

    def table(*used: float) -> tuple[Process, ...]:
        lines = ("pts/1", "pts/1", "pts/2", "")
        return tuple(
            Process(5 + number, 1, 1.0, DEV, "make", cpu, 0, line)
            for number, (cpu, line) in enumerate(zip(used, lines, strict=True))
        )

    before, after = Sample(START, table(1.0, 1.0, 1.0, 1.0)), Sample(LATER, table(1.6, 1.6, 1.6, 9.0))
    assert busy_terminals(before, after, PERCENT) == {"pts/1"}
    assert busy_terminals(before, msgspec.structs.replace(after, at=START), PERCENT) == frozenset()


def test_a_busy_process_works() -> None:
    """More than the configured share of one processor is work, and its account is known."""
    assert work([process(5, cpu=100.0)], [process(5, cpu=105.0)]) == Work(0.5, 0.0, ("make",), (DEV,))


@pytest.mark.parametrize(("used", "works"), [(0.9, False), (1.0, False), (1.1, True)])
def test_the_share_is_a_limit(used: float, works: bool) -> None:
    """Ten percent of ten seconds are one second, and only more than that is work."""
    assert (work([process(5)], [process(5, cpu=used)]) is not None) == works


@pytest.mark.parametrize(("rate", "slow"), [(0.5, True), (1.0, True), (1.5, False)])
def test_bytes_that_are_moved_are_work(rate: float, slow: bool) -> None:
    """Bytes count as work, as in a copy that needs hardly any processor; if they are fewer, only if it goes on."""
    moved = int(rate * IO_BYTES_PER_SECOND * 10)
    found = work([process(5, io=7)], [process(5, io=7 + moved)])
    assert found is not None
    assert found.slow == slow


@pytest.mark.parametrize(("rate", "works"), [(0.5, False), (1.0, False), (1.1, True)])
def test_one_process_has_to_move_them(rate: float, works: bool) -> None:
    """Protects the bill: a log that grows is no download, nor are many processes that each write a little."""
    moved = int(rate * SLOW_BYTES_PER_SECOND * 10)
    numbers = range(2, 7)
    before, after = [process(pid) for pid in numbers], [process(pid, io=moved) for pid in numbers]
    assert (work(before, after) is not None) == works


def test_slow_work_counts_when_it_goes_on() -> None:
    """Protects the bill from an idle program that writes its state once in a while: only the second interval counts."""
    slow, fast = Work(0.0, 3e5, ("curl",), (DEV,), slow=True), Work(0.5, 0.0, ("make",), (DEV,))
    patience = Patience()
    judged = [patience.judge(one) for one in (slow, slow, slow, None, slow, fast, slow, None)]
    assert judged == [None, slow, slow, None, None, fast, slow, None]
    patience.judge(slow)
    patience.forget()
    assert patience.judge(slow) is None
    assert SLOW_INTERVALS < INTERVALS_IN_IDLE  # so it is detected before the machine would stop


@pytest.mark.parametrize(("used", "works"), [(0.06, False), (0.12, True)])
def test_a_hundred_that_wake_up_are_no_work(used: float, works: bool) -> None:
    """Protects the bill from a hundred processes below a percent each; a dozen at a percent and more do work."""
    before = [process(pid, "node") for pid in range(2, 202)]
    assert (work(before, [process(pid, "node", cpu=used) for pid in range(2, 202)]) is not None) == works


def test_an_idle_editor_server_is_no_work() -> None:
    """VS Code's server is no work when left behind: a few processes below a percent each, whatever they used before."""
    before = [process(pid, "node", cpu=5000.0, io=10**10) for pid in range(2, 9)]
    after = [process(pid, "node", cpu=5000.09, io=10**10 + 200_000) for pid in range(2, 9)]
    assert work(before, after) is None


def test_many_who_each_do_little_work_together() -> None:
    """The sum over all processes counts, since it is the machine that is held, down to a percent of each."""
    before = [process(pid) for pid in range(2, 12)]
    assert work(before, [process(pid, cpu=0.5) for pid in range(2, 12)]) is not None


def test_a_new_process_counts_from_its_start() -> None:
    """A process that started after the first sample, such as a compiler, counts with all that it has used."""
    found = work([process(5)], [process(5), process(6, "cc1plus", parent=5, cpu=4.0, started=START + 1)])
    assert found == Work(0.4, 0.0, ("cc1plus",), (DEV,))


def test_short_compilers_show_at_who_waited_for_them() -> None:
    """A build's compilers live shorter than an interval, but what they used shows at make, which waited for them."""
    compilers = [process(6, "cc1plus", parent=5, cpu=0.5, started=START - 0.5)]
    later = [process(5, cpu=9.0), process(90, "cc1plus", parent=5, cpu=0.2, started=LATER - 0.2)]
    found = work([process(5), *compilers], later)
    assert found is not None
    assert found.cpu == pytest.approx(0.87)  # 9.2 s without the 0.5 s that were used before the first sample
    assert found.names == ("make", "cc1plus")


def test_what_somebody_used_long_ago_is_no_work_when_it_ends() -> None:
    """When a server ends, its parent inherits its hours of processor time, which are not work of today."""
    before = [process(5, "sh"), process(6, "node", parent=5, cpu=3600.0, io=10**10)]
    assert work(before, [process(5, "sh", cpu=3600.1, io=10**10 + 5)]) is None


def test_the_same_over_generations() -> None:
    """When parents end with their children, the time shows at the nearest ancestor left, and old time is subtracted."""
    before = [process(5, "sh"), process(6, "sh", parent=5, cpu=1.0), process(7, "node", parent=6, cpu=99.0)]
    assert work(before, [process(5, "sh", cpu=100.5)]) is None
    found = work(before, [process(5, "sh", cpu=103.0)])
    assert found is not None
    assert found.cpu == pytest.approx(0.3)


def test_nobody_need_wait_for_a_child() -> None:
    """A parent that ignores its children's ends inherits nothing, so only its own work counts."""
    before = [process(5), process(6, parent=5, cpu=50.0), process(7, parent=1, cpu=20.0)]
    after = [process(5, cpu=2.0), process(8, cpu=3.0, started=START + 1)]
    found = work(before, after)
    assert found is not None
    assert found.cpu == pytest.approx(0.3)


def test_a_long_line_of_ancestors_ends() -> None:
    """A cycle of parents, which a torn read of the process table can show, does not loop for ever."""
    before = [process(2, parent=3, cpu=5.0), process(3, parent=2, cpu=5.0)]
    assert work(before, []) is None


def test_a_number_that_came_round_is_another_process() -> None:
    """A process with a reused pid is not credited with the earlier one's time."""
    found = work([process(5, cpu=50.0)], [process(5, "other", cpu=2.0, started=START + 3)])
    assert found is not None
    assert found.cpu == pytest.approx(0.2)


def test_an_old_process_that_was_not_seen_before_is_not_judged() -> None:
    """An old process that the first sample lacks, as samples are limited, does not count: its time may be old."""
    assert work([], [process(5, cpu=500.0, started=START - 60)]) is None


def test_the_busiest_are_named_first_and_not_all() -> None:
    """`make, cc1plus, ld of dev, amos` is enough for a person; fifty names would be too many."""
    used = [("ld", 1.0, DEV), ("cc1plus", 3.0, DEV), ("cc1plus", 2.5, DEV), ("tar", 0.2, AMOS), ("backup", 2.0, AMOS)]
    before = [process(pid, name, uid=uid) for pid, (name, _, uid) in enumerate(used, 10)]
    after = [process(pid, name, cpu=cpu, uid=uid) for pid, (name, cpu, uid) in enumerate(used, 10)]
    found = work(before, [*after, process(20, "idle", cpu=0.0, uid=0)])
    assert found is not None
    assert (found.names, found.uids) == (("cc1plus", "backup", "ld"), (DEV, AMOS))


def test_no_time_no_work() -> None:
    """Two samples of one moment show no work."""
    sample = Sample(START, (process(5, cpu=3.0),))
    assert work_between(sample, sample, PERCENT) is None


def _processes(cpu: float) -> st.SearchStrategy[list[Process]]:
    one = st.builds(
        Process,
        st.integers(1, 8),
        st.integers(0, 8),
        st.sampled_from([1.0, START - 1, START + 1]),
        st.integers(0, 3),
        st.sampled_from(["make", "node"]),
        st.floats(0, cpu),
        st.integers(0, 10**12),
    )
    return st.lists(one, max_size=8, unique_by=lambda process: process.pid)


@given(_processes(50), _processes(50))
def test_whatever_is_sampled_is_judged(before: list[Process], after: list[Process]) -> None:
    """Any two process tables, however contradictory, give no error and no negative work."""
    found = work(before, after)
    if found is not None:
        assert found.cpu >= 0
        assert found.io >= 0
        assert found.names
        assert found.uids


@given(_processes(50))
def test_a_process_table_that_stands_still_is_no_work(processes: list[Process]) -> None:
    """Processes that used nothing between two samples are no work, nor are those that have ended."""
    old = [one for one in processes if one.started < START]
    assert work(old, old) is None
    assert work(old, old[::2]) is None


class TestVigil:
    """When work begins to hold the machine, and until when."""

    def test_an_interval_is_short_enough_for_the_timeout(self) -> None:
        """Work is seen before the machine would stop, however short the timeout is."""
        assert interval(3600.0) == INTERVAL_SECONDS
        assert interval(3.0) == 1.0

    def test_one_sight_of_work_holds(self) -> None:
        """Work that is seen once holds until its end would have been noticed."""
        assert self._vigil().see(worked=True, now=1.0) == Hold(FIRST_HOLD)

    def test_no_work_changes_nothing(self) -> None:
        """Without work, samples change nothing about the stop."""
        vigil = self._vigil()
        assert [vigil.see(worked=False, now=float(now)) for now in range(1, 20)] == [None] * 19

    def test_one_quiet_interval_is_not_the_end(self) -> None:
        """A build that pauses for one interval stays held; a second interval without work ends the hold, once."""
        vigil = self._vigil()
        seen = [
            vigil.see(worked=worked, now=float(now))
            for now, worked in enumerate([True, False, True, False, False, False], 1)
        ]
        assert seen == [Hold(FIRST_HOLD), None, Hold(2 * FIRST_HOLD), None, Over(limit=False), None]

    def test_long_work_makes_few_lines(self) -> None:
        """While work lasts the hold never expires, and its renewals become rarer."""
        vigil = self._vigil()
        until, renewals = 0.0, 0
        for now in range(1, 500):
            assert now == 1 or until > now
            match vigil.see(worked=True, now=float(now)):
                case Hold(seconds=seconds):
                    assert seconds <= LONGEST_HOLD
                    until = now + seconds
                    renewals += 1
        assert renewals < 500 / (LONGEST_HOLD - FIRST_HOLD - 1) + 5

    def test_there_is_a_limit(self) -> None:
        """Work that never ends holds up to the limit, which is reported once."""
        vigil = self._vigil(maximum=10.5)
        seen = [vigil.see(worked=True, now=float(now)) for now in range(1, 14)]
        held = [now + one.seconds for now, one in enumerate(seen, 1) if isinstance(one, Hold)]
        assert max(held) == held[-1] == 10.5
        assert not vigil.is_spent(10.4)
        assert vigil.is_spent(10.5)
        assert seen[10:] == [Over(limit=True), None, None]
        assert len(held) == 3

    def test_somebody_who_came_and_went_begins_it_anew(self) -> None:
        """The limit counts anew from the last client's end; a hold from before is still ended."""
        vigil = self._vigil(maximum=5.0)
        assert vigil.see(worked=True, now=4.0) == Hold(1.0)
        vigil.begin(100.0)
        assert not vigil.is_spent(104.0)
        assert vigil.see(worked=False, now=101.0) is None
        assert vigil.see(worked=False, now=102.0) == Over(limit=False)

    @staticmethod
    def _vigil(maximum: float = 10_000.0) -> Vigil:
        vigil = Vigil(1.0, maximum)
        vigil.begin(0.0)
        return vigil
