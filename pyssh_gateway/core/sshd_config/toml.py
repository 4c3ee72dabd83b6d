"""Our configuration as a TOML file (toml.io, version 1.0). Pure."""

import json
from collections.abc import Iterable, Mapping


def to_toml(tables: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """Tables with their headers, such as `[listen]`. Values are strings, numbers, booleans, and lists of these."""
    return "\n".join(
        "\n".join([head, *(f"{key} = {_value(value)}" for key, value in table.items()), ""]) for head, table in tables
    )


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    # JSON's strings are valid in TOML, except that DEL has to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
