"""`audit tail`: the last lines of the log, and those that follow."""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.audit.human_view import wants_colour
from pyssh_gateway.audit.reading.choosing import Choice, Chosen, Event, first_to_last, newest
from pyssh_gateway.audit.reading.damage import readable_lines
from pyssh_gateway.audit.reading.following import Follower
from pyssh_gateway.audit.reading.lines_for_people import PeopleView
from pyssh_gateway.audit.reading.raw_lines import raw_line
from pyssh_gateway.audit.segments import Line, segments
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.audit.wanted import count, events, logged, network, span
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given

LAST = 20

_TICK = "idle.tick"
"""Says every few seconds or minutes that nothing has happened: nobody wants that among the last lines."""

Print = Callable[[Event | None], None]
"""Prints an event; None: there is no more at the moment."""


def tail(given: Given, context: Context) -> int:
    """Print the wanted lines, and with --follow go on until Ctrl-C."""
    since, until = span(given)
    wanted_events = events(given.event)
    chosen = Chosen(
        since=since,
        until=until,
        events=wanted_events,
        person=logged(given.person),
        user=logged(given.user),
        conn=logged(given.conn),
        network=network(given),
        denied=given.denied,
        without=() if set(wanted_events) & {"idle", _TICK} else (_TICK,),
    )
    wanted = count("-n", given.lines)
    if wanted is None and since is None and until is None:
        wanted = LAST
    directory = audit_dir(given, context)
    choice = Choice(chosen)
    colour = not given.json and _has_colour(context)
    view = PeopleView(colour=colour)

    def show(event: Event | None) -> None:
        if given.json:
            printing.lines([] if event is None else [raw_line(event)])
        else:
            _print(view.overdue(time.time()) if event is None else view.show(event.fields), colour=colour)

    with readable():
        # Known before anything is printed: lines that are written meanwhile follow.
        last = _last_index(directory) if given.follow else None
        for event in _so_far(directory, choice, wanted, since):
            if last is None or event.index <= last:
                show(event)
        if last is not None:
            for line in Follower(directory, last).lines():
                _show_next(line, choice, show)
    if not given.json:
        _print(view.rest(), colour=colour)
    for problem in choice.problems():
        printing.remark(problem)
    return FINE


def _so_far(directory: Path, choice: Choice, wanted: int | None, since: float | None) -> Iterable[Event]:
    if wanted is None:
        return first_to_last(directory, choice, since)
    return newest(directory, choice, wanted, since) if wanted else ()


def _show_next(line: Line | None, choice: Choice, show: Print) -> None:
    """Show a line that was just written, if it is wanted; None: there is none at the moment."""
    if line is None:
        show(None)
        printing.flush()
    elif (event := choice.take(line.index, line.data)) is not None:
        show(event)


def _last_index(directory: Path) -> int:
    newest_file = segments(directory)[-1]
    last = newest_file.first - 1
    for line in readable_lines(newest_file, lambda _: None):
        last = line.index
    return last


def _print(text: Iterable[str], *, colour: bool) -> None:
    """Print lines of a `PeopleView`, which has made their text safe, and may have added colours to it."""
    for line in text:
        if colour:
            printing.write(f"{line}\n")
        else:
            printing.lines(line.split("\n"))


def _has_colour(context: Context) -> bool:
    with suppress(AttributeError, OSError, ValueError):
        return wants_colour(sys.stdout.fileno(), context.environ.get("TERM"), context.environ.get("NO_COLOR"))
    return False
