#!/usr/bin/env python3
"""Write what the tests need of ECS and OCSF: names, types, enums and constraints, of what we map to.

    git clone -b v9.4.0 https://github.com/elastic/ecs
    git clone -b v1.8.0 https://github.com/ocsf/ocsf-schema
    scripts/other_schemas.py ecs ocsf-schema

Both schemas are under the Apache License 2.0. Descriptions are left out.
"""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "tests" / "unit" / "audit" / "mapping"

ECS_FIELDS = (
    "@timestamp",
    "message",
    *("ecs.version", "host.name", "service.name", "service.type", "service.version", "server.address", "server.ip"),
    *("server.port", "user.name", "user.id", "related.user", "related.hash", "related.ip", "error.code"),
    *("source.address", "source.ip", "source.port", "source.bytes", "destination.address", "destination.ip"),
    *("destination.port", "destination.bytes", "network.type", "network.protocol", "network.transport"),
    *("network.bytes", "process.pid", "process.exit_code", "process.command_line", "process.interactive"),
    *("file.path", "file.target_path", "error.stack_trace", "event.kind", "event.module", "event.dataset"),
    *("event.action", "event.sequence", "event.category", "event.type", "event.outcome", "event.duration"),
    "event.reason",
)

OCSF_EVENTS = (
    *("base_event", "system/system", "system/file_activity", "system/process_activity", "iam/iam"),
    *("iam/authentication", "network/network", "network/network_activity", "network/ssh_activity"),
    *("network/tunnel_activity", "application/application", "application/application_lifecycle"),
    "application/application_error",
)
OCSF_OBJECTS = (
    *("object", "_entity", "metadata", "product", "endpoint", "network_endpoint", "network_proxy", "network_traffic"),
    *(
        "network_connection_info",
        "hassh",
        "fingerprint",
        "process_entity",
        "process",
        "file",
        "actor",
        "user",
        "account",
    ),
    *("session", "device", "service"),
)


def main(ecs: Path, ocsf: Path) -> None:
    """Write both files."""
    _write("ecs.json", ecs, ecs_subset(ecs))
    _write("ocsf.json", ocsf, ocsf_subset(ocsf))


def ecs_subset(ecs: Path) -> dict[str, Any]:
    """`fields`: name -> type, and whether it is an array; `expected`: category -> types; `values`: field -> values."""
    with (ecs / "generated" / "csv" / "fields.csv").open(encoding="utf-8") as file:
        rows = {row["Field"]: row for row in csv.DictReader(file)}
    flat = (ecs / "generated" / "ecs" / "ecs_flat.yml").read_text(encoding="utf-8")
    allowed = {name: _allowed(flat, name) for name in ("event.kind", "event.category", "event.type", "event.outcome")}
    return {
        "version": (ecs / "version").read_text(encoding="utf-8").strip(),
        "fields": {n: {"type": rows[n]["Type"], "array": "array" in rows[n]["Normalization"]} for n in ECS_FIELDS},
        "values": {name: list(values) for name, values in allowed.items()},
        "expected": allowed["event.category"],
    }


def _allowed(flat: str, field: str) -> dict[str, list[str]]:
    """The allowed values of a field of ecs_flat.yml, and the types that each one expects."""
    [section] = re.findall(rf"^{re.escape(field)}:\n((?: .*\n|\n)+)", flat, re.MULTILINE)
    values = section.split("allowed_values:\n")[1].split("\n  - description: ")
    found: dict[str, list[str]] = {}
    for value in values:
        [name] = re.findall(r"^    name: (\S+)$", value, re.MULTILINE)
        found[name] = re.findall(r"^    - (\S+)$", value, re.MULTILINE)
    return found


def ocsf_subset(ocsf: Path) -> dict[str, Any]:
    """`classes` and `objects` with what they inherit; the dictionary's attributes; `types`: name -> what it is."""
    dictionary = _json(ocsf, "dictionary.json")
    classes = {path.rpartition("/")[2]: _json(ocsf, f"events/{path}.json") for path in OCSF_EVENTS}
    objects = {name: _json(ocsf, f"objects/{name}.json") for name in OCSF_OBJECTS}
    host = _json(ocsf, "profiles/host.json")["attributes"]
    base = classes["base_event"]["attributes"]
    base.update({name: value | {"profile": "host"} for name, value in host.items()})
    used = {name for kind in (*classes.values(), *objects.values()) for name in kind["attributes"]} - {"$include"}
    categories = _json(ocsf, "categories.json")["attributes"]
    return {
        "version": _json(ocsf, "version.json")["version"],
        "categories": {name: {"uid": it["uid"], "caption": it["caption"]} for name, it in categories.items()},
        "classes": {name: _kind(kind) for name, kind in classes.items()},
        "objects": {name: _kind(kind) for name, kind in objects.items()},
        "attributes": {name: _attribute(it) for name, it in dictionary["attributes"].items() if name in used},
        "types": {
            name: {key: it[key] for key in ("type", "range", "max_len", "values") if key in it}
            for name, it in dictionary["types"]["attributes"].items()
        },
    }


def _kind(kind: dict[str, Any]) -> dict[str, Any]:
    kept = {key: kind[key] for key in ("extends", "uid", "caption", "category", "constraints") if key in kind}
    attributes = {name: _attribute(it) for name, it in kind["attributes"].items() if name != "$include"}
    return kept | {"attributes": attributes}


def _attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: attribute[key] for key in ("type", "is_array", "requirement") if key in attribute}
    if "profile" in attribute:  # null: the class has it without one
        kept["profile"] = attribute["profile"]
    if "enum" in attribute:
        kept["enum"] = {number: it["caption"] for number, it in attribute["enum"].items()}
    return kept


def _json(checkout: Path, path: str) -> Any:  # noqa: ANN401 - as it is published
    return json.loads((checkout / path).read_text(encoding="utf-8"))


def _write(name: str, checkout: Path, subset: dict[str, Any]) -> None:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    source = {"ecs.json": "https://github.com/elastic/ecs", "ocsf.json": "https://github.com/ocsf/ocsf-schema"}[name]
    head = {"source": source, "commit": commit, "license": "Apache-2.0", "made_by": "scripts/other_schemas.py"}
    (DATA / name).write_text(json.dumps(head | subset, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
