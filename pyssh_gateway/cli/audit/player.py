"""Plays a recording on a terminal, as fast as somebody wants it: pause, speed, places to jump to."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from pyssh_gateway.audit.recordings.outline import Outline
from pyssh_gateway.audit.recordings.reading import Recording
from pyssh_gateway.cli.audit.stage import Stage
from pyssh_gateway.cli.output import raw_terminal
from pyssh_gateway.cli.output.raw_terminal import RawTerminal
from pyssh_gateway.core.recordings.asciicast import Event

KEYS = "q quit  space pause  . step  +- speed  arrows go  [] command  nN hits  home end"
"""What `?` shows: it fits into 80 columns."""

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
STEPS = {"left": -5.0, "right": 5.0, "<": -5.0, ">": 5.0, "down": -60.0, "up": 60.0}
"""In seconds of the recording."""

LATE_SECONDS = 0.25
"""If showing takes longer than the recording, what follows is not hurried by more than this."""

AT_ONCE = 64
"""Events that are shown together when they are due at once."""

TICK = 0.5
"""How often the line about the recording is written anew, and a change of the window's size is noticed."""


class Player:
    """`open_recording` begins anew. `hits` are times that somebody looks for; with some, it begins paused at the first.

    `idle_limit` is the longest wait for anything to happen, in seconds.
    """

    def __init__(
        self,
        terminal: RawTerminal,
        open_recording: Callable[[], Recording],
        outline: Outline,
        *,
        speed: float,
        idle_limit: float,
        hits: Sequence[float],
    ) -> None:
        self._terminal = terminal
        self._open = open_recording
        self._outline = outline
        self._speed = speed
        self._idle_limit = idle_limit
        self._hits = hits
        self._recording = open_recording()
        self._stage = Stage(terminal, self._recording.header)
        self._events = _events(self._recording)
        self._next: Event | None = None
        self._at = 0.0
        self._due = 0.0
        self._paused = False
        self._said_size = ""

    def run(self, at: float) -> None:
        """Play from that time on until the end, or until somebody has seen enough."""
        try:
            self._jump(at)
            self._pause(bool(self._hits) and self._terminal.has_keys)
            while not self._is_over():
                self._turn()
        finally:
            self._stage.leave()
            self._recording.close()

    def _is_over(self) -> bool:
        """At the end somebody may still go back, if it was paused or jumped to there."""
        return self._next is None and not self._paused

    def _turn(self) -> None:
        now = time.monotonic()
        wait = TICK if self._paused else max(0.0, min(self._due - now, TICK))
        key = self._terminal.key(wait) if wait or self._terminal.has_keys else ""
        if self._terminal.resized:
            self._terminal.resized = False
            self._stage.redraw()
        if key:
            self._press(key)
        elif not self._paused and time.monotonic() >= self._due:
            self._show_due()
        self._say()

    def _show_due(self) -> None:
        now = time.monotonic()
        self._due = max(self._due, now - LATE_SECONDS)
        shown: list[Event] = []
        while self._next is not None and self._due <= now and len(shown) < AT_ONCE:
            shown.append(self._step())
        self._stage.show(shown)

    def _step(self) -> Event:
        """Take the next event, and plan the one after it."""
        event = self._next
        assert event is not None  # noqa: S101 - callers look
        self._at = event.at
        self._next = next(self._events, None)
        if self._next is not None:
            self._due += min(self._next.at - self._at, self._idle_limit) / self._speed
        return event

    def _jump(self, at: float) -> None:
        """Show the screen as it was at that time."""
        self._recording.close()
        self._recording = self._open()
        self._events = _events(self._recording)
        self._next = next(self._events, None)
        self._at = 0.0
        self._stage.draw(self._until(max(at, 0.0)))
        self._due = time.monotonic() + (TICK if self._next is not None else 0.0)

    def _until(self, at: float) -> Iterator[Event]:
        while self._next is not None and self._next.at <= at:
            yield self._step()

    def _pause(self, paused: bool) -> None:
        if self._paused and not paused:
            if self._stage.is_covered:
                self._stage.redraw()
            self._due = time.monotonic()
        self._paused = paused

    def _press(self, key: str) -> None:
        match key:
            case "Q" | "\x03" | "\x04" | raw_terminal.QUIT:
                self._next, self._paused = None, False
            case " ":
                self._pause(not self._paused)
            case ".":
                self._pause(True)
                if self._next is not None:
                    self._stage.show([self._step()])
            case "+" | "=" | "-" | "_":
                place = min(range(len(SPEEDS)), key=lambda each: abs(SPEEDS[each] - self._speed))
                self._speed = SPEEDS[max(0, min(place + (1 if key in "+=" else -1), len(SPEEDS) - 1))]
                self._due = min(self._due, time.monotonic() + self._idle_limit / self._speed)
            case "home" | "g":
                self._jump(0.0)
            case "end" | "G":
                self._pause(True)
                self._jump(self._outline.seconds)
            case "?":
                self._explain()
            case _ if key in STEPS:
                self._jump(self._stepped(STEPS[key]))
            case "[" | "]" | "n" | "N":
                times = self._hits if key in "nN" else [place.at for place in self._outline.places]
                self._jump_to_one(times, forward=key in "]n", stay=key in "nN")

    def _explain(self) -> None:
        """Show the keys, until one is pressed, which does what it does."""
        self._pause(True)
        self._stage.say(KEYS, cover=True)
        key = ""
        while not key and not self._terminal.resized:
            key = self._terminal.key(TICK)
        if key != "?":
            self._press(key)

    def _stepped(self, seconds: float) -> float:
        """So many seconds further; over a time in which nothing happened, to what happened then."""
        if seconds > 0 and self._next is not None:
            return max(self._at + seconds, self._next.at)
        return self._at + seconds

    def _jump_to_one(self, times: Sequence[float], *, forward: bool, stay: bool) -> None:
        place = bisect_right(times, self._at) if forward else bisect_left(times, self._at) - 1
        if 0 <= place < len(times):
            self._jump(times[place])
            self._pause(self._paused or stay)

    def _say(self) -> None:
        where = f"{_clock(self._at)} / {_clock(self._outline.seconds)}  {self._speed:g}x"
        places = bisect_right(self._outline.places, self._at, key=lambda place: place.at)
        label = self._outline.places[places - 1].label if places else ""
        small = self._stage.too_small
        hits = bisect_right(self._hits, self._at)
        hit = f"hit {hits} of {len(self._hits)}" if hits else ""
        paused = "paused" if self._paused else ""
        line = "  ".join(each for each in (paused, small, where, label, hit, "? keys") if each)
        if line != self._said_size or self._paused:
            self._stage.say(line, cover=self._paused)
            self._said_size = line


def _events(recording: Recording) -> Iterator[Event]:
    while (found := recording.read()) is not None:
        yield from found


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
