"""Events in OCSF, against the published schema (`ocsf.json`, made by scripts/other_schemas.py)."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.audit.mapping.ocsf import MAPPED, VERSION, to_ocsf
from tests.support.documented_events import corpus, documented_events

OCSF = json.loads(Path(__file__).with_name("ocsf.json").read_text())
EXAMPLES = documented_events()
MAPPED_CORPUS = [pytest.param(event, id=name) for name, event in corpus().items() if event["event"] in MAPPED]
CHECKED_AS = {"string_t": str, "long_t": int, "integer_t": int, "boolean_t": bool}


def kind_of(where: str, name: str) -> dict[str, Any]:
    """A class or object with everything that it inherits."""
    kind: dict[str, Any] = OCSF[where][name]
    parent = kind.get("extends")
    if parent is None:
        return dict(kind)
    inherited = kind_of(where, parent)
    attributes = dict(inherited["attributes"])
    for attribute, more in kind["attributes"].items():
        enum = attributes.get(attribute, {}).get("enum", {}) | more.get("enum", {})
        attributes[attribute] = attributes.get(attribute, {}) | more | ({"enum": enum} if enum else {})
    return inherited | kind | {"attributes": attributes}


def check_object(kind: dict[str, Any], value: dict[str, Any], profiles: set[str], path: str) -> None:
    """`value` has the required attributes of `kind`, only its attributes, and each has its type."""
    attributes = kind["attributes"]
    assert set(value) <= set(attributes), path
    for name, attribute in attributes.items():
        if attribute.get("requirement") == "required" and not attribute.get("profile"):
            assert name in value, f"{path}.{name}"
    if least := (kind.get("constraints") or {}).get("at_least_one"):
        assert set(least) & set(value), f"{path}: one of {least}"
    for name, below in value.items():
        attribute = OCSF["attributes"][name] | attributes[name]
        enum = OCSF["attributes"][name].get("enum", {}) | attributes[name].get("enum", {})
        if name in {"category_uid", "class_uid", "type_uid"}:
            enum = {}  # computed where the schema is published; see check_event
        assert attribute.get("profile") in {None, *profiles}, f"{path}.{name} needs a profile"
        if attribute.get("is_array"):
            assert isinstance(below, list)
            continue
        check_value(attribute, enum, below, profiles, f"{path}.{name}")
        label = "activity_name" if name == "activity_id" else name.removesuffix("_id")
        if enum and label != name and str(below) != "99" and label in value:
            assert value[label] == enum[str(below)], f"{path}.{label}"


def check_value(attribute: dict[str, Any], enum: dict[str, str], value: Any, profiles: set[str], path: str) -> None:  # noqa: ANN401 - of any type
    """`value` has the type of the attribute, and is one of the enum if there is one."""
    kind = attribute["type"]
    if kind not in OCSF["types"]:
        assert isinstance(value, dict), path
        if kind != "object":  # anything is allowed in a plain one
            check_object(kind_of("objects", kind), value, profiles, path)
        return
    if enum:
        assert str(value) in enum, path
    known = OCSF["types"][kind]
    base = known.get("type", kind)
    assert type(value) is CHECKED_AS[base], f"{path}: {value!r} is no {kind}"
    low, high = known.get("range", (None, None))
    assert low is None or low <= value <= high, path
    if kind == "ip_t":
        ip_address(str(value))


def check_event(event: dict[str, Any]) -> None:
    """Class, required attributes, names, types, enums, captions and constraints are those of the published schema."""
    made = to_ocsf(event, host="box.example")
    if made is None:
        assert event["event"] not in MAPPED or event["operation"].startswith("events.")
        return
    [name] = [name for name in OCSF["classes"] if class_uid(name) == made["class_uid"]]
    kind = kind_of("classes", name)
    profiles = set(made["metadata"].get("profiles", []))
    check_object(kind, made, profiles, name)
    assert made["class_name"] == kind["caption"]
    assert made["category_uid"] == made["class_uid"] // 1000
    assert made["category_name"] == OCSF["categories"][kind["category"]]["caption"]
    assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
    assert made["metadata"]["version"] == VERSION == OCSF["version"]


@pytest.mark.parametrize("event", MAPPED_CORPUS)
def test_every_event_is_valid(event: dict[str, Any]) -> None:
    """Protects whoever validates what they take in, as many collectors of OCSF do."""
    check_event(event)


def class_uid(name: str) -> int | None:
    """The number of a class: that of its category, and its own."""
    kind = kind_of("classes", name)
    uid = OCSF["classes"][name].get("uid")
    return None if uid is None else OCSF["categories"][kind["category"]]["uid"] * 1000 + int(uid)


def test_the_life_of_a_connection_is_ssh_activity() -> None:
    """Protects the classes and activities that docs/events.md promises."""
    uids = {name: (to_ocsf(event) or {}).get("type_uid") for name, event in EXAMPLES.items()}
    assert uids["connection.authenticated"] == 400701
    assert uids["connection.closed"] == 400702
    assert (to_ocsf(EXAMPLES["connection.closed"] | {"user": "", "identity": None}) or {})["type_uid"] == 400704
    assert uids["connection.refused"] == 400705
    assert uids["forward.listening"] == 400707
    assert uids["connection.opened"] == 400101
    assert uids["auth.attempt"] == 300201
    assert uids["session.opened"] == 100701
    assert uids["sftp.operation"] == 100103


def test_a_login() -> None:
    """Public key or certificate, the person's account, and the client as the source."""
    made = to_ocsf(EXAMPLES["connection.authenticated"]) or {}
    assert (made["auth_type_id"], made["auth_type"]) == (6, "Public Key")
    assert made["src_endpoint"] == {"ip": "203.0.113.5"}
    assert made["actor"]["user"]["account"] == {"name": "github:example", "uid": "583231"}
    assert made["duration"] == 68
    amos = {"person": "ca:amos", "id": None, "fingerprint": "SHA256:x"}
    by_certificate = EXAMPLES["connection.authenticated"] | {"identity": amos}
    assert (to_ocsf(by_certificate) or {})["auth_type"] == "Certificate Based"


def test_bytes_are_counted_from_the_source() -> None:
    """OCSF's `bytes_out` went from the source, the client, to the destination: our `bytes_in`."""
    closed = to_ocsf(EXAMPLES["connection.closed"]) or {}
    assert closed["traffic"] == {"bytes": 1209534, "bytes_in": 1204224, "bytes_out": 5310}
    back = to_ocsf(EXAMPLES["forward.closed"] | {"kind": "forwarded-tcpip", "target": "localhost:80"}) or {}
    assert (back["traffic"]["bytes_in"], back["traffic"]["bytes_out"]) == (512, 20480)


@pytest.mark.parametrize("event", MAPPED_CORPUS)
def test_nothing_is_lost(event: dict[str, Any]) -> None:
    """Each value of the event is somewhere in the result, unless it says that it does not apply."""
    made = to_ocsf(event)
    text = json.dumps(made)
    for name, value in event.items():
        if made is None or value in ("", None, []) or name in {"seconds", "target", "identity", "count"}:
            continue
        assert json.dumps(value) in text


def test_events_without_a_counterpart_are_left_out() -> None:
    """Keys, holds and what keeps the machine up have no class; nor has a line that is unknown or broken."""
    for name, event in documented_events().items():
        assert (to_ocsf(event) is not None) is (name in MAPPED)
    for line in ({}, {"event": "of.tomorrow", "ts": "2026-01-02T03:04:05Z"}, {"event": "connection.opened", "ts": "x"}):
        assert to_ocsf(line) is None
