"""Events in ECS, against the published fields (`ecs.json`, made by scripts/other_schemas.py)."""

import json
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.mapping.ecs import EVENTS, VERSION, to_ecs
from tests.support.documented_events import corpus, documented_events

ECS = json.loads(Path(__file__).with_name("ecs.json").read_text())
EXAMPLES = documented_events()

CORPUS = [pytest.param(event, id=name) for name, event in corpus().items()]


def leaves(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The fields by their dotted names."""
    for name, below in value.items():
        if isinstance(below, dict):
            yield from leaves(below, f"{above}{name}.")
        else:
            yield f"{above}{name}", below


def check_type(kind: str, value: object) -> None:
    """`value` can be indexed as the type `kind` of Elasticsearch."""
    match kind:
        case "date":
            assert isinstance(value, str)
            datetime.fromisoformat(value)
        case "ip":
            assert isinstance(value, str)
            ip_address(value)
        case "long":
            assert type(value) is int
        case "boolean":
            assert type(value) is bool
        case "keyword" | "match_only_text" | "wildcard":
            assert isinstance(value, str)
            assert value
        case _:
            pytest.fail(f"no check for the type {kind}")


def check_document(event: dict[str, Any]) -> None:
    """Names, types, arrays and allowed values are those of the published schema; everything else is under `pyssh`."""
    document = to_ecs(event, host="box")
    document.pop("pyssh", None)
    for name, value in leaves(document):
        field = ECS["fields"][name]
        assert isinstance(value, list) is field["array"]
        for item in value if field["array"] else [value]:
            check_type(field["type"], item)
            assert item in ECS["values"].get(name, [item])
    assert document["ecs"]["version"] == VERSION == ECS["version"]


@pytest.mark.parametrize("event", CORPUS)
def test_every_field_is_one_of_ecs_with_its_type(event: dict[str, Any]) -> None:
    """Protects indices: a field that ECS does not have, or has with another type, is refused there."""
    check_document(event)


@pytest.mark.parametrize("event", CORPUS)
def test_every_type_is_expected_with_a_category(event: dict[str, Any]) -> None:
    """ECS says which types go with which categories."""
    made = to_ecs(event)["event"]
    expected = {kind for category in made["category"] for kind in ECS["expected"][category]}
    assert set(made["type"]) <= expected


@pytest.mark.parametrize("event", CORPUS)
def test_nothing_is_lost(event: dict[str, Any]) -> None:
    """Each value of the event is somewhere in the document, unless it says that it does not apply."""
    text = json.dumps(to_ecs(event))
    for name, value in event.items():
        if value in ("", None, []) or name in {"seconds", "target", "uid"}:
            continue
        assert json.dumps(value) in text


def test_every_event_is_classified() -> None:
    """A new event gets a row."""
    assert {kind.__struct_config__.tag for kind in get_args(ev.AnyEvent)} == set(EVENTS)


def test_a_login() -> None:
    """Protects the fields that rules and dashboards for SSH logins ask for."""
    document = to_ecs(EXAMPLES["connection.authenticated"])
    assert document["event"]["category"] == ["authentication", "session"]
    assert document["event"]["outcome"] == "success"
    assert document["event"]["duration"] == 68_000_000
    assert document["user"] == {"name": "amos"}
    assert document["source"] == {"address": "203.0.113.5", "ip": "203.0.113.5"}
    assert document["related"]["user"] == ["amos", "github:example"]
    assert document["pyssh"]["identity"]["id"] == 583231


@pytest.mark.parametrize("line", [{}, {"event": "of.tomorrow", "who": "amos"}, {"event": 7, "ts": None, "user": []}])
def test_a_line_of_another_version_is_kept(line: dict[str, Any]) -> None:
    """A line that this version does not know has no category, and keeps its fields."""
    document = to_ecs(line)
    assert "category" not in document["event"]
    assert document.get("pyssh", {}).get("who") == line.get("who")
