"""docs/events.schema.json describes every line that there is."""

import json
from typing import Any

import jsonschema
import pytest

from tests.support.documented_events import corpus
from tests.support.event_schema import DIALECT, SCHEMA, schema, text

VALIDATOR = jsonschema.Draft202012Validator(schema(strict=True), format_checker=jsonschema.FormatChecker())


def test_the_schema_is_up_to_date() -> None:
    """Protects the published schema: after a change of an event it has to be made anew (`make schema`); it is valid."""
    assert SCHEMA.read_text(encoding="utf-8") == text()
    made = schema()
    assert made["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(made)


@pytest.mark.parametrize("event", [pytest.param(event, id=name) for name, event in corpus().items()])
def test_every_event_is_valid(event: dict[str, Any]) -> None:
    """Every documented line, and others with other values, has exactly the fields and types of the schema."""
    VALIDATOR.validate(event)


def test_lines_that_are_no_events() -> None:
    """The lines without a number that are on standard output or in files of the log."""
    time = "2026-01-02T03:04:05.678901Z"
    root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    for line in (
        {"ts": time, "event": "log.dropped", "lines": 12},
        {"ts": time, "event": "log.checkpoint", "note": "example\n1\n\n"},
        {"event": "log.segment", "first": 1, "tree": [root]},
    ):
        VALIDATOR.validate(line)


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"ts": "2026-01-02 03:04:05"},
        {"event": "session.open"},
        {"identity": {}},
        {"seconds": "1"},
        {"x": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_lines_are_not_valid(change: dict[str, Any]) -> None:
    """Protects readers of the schema from one that accepts anything."""
    login = corpus()["connection.authenticated"]
    assert not VALIDATOR.is_valid(login | change)
    assert not VALIDATOR.is_valid({name: value for name, value in login.items() if name != "hassh"})


def test_later_versions_may_add_fields() -> None:
    """The published schema accepts a field that it does not know, as docs/events.md announces."""
    line = json.loads(json.dumps(corpus()["session.opened"])) | {"of_tomorrow": True}
    jsonschema.Draft202012Validator(schema()).validate(line)
