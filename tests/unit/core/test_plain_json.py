"""core.plain_json: changing the texts and the times of a value at any depth."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.plain_json import with_texts, with_times

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below) | st.tuples(below, below) | st.dictionaries(st.text(), below),
)


def texts(value: object) -> list[str]:
    """Every text in a JSON value, without the names in objects."""
    if isinstance(value, str):
        return [value]
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in below for text in texts(part)]


@given(VALUES)
def test_no_text_is_left_out(value: object) -> None:
    """Protects terminals: text at any depth is made printable, and nothing else changes."""
    plain = json.loads(json.dumps(value))
    changed = with_texts(value, lambda text: text + "!")
    assert texts(changed) == [text + "!" for text in texts(plain)]
    assert with_texts(changed, lambda text: text[:-1]) == plain


def test_times_are_found_by_their_names() -> None:
    """Protects programs: points in time are written as in the log, at any depth, and durations stay numbers."""
    value = {"since": 1.5, "holds": ({"until": 2, "pid": 7},), "age": 3.0, "time": None, "reason": "since"}
    changed = with_times(value, {"since", "until", "time"}, lambda moment: f"at {moment}")
    assert changed == {
        "since": "at 1.5",
        "holds": [{"until": "at 2", "pid": 7}],
        "age": 3.0,
        "time": None,
        "reason": "since",
    }
