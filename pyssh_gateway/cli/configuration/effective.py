"""Every value in force with its origin, written as in the file."""

import json
import typing
from collections.abc import Iterator, Mapping

import msgspec

from pyssh_gateway.config.sizes import Size, format_size
from pyssh_gateway.config.source import RawConfig, join, kind_of_origin
from pyssh_gateway.config.types import Config
from pyssh_gateway.config.values import Duration, Secret, format_duration
from pyssh_gateway.core.login_rules import in_force

NOT_SHOWN = "(set, not shown)"

_WORDS_FOR_NONE = {"idle.boot_grace": "timeout"}
_OFF = "off"


class Value(msgspec.Struct, frozen=True):
    """A value. `value` is it as a file would have it, None for a `secret` that is set; `text` is the same as TOML.

    `origin` is default, file, environment or command-line; `name` is that of the file or the variable.
    """

    key: str
    value: object
    text: str
    origin: str
    name: str
    secret: bool = False


def effective(raw: RawConfig, config: Config) -> Iterator[Value]:
    """All values of `config`, which was parsed from `raw`, in the order of the types."""
    logins = tuple(in_force(login, config.forwarding) for login in config.login)
    config = msgspec.structs.replace(config, login=logins)
    return _table(config, raw.values, "", "", raw.origins)


def _table(
    table: msgspec.Struct, given: object, path: str, inherited: str, origins: Mapping[str, str]
) -> Iterator[Value]:
    """The values of a table. `given` is the table as written, `inherited` the origin of values without their own."""
    written: Mapping[str, object] = given if isinstance(given, dict) else {}
    for field in msgspec.structs.fields(table):
        below, value = join(path, field.name), getattr(table, field.name)
        origin = origins.get(below, inherited)
        entry = written.get(field.name)
        if isinstance(value, msgspec.Struct):
            yield from _table(value, entry, below, origin, origins)
        elif _is_tables(value):
            entries = entry if isinstance(entry, list | tuple) else ()
            for index, (one, each) in enumerate(zip(value, entries, strict=False)):
                yield from _table(one, each, f"{below}[{index}]", origin, origins)
        else:
            yield _leaf(below, value, origin if field.name in written else "")


def _is_tables(value: object) -> typing.TypeGuard[tuple[msgspec.Struct, ...]]:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], msgspec.Struct)


def _leaf(key: str, value: object, origin: str) -> Value:
    kind, name = kind_of_origin(origin)
    if any(isinstance(each, Secret) and each for each in (value if isinstance(value, tuple) else (value,))):
        return Value(key, None, NOT_SHOWN, kind, name, secret=True)
    plain = _plain(key, value)
    return Value(key, plain, toml(plain), kind, name)


def _plain(key: str, value: object) -> object:
    """The value as it is written in a file."""
    if value is None:
        return _WORDS_FOR_NONE.get(key, _OFF)
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return format_size(value)
    if isinstance(value, tuple):
        return [_plain(key, entry) for entry in value]
    return str(value) if isinstance(value, str) else value


def toml(value: object) -> str:
    """A plain value in TOML: for strings, numbers, booleans and lists it is the same as JSON, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
