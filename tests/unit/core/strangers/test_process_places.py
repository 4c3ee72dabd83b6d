"""core.strangers.process_places: a crowd from one source does not keep others from being served."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.strangers.process_places import Changes, ProcessPlaces

PLACES = 3


def filled(*sources: str, proved: str = "") -> ProcessPlaces:
    """`PLACES` places after one connection of each of `sources`, named by its number."""
    places = ProcessPlaces(PLACES)
    for number, source in enumerate(sources):
        places.arrive(str(number), source)
        if str(number) in proved:
            places.proved(str(number))
    return places


@pytest.mark.parametrize(
    ("before", "proved", "source", "expected"),
    [
        ("", "", "a", Changes(begin=("new",))),
        ("ab", "", "a", Changes(begin=("new",))),
        ("abc", "", "d", Changes()),
        ("aab", "", "c", Changes(evict=("0",), begin=("new",))),
        ("aab", "0", "c", Changes(evict=("1",), begin=("new",))),
        ("aab", "01", "c", Changes()),
        ("aab", "", "b", Changes()),
        ("aaa", "", "b", Changes(evict=("0",), begin=("new",))),
        ("aaa", "", "a", Changes()),
    ],
)
def test_a_newcomer(before: str, proved: str, source: str, expected: Changes) -> None:
    """Protects a source with fewer places: it is served at once, but not in place of a client that has proved a key."""
    assert filled(*before, proved=proved).arrive("new", source) == expected


def test_a_place_that_is_free_goes_to_the_source_with_fewest() -> None:
    """Protects newcomers of other sources from waiting behind an earlier crowd: a free place goes to the fewest."""
    places = filled("a", "a", "a", "a", "b", proved="012")
    assert places.waiting == ("3", "4")
    assert places.leave("0") == Changes(begin=("4",))
    assert places.leave("1") == Changes(begin=("3",))


def test_one_that_waits_can_leave() -> None:
    """Protects a place from being given to a connection that is gone."""
    places = filled("a", "b", "c", "d")
    assert places.leave("3") == Changes()
    assert places.leave("0") == Changes()
    assert places.served == ("1", "2")


def test_one_that_has_no_process_proves_nothing() -> None:
    """A proof from a connection that has no place has no effect."""
    places = filled("a", "a", "a", "b", proved="7")
    assert places.waiting == ()
    places.proved("0")  # it has been evicted
    assert places.arrive("new", "c") == Changes(evict=("1",), begin=("new",))


STEPS = st.lists(
    st.tuples(st.sampled_from(["arrive", "leave", "proved"]), st.integers(0, 30), st.sampled_from("abcd")), max_size=60
)


@given(STEPS)
def test_nobody_is_kept_out_by_a_source_with_two(steps: list[tuple[str, int, str]]) -> None:
    """A source without a place gets one from a source with two, unless those are proved, and no place stays free."""
    places, sources, proved = ProcessPlaces(PLACES), dict[str, str](), set[str]()
    for step, number, source in steps:
        conn = str(number)
        changes = Changes()
        match step:
            case "arrive" if conn not in sources:
                sources[conn] = source
                changes = places.arrive(conn, source)
            case "leave":
                changes = places.leave(conn)
                sources.pop(conn, None)
                proved.discard(conn)
            case "proved" if conn in places.served:
                places.proved(conn)
                proved.add(conn)
        for evicted in changes.evict:
            assert evicted not in proved
            del sources[evicted]
        assert set(changes.begin) <= set(places.served)
        assert set(places.served) | set(places.waiting) == set(sources)
        assert len(places.served) <= PLACES
        assert not places.waiting or len(places.served) == PLACES
        held = Counter(sources[one] for one in places.served)
        expendable = {sources[one] for one in places.served if one not in proved}
        for waiting in places.waiting:
            assert held[sources[waiting]] > 0 or not any(held[other] >= 2 for other in expendable)
