"""audit.reading.tables: every event is a row that a spreadsheet takes as text and numbers."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.audit.reading.tables import cell, columns, rows


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-rf", "'-rf"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("a=1", "a=1"),
        (-5, "-5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, ""),
        (["=a", 1], '["=a",1]'),
        ("\t=1", "\\t=1"),
    ],
)
def test_no_cell_is_a_formula(value: object, shown: str) -> None:
    """Protects the person who opens it: a text that looks like a formula has an apostrophe, numbers stay numbers."""
    assert cell(value) == shown


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_was_written_is_read(command: str, person: str) -> None:
    """With quotes, commas and newlines in it, each event is one row on one line."""
    events = [{"event": "session.opened", "command": command, "identity": {"person": person, "id": 7}, "unknown": 1}]
    text = "".join(rows(events))
    head, row = csv.reader(io.StringIO(text))
    assert tuple(head) == columns()
    found = dict(zip(head, row, strict=True))
    assert found["command"] == cell(command)
    assert (found["person"], found["person_id"]) == (cell(person), "7")
    assert text.count("\n") == 2
    assert text.replace("\r\n", "").isprintable()
