"""Lines of a service's output: limited in length and rate, and complete and unchanged below the limits."""

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.services.service_output import (
    BYTES_A_PERIOD,
    CUT,
    LINES_A_PERIOD,
    MAX_LINE_BYTES,
    PERIOD_SECONDS,
    ServiceOutput,
)


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), max_size=20), st.data())
def test_any_split_gives_the_same_lines(lines: list[str], data: st.DataObject) -> None:
    """Protects the log: lines are split at newlines only, wherever reads end, and the rest is a line at the end."""
    raw = "\n".join(lines).encode()
    output = ServiceOutput()
    got: list[str] = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        got += output.feed(raw[:size], 0.0)
        raw = raw[size:]
    assert got + output.end() == lines


def test_a_long_line_is_cut_and_said_to_be() -> None:
    """Protects memory and log from an endless line, which is cut and marked, in one piece or in many."""
    output = ServiceOutput()
    for _ in range(100):
        assert output.feed(b"x" * 1000, 0.0) == []
    assert output.feed(b"y\nnext\n", 0.0) == ["x" * MAX_LINE_BYTES + CUT, "next"]
    assert output.feed(b"z" * MAX_LINE_BYTES + b"\n", 0.0) == ["z" * MAX_LINE_BYTES]


def test_empty_lines_and_line_ends_of_terminals_say_nothing() -> None:
    """Protects the reader: blank lines are left out, and a carriage return is removed."""
    assert ServiceOutput().feed(b"\n  \r\none\r\n\n", 0.0) == ["one"]


def test_bytes_that_are_no_text_are_shown() -> None:
    """Protects the message to the gateway, which must be UTF-8: other bytes are escaped."""
    assert ServiceOutput().feed(b"caf\xe9 \xc3\xa9\n", 0.0) == ["caf\\xe9 \u00e9"]


def test_a_flood_is_counted() -> None:
    """Protects the log: lines beyond the limit for a second are dropped, and their number is reported after it."""
    output = ServiceOutput()
    assert len(output.feed(b"a\n" * (LINES_A_PERIOD + 7), 10.0)) == LINES_A_PERIOD
    assert output.due == 10.0 + PERIOD_SECONDS
    assert output.tick(10.5) == []
    assert output.tick(11.0) == ["7 lines dropped"]
    assert output.due is None
    assert output.feed(b"b\n", 11.1) == ["b"]


def test_what_was_dropped_is_said_at_the_end() -> None:
    """A service that ends during a flood still has its dropped lines counted."""
    output = ServiceOutput()
    output.feed(b"a\n" * (LINES_A_PERIOD + 1) + b"rest", 0.0)
    assert output.end() == ["2 lines dropped"]
    assert output.end() == []


def test_too_many_bytes_wait_for_the_next_period() -> None:
    """Protects the processor from `yes`: after a megabyte, nothing is read until the second is over."""
    output = ServiceOutput()
    output.feed(b"x" * (BYTES_A_PERIOD - 1), 5.0)
    assert not output.full
    output.feed(b"x", 5.1)
    assert output.full
    assert output.due == 5.0 + PERIOD_SECONDS
    assert output.tick(6.0) == []
    assert not output.full
    assert output.due is None
