"""core.idle.nobody: what counts as awake for nobody, and a ledger of it that stays small and outlives odd clocks."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.nobody import (
    DAY_SECONDS,
    DAYS,
    MAX_NAME,
    MAX_SOURCES,
    Day,
    Entry,
    Ledger,
    Source,
    Tally,
    add,
    awake_for_nobody,
    summary,
)

NOW = 20_775 * DAY_SECONDS + 3600.0
"""One in the morning (UTC) of some day."""

FIRST = Source("address", "203.0.113.9")
SECOND = Source("address", "2001:db8:1:2::/64")


def ledger_of(*wakes: tuple[Source, float, float]) -> Ledger:
    """The ledger after these times awake: the source, the seconds and the moment of the stop."""
    ledger = Ledger()
    for source, seconds, now in wakes:
        ledger = add(ledger, source, seconds, now)
    return ledger


def shown(ledger: Ledger, now: float = NOW) -> dict[Source, tuple[int, float]]:
    """How often and for how long each source woke the machine."""
    return {entry.source: (entry.tally.count, entry.tally.seconds) for entry in summary(ledger, now).entries}


# -- what counts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("woken_by", "logged_in", "needed", "on_probation", "source"),
    [
        ("203.0.113.9", False, False, "", FIRST),
        ("::ffff:203.0.113.9", False, False, "", FIRST),
        ("2001:db8:1:2:3:4:5:6", False, False, "", SECOND),
        ("", False, False, "", Source("start")),
        ("203.0.113.9", True, False, "", None),
        ("203.0.113.9", False, True, "", None),
        ("203.0.113.9", True, True, "", None),
        ("203.0.113.9", True, False, "github:example", Source("person", "github:example")),
        ("203.0.113.9", True, True, "github:example", None),
    ],
)
def test_what_counts_as_nobody(
    woken_by: str, *, logged_in: bool, needed: bool, on_probation: str, source: Source | None
) -> None:
    """A wake counts by its source if nobody has logged in and nothing has kept it up, or only a client on probation."""
    told = awake_for_nobody(woken_by, logged_in=logged_in, needed=needed, on_probation=on_probation)
    assert told == source


def test_a_name_fits_into_the_file() -> None:
    """Protects the file: a long name is cut, and what JSON can't hold is replaced."""
    source = awake_for_nobody("", logged_in=True, needed=False, on_probation="\ud800" * 2 * MAX_NAME)
    assert source == Source("person", "?" * MAX_NAME)


# -- the ledger ----------------------------------------------------------------------------------------------------


def test_sources_are_counted_apart() -> None:
    """Protects `why`: each source has its count, seconds, and first and last time, the longest awake comes first."""
    ledger = ledger_of((FIRST, 8, NOW), (SECOND, 60, NOW + 10), (FIRST, 9, NOW + DAY_SECONDS))
    told = summary(ledger, NOW + DAY_SECONDS)
    assert told.total == Tally(3, 77, NOW, NOW + DAY_SECONDS)
    assert told.entries == (
        Entry(SECOND, Tally(1, 60, NOW + 10, NOW + 10)),
        Entry(FIRST, Tally(2, 17, NOW, NOW + DAY_SECONDS)),
    )
    assert told.others == Tally()


def test_a_person_and_an_address_of_the_same_name_differ() -> None:
    """Protects people whose name looks like an address: they are not mixed up with it."""
    person = Source("person", FIRST.name)
    assert shown(ledger_of((FIRST, 1, NOW), (person, 2, NOW))) == {FIRST: (1, 1), person: (1, 2)}


def test_what_is_older_is_dropped_by_day() -> None:
    """Protects the meaning of "the last 7 days": a day is dropped as a whole, when it is the eighth."""
    ledger = ledger_of((FIRST, 5, NOW), (SECOND, 6, NOW + DAY_SECONDS))
    last = NOW + (DAYS - 1) * DAY_SECONDS
    assert shown(ledger, last) == {FIRST: (1, 5), SECOND: (1, 6)}
    assert shown(ledger, last + DAY_SECONDS) == {SECOND: (1, 6)}
    assert shown(add(ledger, FIRST, 7, last + DAY_SECONDS), last + DAY_SECONDS) == {SECOND: (1, 6), FIRST: (1, 7)}
    assert shown(ledger, last + 2 * DAY_SECONDS) == {}


