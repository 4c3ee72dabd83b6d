"""The events as a watching person sees them, without repetition: one line for a login, and one for its end.

A login of a shell is five events: a connection, an acceptable key, its signature, the login, a session. Each repeats
the one before. So an event waits for a moment for the next one, which says more, and is shown alone if none comes. The
log file has every event. This module does not know how a line is written.
"""

import os

from pyssh_gateway import events as ev
from pyssh_gateway.audit.human import human_line, login_line, logout_line

HELD_SECONDS = 1.0
"""How long an event waits for the next one: two round trips to the other end of the world, which a client takes from
its login to its session."""

MAX_FOLLOWED = 1000
"""Connections whose story is kept; further ones get a line for each event. A person can hardly watch more."""


def wants_human(fd: int, log_format: str) -> bool:
    """Whether `fd` gets human-readable lines: `log_format` is "human", "json" or "auto" (human on a terminal)."""
    return os.isatty(fd) if log_format == "auto" else log_format == "human"


def wants_colour(fd: int, term: str | None, no_color: str | None) -> bool:
    """Whether `fd` gets colours: a terminal whose TERM is known and not "dumb", and NO_COLOR is unset or empty."""
    return not no_color and term not in (None, "", "dumb") and os.isatty(fd)


class _Story:
    """The state of a connection: the events that wait to be shown, and whether it had just one session."""

    def __init__(self) -> None:
        self.proxy = ""
        self.waiting: list[ev.Record] = []
        self.sessions = 0


class HumanView:
    """The lines for records, in their order. Times are the records'."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._stories: dict[str, _Story] = {}

    @property
    def holds(self) -> bool:
        """Whether an event waits to be shown."""
        return any(story.waiting for story in self._stories.values())

    def show(self, record: ev.Record) -> list[str]:
        """The lines to show now that `record` has come."""
        event = record.event
        if isinstance(event, ev.ConnectionOpened) and len(self._stories) < MAX_FOLLOWED:
            story = self._stories[event.conn] = _Story()
            story.proxy = event.proxy
            story.waiting = [record]
            return []
        conn = getattr(event, "conn", "")
        if conn not in self._stories:
            return [self._line(record)]
        lines = self._go_on(self._stories[conn], record)
        if isinstance(event, ev.ConnectionClosed):
            del self._stories[conn]
        return lines

    def overdue(self, now: float) -> list[str]:
        """The lines of the events that have waited for long enough."""
        lines = []
        for story in self._stories.values():
            if story.waiting and now - story.waiting[-1].time >= HELD_SECONDS:
                lines += self._flush(story)
        return lines

    def rest(self) -> list[str]:
        """The lines of all events that still wait."""
        return [line for story in self._stories.values() for line in self._flush(story)]

    def _go_on(self, story: _Story, record: ev.Record) -> list[str]:
        """The lines to show when `record` is the next event on a connection."""
        waiting = story.waiting
        match record.event:
            case ev.AuthAttempt(result="denied"):
                story.waiting = _without_opening(waiting)
                return [self._line(record)]
            case ev.AuthAttempt():
                waiting.append(record)
                return []
            case ev.ConnectionAuthenticated():
                story.waiting = [record]
                return []
            case ev.SessionOpened() as opened:
                story.sessions += 1
                if waiting and isinstance(login := waiting[0].event, ev.ConnectionAuthenticated):
                    del waiting[0]
                    line = login_line(record.time, login, opened, proxy=story.proxy, colour=self._colour)
                    return [line, *self._flush(story)]
            case ev.ForwardListening() if waiting:  # of an agent or X11: it comes before the session
                waiting.append(record)
                return []
            case ev.RecordingStarted() | ev.RecordingEnded():  # beside what is told of the session
                return [self._line(record)]
            case ev.SessionClosed():
                lines = self._flush(story)
                story.waiting = [record]
                return lines
            case ev.ConnectionClosed() as closed:
                if story.sessions == 1 and waiting and isinstance(ended := waiting[-1].event, ev.SessionClosed):
                    return [logout_line(record.time, ended, closed, colour=self._colour)]
                if not closed.user:  # the address is in its last line
                    story.waiting = _without_opening(waiting)
        return [*self._flush(story), self._line(record)]

    def _flush(self, story: _Story) -> list[str]:
        waiting, story.waiting = story.waiting, []
        return [self._line(each) for each in waiting]

    def _line(self, record: ev.Record) -> str:
        return human_line(record, colour=self._colour)


def _without_opening(records: list[ev.Record]) -> list[ev.Record]:
    """The records that still have to be shown after a line has named the connection's address."""
    return [each for each in records if not isinstance(each.event, ev.ConnectionOpened)]
