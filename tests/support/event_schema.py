"""The JSON schema of the log's lines, made from the event types and from what docs/events.md says about them.

`make schema` writes it to docs/events.schema.json; tests/unit/audit/test_schema.py sees to it that it is up to date.
"""

import json
import re
from typing import Any, get_args

import msgspec

from pyssh_gateway import events as ev
from tests.support.places import ROOT

SCHEMA = ROOT / "docs" / "events.schema.json"
DOCUMENT = ROOT / "docs" / "events.md"

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
    "description": "when, in UTC, to the microsecond",
}
_SEQ = {"type": "integer", "minimum": 1, "description": "the event's number in the log; a gap means lines are missing"}

_OTHERS: dict[str, Any] = {
    "log.dropped": {
        "description": "On standard output and at collectors only: lines are missing there, as nobody read in time.",
        "properties": {"ts": _TIME, "lines": {"type": "integer", "minimum": 1, "description": "how many"}},
    },
    "log.checkpoint": {
        "description": "checkpoints.jsonl and standard output: what the log was at that time, signed.",
        "properties": {
            "ts": _TIME,
            "note": {
                "type": "string",
                "description": "a checkpoint as a signed note: https://c2sp.org/tlog-checkpoint",
            },
        },
    },
    "log.segment": {
        "description": "The first line of a file that does not begin the log.",
        "properties": {
            "first": {"type": "integer", "minimum": 1, "description": "the index of the file's first line in the log"},
            "tree": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"},
                "maxItems": 64,
                "description": "the compact range of the lines before: SHA-256 in base64, the largest subtree first",
            },
        },
    },
}
"""Lines that are no events: they have no number."""


def schema(*, strict: bool = False) -> dict[str, Any]:
    """The schema. Lines of a later version may have more fields; `strict`: they may not."""
    kinds: tuple[Any, ...] = get_args(ev.AnyEvent)
    _, made = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    defined = {name: _plain(made.pop(name)) for name in sorted(set(made) - {kind.__name__ for kind in kinds})}
    for kind in kinds:
        name = str(kind.__struct_config__.tag)
        about, meanings = _documented(name)
        fields = {field: _plain(it) for field, it in made[kind.__name__]["properties"].items() if field != "event"}
        for field, it in fields.items():
            it["description"] = meanings[field]
        defined[name] = {"description": about, "properties": {"ts": _TIME, "seq": _SEQ, **fields}}
    for name, other in (defined | _OTHERS).items():
        if name[0].islower():
            properties = {"event": {"const": name}, **other["properties"]}
            defined[name] = {"type": "object", "description": other["description"], "properties": properties}
        defined[name]["required"] = list(defined[name]["properties"])
        if strict:
            defined[name]["additionalProperties"] = False
    lines = [name for name in defined if name[0].islower()]
    return {
        "$schema": DIALECT,
        "title": "A line of pyssh-gateway's event log",
        "description": "Every line has all fields of its event. Later versions may add fields, and events.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in lines],
        "$defs": defined,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Without defaults, since lines leave nothing out, and without our own docstrings."""
    if isinstance(value, list):
        return [_plain(below) for below in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _plain(below) for name, below in value.items() if name not in {"default", "title", "description"}}
    if "properties" in value:  # whose names may be anything
        plain["properties"] = {name: _plain(below) for name, below in value["properties"].items()}
    return plain


def _documented(name: str) -> tuple[str, dict[str, str]]:
    """What the document says about an event and its fields, without its links."""
    document, heading = DOCUMENT.read_text(encoding="utf-8"), f"\n### `{name}`\n"
    assert heading in document, f"{DOCUMENT} says nothing about {name}"
    section = document.split(heading)[1].split("\n### ")[0].split("\n## ")[0]
    section = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", section)
    about = " ".join(section.strip().split("\n\n")[0].split())
    return about, dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", section, re.MULTILINE))


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
