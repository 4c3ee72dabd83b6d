"""`config show`: every value in force, and its origin."""

from collections.abc import Iterable, Sequence

import msgspec

from pyssh_gateway.cli.configuration.effective import Value, effective
from pyssh_gateway.cli.configuration.lookup import Lookup, find
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config.source import ConfigError, quoted

MAX_COLUMN = 40
"""Width of the column of values in characters; longer values push the rest of their line aside."""


class ShowReport(msgspec.Struct, frozen=True):
    """The values, and their sources: a file (empty for none) and variables of the environment.

    `in_force` false: the running server has other values until it reloads.
    """

    file: str
    variables: tuple[str, ...]
    in_force: bool
    values: tuple[Value, ...]


def show(given: Given, context: Context) -> int:
    """Show the values below a key, or all; with `changed` only those that differ from the default."""
    found = find(context)
    if found.config is None or found.raw is None:
        raise ConfigError(found.problems)
    values = tuple(effective(found.raw, found.config))
    if given.key:
        values = _below(values, given.key)
    if given.changed:
        values = tuple(value for value in values if value.origin != "default")
    if given.json:
        printing.json(ShowReport(found.file, found.variables, found.in_force, values), found.server)
    else:
        printing.lines([f"# {found.described}", *_lines(values)])
    for remark in remarks(found):
        printing.remark(remark)
    return FINE


def remarks(found: Lookup) -> list[str]:
    """Remarks for the reader about the configuration that was found."""
    told = [found.remark] if found.remark else []
    if not found.in_force:
        again = f"kill -HUP {found.pid} has it read this one; its log says what needs a restart"
        told.append(f"the server that runs has another configuration in force: {again}")
    return told


def _below(values: Sequence[Value], key: str) -> tuple[Value, ...]:
    found = tuple(value for value in values if value.key == key or value.key.startswith((f"{key}.", f"{key}[")))
    if not found:
        import difflib  # late: only a mistake needs it

        known = [value.key for value in values] + sorted({value.key.partition(".")[0] for value in values})
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "config show lists them"
        raise WrongUsage(f"there is no key {quoted(key)}", hint)
    return found


def _lines(values: Iterable[Value]) -> list[str]:
    rows = [(value.key, value.text, origin_of(value)) for value in values]
    first = max((len(key) for key, *_ in rows), default=0)
    second = max((len(text) for _, text, _ in rows if len(text) <= MAX_COLUMN), default=0)
    return [f"{key:<{first}} = {text:<{second}}  # {origin}" for key, text, origin in rows]


def origin_of(value: Value) -> str:
    """The origin of a value, for people."""
    match value.origin:
        case "environment":
            return f"environment {value.name}"
        case "command-line":
            return "command line"
        case _:
            return value.name or value.origin
