"""core.idle.use_record: any course of use becomes few spans, and none is lost."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.use_record import MERGED_SECONDS, SPANS, Span, UseRecord, merged_up_to
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import ClientUse, Identity

OPENED = 1000.0
WINDOW = 15.0


def record_of(looks: list[bool]) -> list[tuple[Span, ...]]:
    """What is written down of a connection that was or was not used in each window since it was opened."""
    record = UseRecord()
    record.open("c1", OPENED)
    written = []
    for number, used in enumerate(looks, 1):
        until = OPENED + number * WINDOW
        full = record.use(["c1"] if used else [], until - WINDOW, until, MERGED_SECONDS)
        written += [spans for _, spans in full]
    last = record.close("c1")
    return [*written, last] if last else written


def test_a_short_pause_ends_no_span() -> None:
    """A pause of a minute is part of the span, a longer one is not."""
    assert record_of([True, False, False, False, False, True]) == [((0, 90),)]
    assert record_of([True, False, False, False, False, False, True]) == [((0, 15), (90, 105))]


def test_finished_spans_are_written_when_many_have_gathered() -> None:
    """Protects from a crash: at most so many spans of a connection are only in memory."""
    looks = [True, False, False, False, False, False] * (SPANS + 1)
    first, last = record_of(looks)
    assert len(first) == SPANS
    assert len(last) == 1
    assert first[-1][1] < last[0][0]


@given(st.lists(st.booleans(), max_size=400))
def test_every_use_is_in_a_span_and_every_long_pause_is_not(looks: list[bool]) -> None:
    """Spans are in order and apart, cover each window with use, and no pause that is longer than a minute."""
    spans = [span for line in record_of(looks) for span in line]
    for number, used in enumerate(looks):
        begin, end = number * WINDOW, (number + 1) * WINDOW
        assert not used or any(first <= begin and end <= last for first, last in spans)
    assert all(before[1] + MERGED_SECONDS < after[0] for before, after in pairwise(spans))
    windows = [number for number, used in enumerate(looks) if used]
    assert bool(windows) == bool(spans)
    if windows:
        assert (spans[0][0], spans[-1][1]) == (windows[0] * WINDOW, (windows[-1] + 1) * WINDOW)


def test_a_day_of_a_busy_developer_takes_a_few_kilobytes() -> None:
    """docs/audit.md promises at most 5 KB: three connections, eight hours, 12 minutes and pauses of 5."""
    who = Identity("github:example", 583231, "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8")
    size = 0
    for spans in record_of(([True] * 48 + [False] * 20) * 28):
        event = ClientUse(conn="c123", user="developer", spans=spans, identity=who)
        head = {"ts": timestamp(0), "seq": 123456, "event": "client.use"}
        size += 3 * len(msgspec.json.encode(head | msgspec.structs.asdict(event)) + b"\n")
    assert 2 * 1000 < size < 5 * 1000


def test_what_is_not_written_is_taken_when_the_log_ends() -> None:
    """At a stop the spans so far are written down, and not again at the end of the connection."""
    record = UseRecord()
    record.open("c1", OPENED)
    record.open("c2", OPENED)
    record.use(["c1", "unknown"], OPENED, OPENED + 15, MERGED_SECONDS)
    assert record.take() == [("c1", ((0, 15),))]
    assert record.take() == []
    assert record.close("c1") == ()


def test_a_short_client_idle_has_short_pauses() -> None:
    """With a `client_idle` of seconds, a minute would hide every pause."""
    assert merged_up_to(None) == merged_up_to(1800) == MERGED_SECONDS
    assert merged_up_to(2) == 1