@pytest.mark.parametrize("back", [3600.0, 3 * DAY_SECONDS, NOW - 60])
def test_a_clock_that_was_set_back_loses_nothing(back: float) -> None:
    """Protects the ledger on a machine whose clock begins in 1970, or is corrected: all entries stay known."""
    before = NOW + DAY_SECONDS
    ledger = ledger_of((FIRST, 5, NOW), (SECOND, 6, before), (FIRST, 7, before - back))
    assert shown(ledger, before - back) == {FIRST: (2, 12), SECOND: (1, 6)}
    again = add(ledger, SECOND, 8, before + 60)
    assert shown(again, before + 60)[SECOND] == (2, 14)


def test_a_day_of_the_far_future_goes_in_time() -> None:
    """Protects a machine whose clock was years ahead for a moment: after a week, that day is forgotten as well."""
    ledger = add(Ledger(), FIRST, 5, NOW + 5000 * DAY_SECONDS)
    for number in range(DAYS):
        assert FIRST in shown(ledger, NOW + number * DAY_SECONDS)
        ledger = add(ledger, SECOND, 1, NOW + number * DAY_SECONDS)
    assert shown(ledger, NOW + (DAYS - 1) * DAY_SECONDS) == {SECOND: (DAYS, DAYS)}


def test_sources_beyond_the_limit_are_counted_together() -> None:
    """Protects the file's size from a scanner with many addresses, and the one that comes often from being lost."""
    often = Source("address", "198.51.100.7")
    ledger = ledger_of((often, 1, NOW), (often, 1, NOW))
    for number in range(MAX_SOURCES + 9):
        ledger = add(ledger, Source("address", f"2001:db8:{number:x}::/64"), 2, NOW + number)
    told = summary(ledger, NOW)
    assert len(told.entries) == MAX_SOURCES
    assert (told.others.count, told.total.count) == (10, MAX_SOURCES + 11)
    assert shown(ledger)[often] == (2, 2)
    assert Source("address", "2001:db8:0::/64") not in shown(ledger)
    new = Source("address", f"2001:db8:{MAX_SOURCES + 8:x}::/64")
    assert shown(add(ledger, new, 2, NOW))[new] == (2, 4)


def test_a_new_source_gets_a_place_although_the_others_come_often() -> None:
    """Protects the answer from old sources: a new one is told apart at once, also if the clock was set back before."""
    wakes = [
        (Source("address", f"192.0.2.{number}"), 1.0, NOW + second)
        for number in range(MAX_SOURCES)
        for second in (1, 2)
    ]
    assert shown(add(ledger_of(*wakes), FIRST, 8, NOW))[FIRST] == (1, 8)


Wakes = st.tuples(
    st.one_of(
        st.integers(0, MAX_SOURCES + 40).map(lambda number: Source("address", f"192.0.2.{number}")),
        st.just(Source("start")),
        st.just(Source("person", "github:example")),
    ),
    st.floats(0, 1e6),
    st.floats(-20 * DAY_SECONDS, 20 * DAY_SECONDS),
)


@given(wakes=st.lists(Wakes, max_size=60), full=st.booleans())
def test_the_sum_is_that_of_its_parts_whatever_the_clock_does(
    wakes: Iterable[tuple[Source, float, float]], *, full: bool
) -> None:
    """Protects the figures and the file: bounded, written and read without a change, and each time counted once."""
    ledger = Ledger()
    if full:
        entries = tuple(
            Entry(Source("address", f"192.0.2.{number}"), Tally(1, 1.0, NOW, NOW)) for number in range(MAX_SOURCES)
        )
        ledger = Ledger((Day(int(NOW // DAY_SECONDS), entries),))
    for source, seconds, shift in wakes:
        now = NOW + shift
        kept = [day for day in ledger.days if day.day > int(now // DAY_SECONDS) - DAYS]
        if len(kept) == DAYS and all(day.day != int(now // DAY_SECONDS) for day in kept):
            del kept[0]  # a new day takes the place of the one that was begun first
        before = summary(Ledger(tuple(kept)), now).total
        ledger = add(ledger, source, seconds, now)
        told = summary(ledger, now)
        assert told.total.count == before.count + 1
        assert told.total.count == told.others.count + sum(entry.tally.count for entry in told.entries)
        assert len(told.entries) <= MAX_SOURCES
        assert len(ledger.days) <= DAYS
        assert msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger) == ledger


@pytest.mark.parametrize(
    "days", [(Day(1), Day(1)), (Day(1, (Entry(FIRST, Tally()), Entry(FIRST, Tally()))),)], ids=["day", "source"]
)
def test_nothing_is_counted_twice(days: tuple[Day, ...]) -> None:
    """Protects the sums from a damaged file: a day or a source that is there twice is refused."""
    with pytest.raises(ValueError, match="there twice"):
        Ledger(days)
