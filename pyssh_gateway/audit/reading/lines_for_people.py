"""Lines of the log as the server prints them on a terminal, from the log's files.

A line of the log is not trusted: everything in it is made printable once more, and an event of another version is
shown by its names and values.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from pyssh_gateway.audit.human import MAX_LINE
from pyssh_gateway.audit.human_view import HumanView
from pyssh_gateway.audit.reading.choosing import Fields, time_of
from pyssh_gateway.core.plain_json import with_texts
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import AnyEvent, Record

_OWN = frozenset({"ts", "seq", "event"})


def clean(text: str) -> str:
    """`text` without characters that don't print."""
    return text if text.isprintable() else printable(text)


def event_of(fields: Fields) -> AnyEvent | None:
    """The event, with texts that are safe to print; None for one of another version."""
    kept = with_texts(fields, clean)
    if fields.get("event") == "internal.error" and isinstance(error := fields.get("error"), str):
        kept = {**kept, "error": printable_lines(error)}  # type: ignore[dict-item]  # fields are of any type
    try:
        event: AnyEvent = msgspec.convert(kept, AnyEvent)
    except (msgspec.ValidationError, OverflowError):
        return None
    return event


def printable_lines(text: str) -> str:
    """`text` with its newlines, and without other characters that don't print."""
    return "\n".join(map(clean, text.split("\n")))


class PeopleView:
    """The lines for events in their order; each day begins with its date."""

    def __init__(self, *, colour: bool) -> None:
        self._view = HumanView(colour=colour)
        self._day = ""

    def show(self, fields: Fields) -> Iterator[str]:
        """The lines to print now that this event has come: it completes events before it, or waits for another."""
        time = time_of(fields)
        yield from self._view.overdue(time)
        day = datetime.fromtimestamp(time, UTC).strftime("%a %Y-%m-%d")
        if day != self._day:
            yield from self._view.rest()
            self._day = day
            yield f"--- {day} (UTC) ---"
        event = event_of(fields)
        if event is None:
            yield _unknown(fields, time)
        else:
            yield from self._view.show(Record(0, time, event))

    def overdue(self, now: float) -> list[str]:
        """The lines of events that have waited for long enough."""
        return self._view.overdue(now)

    def rest(self) -> list[str]:
        """The lines of all events that still wait."""
        return self._view.rest()


def _unknown(fields: Fields, time: float) -> str:
    clock = datetime.fromtimestamp(time, UTC).strftime("%H:%M:%SZ")
    values = [
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in fields.items()
        if name not in _OWN and value not in ("", None)
    ]
    return clean(" ".join([clock, str(fields["event"]), *values])[:MAX_LINE])
