"""The delay before a service is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.services.restarts import FIRST_SECONDS, LONGEST_SECONDS, SETTLED_SECONDS, next_delay


@pytest.mark.parametrize(
    ("last", "lived", "delay"),
    [
        (None, 0.0, 0.5),
        (0.5, 0.0, 1.0),
        (1.0, 59.9, 2.0),
        (32.0, 3.0, 60.0),
        (60.0, 3.0, 60.0),
        (60.0, 60.0, 0.5),
        (None, 3600.0, 0.5),
    ],
)
def test_the_pauses_double_up_to_a_minute(last: float | None, lived: float, delay: float) -> None:
    """Protects the machine from a service that can't run; one that ran well restarts after the shortest delay."""
    assert next_delay(last, lived) == delay


@given(st.lists(st.floats(0, 2 * SETTLED_SECONDS), max_size=30))
def test_no_history_leaves_the_bounds(lives: list[float]) -> None:
    """For any history the delay is neither 0, which would be a busy loop, nor longer than the maximum."""
    delay = None
    for lived in lives:
        delay = next_delay(delay, lived)
        assert FIRST_SECONDS <= delay <= LONGEST_SECONDS
