"""core.plain_json: the texts of a value, wherever in it they are."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.plain_json import with_texts

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below) | st.tuples(below, below) | st.dictionaries(st.text(), below),
)


def texts(value: object) -> list[str]:
    """Every text in a value of JSON, but for the names in objects."""
    if isinstance(value, str):
        return [value]
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in below for text in texts(part)]


@given(VALUES)
def test_no_text_is_left_out(value: object) -> None:
    """Protects terminals: a text deep in an answer is made printable like any other, and nothing else changes."""
    plain = json.loads(json.dumps(value))
    changed = with_texts(value, lambda text: text + "!")
    assert texts(changed) == [text + "!" for text in texts(plain)]
    assert with_texts(changed, lambda text: text[:-1]) == plain
