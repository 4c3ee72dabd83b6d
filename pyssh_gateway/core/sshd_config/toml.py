"""Our configuration as a TOML file (toml.io, version 1.0). Pure."""

import json
from collections.abc import Iterable, Mapping


def to_toml(tables: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """Tables with their heads, such as `[listen]`. Values are texts, numbers, truth values, and lists of these."""
    return "\n".join(
        "\n".join([head, *(f"{key} = {_value(value)}" for key, value in table.items()), ""]) for head, table in tables
    )


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    # JSON's texts are TOML's, but that DEL has to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
