"""Events as rows of comma-separated values (RFC 4180), safe for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Iterator

import msgspec

from pyssh_gateway.audit.reading.choosing import Fields
from pyssh_gateway.audit.reading.lines_for_people import clean
from pyssh_gateway.events import AnyEvent

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection."""

_FIRST = ("ts", "seq", "event", "conn", "session", "user", "person", "person_id", "person_fingerprint", "peer")


def columns() -> tuple[str, ...]:
    """The columns: those that most events have, then the fields of all events by name."""
    types = AnyEvent.__args__
    names = {name for one in types for name in one.__struct_fields__}
    return (*_FIRST, *sorted(names - {*_FIRST, "identity"}))


def rows(events: Iterable[Fields]) -> Iterator[str]:
    """The headings, and a line for each event, each with its line ending."""
    names = columns()
    yield _line(names)
    for fields in events:
        flat = dict(fields)
        identity = flat.pop("identity", None)
        if isinstance(identity, dict):
            flat |= {
                "person": identity.get("person"),
                "person_id": identity.get("id"),
                "person_fingerprint": identity.get("fingerprint"),
            }
        yield _line([cell(flat.get(name)) for name in names])


def cell(value: object) -> str:
    """A value as a cell: lists and objects in JSON, and a text that looks like a formula behind an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = clean(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return f"'{text}" if text.startswith(FORMULA) else text


def _line(cells: Iterable[str]) -> str:
    made = io.StringIO()
    csv.writer(made).writerow(cells)
    return made.getvalue()
