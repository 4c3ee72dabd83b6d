"""`audit export`: the log's events in another format."""

from collections.abc import Callable, Iterator
from functools import partial
from socket import gethostname

from pyssh_gateway.audit.reading.choosing import Choice, Chosen, Event, first_to_last
from pyssh_gateway.audit.reading.raw_lines import escaped, raw_line
from pyssh_gateway.audit.reading.tables import rows
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.audit.wanted import events, logged, network, span
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given


def export(given: Given, context: Context) -> int:
    """Print the wanted events."""
    since, until = span(given)
    chosen = Chosen(
        since=since,
        until=until,
        events=events(given.event),
        person=logged(given.person),
        user=logged(given.user),
        network=network(given),
    )
    choice = Choice(chosen)
    with readable():
        for line in _FORMATS[given.format](first_to_last(audit_dir(given, context), choice, since)):
            printing.write(line)
    for problem in choice.problems():
        printing.remark(problem)
    return FINE


def _jsonl(events: Iterator[Event]) -> Iterator[str]:
    return (f"{raw_line(event)}\n" for event in events)


def _csv(events: Iterator[Event]) -> Iterator[str]:
    return rows(event.fields for event in events)


def _ecs(events: Iterator[Event]) -> Iterator[str]:
    from pyssh_gateway.audit.mapping.ecs import to_ecs  # late: a large table, for this format only

    return _translated(events, partial(to_ecs, host=gethostname()))


def _ocsf(events: Iterator[Event]) -> Iterator[str]:
    from pyssh_gateway.audit.mapping.ocsf import to_ocsf  # late, as above

    return _translated(events, partial(to_ocsf, host=gethostname()))


def _translated(events: Iterator[Event], to: Callable[[dict[str, object]], dict[str, object] | None]) -> Iterator[str]:
    from msgspec import json

    for event in events:
        found = to(event.fields)
        if found is not None:
            yield f"{escaped(json.encode(found).decode())}\n"


_FORMATS: dict[str, Callable[[Iterator[Event]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "ecs": _ecs,
    "ocsf": _ocsf,
}
