"""What is recorded of each session: it is passed to the recorder, and the log is told how complete the recording is."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from pyssh_gateway.core.recordings.rules import Kind, Recorded
from pyssh_gateway.events import RecordingEnded, RecordingStarted
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.ipc.recorder import Begin, Closed, FromRecorder, Opened, What
from pyssh_gateway.postauth.recording.feed import Feed

ANSWER_SECONDS = 5.0
"""How long the end of a session waits for the recorder's word on its recording. The recorder answers in milliseconds,
unless its disk hangs, or there is none."""

STOP_SECONDS = 0.25
"""How long the event of a connection's end waits for these: half of what a stop waits for connections to end."""

LOST = "the recorder ended"
UNANSWERED = "the recorder did not answer"
FULL = "the recorder did not keep up"

_SIGNALLED = 128
"""Added to the number of the signal that has ended a process, as shells do: asciicast knows exit statuses only."""


class Exit(Protocol):
    """How a process has ended: one of both is set."""

    @property
    def status(self) -> int | None:
        """Its exit status."""

    @property
    def signal(self) -> int | None:
        """The number of the signal that has ended it."""


class Subject(msgspec.Struct, frozen=True):
    """The session that is recorded. `command` and `term` are text as bytes (PEP 383)."""

    conn: str
    session: str
    user: str
    kind: Kind
    command: bytes
    term: bytes
    size: tuple[int, int]
    """Columns and rows."""


class Tapes:
    """The recordings of all sessions of this process. `publish` gets what the log is told of them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, publish: Callable[[Told], None], now: Callable[[], float]
    ) -> None:
        self.feed = Feed(loop, on_answer=self._answered, on_lost=self._lost)
        self.publish, self.now, self.loop = publish, now, loop
        self._last_number = 0
        self._running: dict[int, Tape] = {}
        self._waiting: dict[str, Callable[[], None]] = {}

    def __iter__(self) -> "Iterator[Tape]":
        """Those of which the log has not been told the end."""
        return iter(self._running.values())

    def __len__(self) -> int:
        """How many recordings the log has not been told the end of."""
        return len(self._running)

    def begin(self, subject: Subject, recorded: Recorded) -> "Tape":
        """Record a session from now on."""
        tape = Tape(self, subject, recorded)
        tape.begin()
        return tape

    def when_told(self, conn: str, do: Callable[[], None]) -> None:
        """Call `do` when the log has been told of the ends of all recordings of the connection, which is over.

        So a stop, which waits for the ends of connections only, has them in the log. It can't wait for long.
        """
        if all(tape.conn != conn for tape in self):
            do()
            return
        self._waiting[conn] = do
        self.loop.call_later(STOP_SECONDS, self._told, conn)

    def _told(self, conn: str) -> None:
        do = self._waiting.pop(conn, None)
        if do is not None:
            do()

    def enter(self, tape: "Tape") -> int:
        """A number for a recording of `tape`, under which it gets the recorder's answers."""
        self._last_number += 1
        self._running[self._last_number] = tape
        return self._last_number

    def leave(self, number: int) -> None:
        """The recording is over, as far as the log is concerned."""
        tape = self._running.pop(number, None)
        if tape is not None and tape.conn in self._waiting and all(tape.conn != other.conn for other in self):
            self.loop.call_soon(self._told, tape.conn)  # after what this one has to tell

    def _answered(self, answer: FromRecorder) -> None:
        tape = self._running.get(answer.recording)
        if tape is not None:
            tape.answered(answer)

    def _lost(self, left: dict[int, int]) -> None:
        for number, tape in tuple(self._running.items()):
            tape.lost(left.get(number, 0))


class Tape:
    """The recording of one session, in one part, or in several if a recorder has ended."""

    def __init__(self, tapes: Tapes, subject: Subject, recorded: Recorded) -> None:
        self._tapes, self._feed = tapes, tapes.feed
        self.conn = subject.conn
        self._subject = subject
        self._size = subject.size
        self.with_input = recorded.input
        self._publish, self._now, self._loop = tapes.publish, tapes.now, tapes.loop
        self._part = 0
        self._number = 0  # 0: nothing is recorded any more
        self._began = 0.0
        self._file = ""
        self._missing = 0
        self._all_missing = 0
        self._unheard = 0  # what was sent to a recorder that has not said that it records this
        self._session_over = False
        self._deadline: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin the next part."""
        self._part += 1
        self._number = self._tapes.enter(self)
        self._began, self._file, self._unheard = self._now(), "", 0
        if not self._feed.has_room_for_more:
            self._over(FULL, 0)
            return
        subject = self._subject
        columns, rows = self._size
        begin = Begin(
            subject.session,
            self._part,
            subject.kind,
            subject.command[: messages.MAX_COMMAND],
            subject.term[: messages.MAX_TERM],
            *(min(max(each, 0), 65535) for each in (columns, rows)),
        )
        self._feed.add(self._number, "begin", 0, messages.beginning(begin))

    # -- what happens in the session --------------------------------------------------------------------------------

    def output(self, data: bytes, *, errors: bool = False) -> None:
        """The client was sent this."""
        if not self._number:
            return
        feed = self._feed
        if errors or self._missing or feed.is_full or not self._file:
            self._data("errors" if errors else "output", data)
        else:
            feed.add(self._number, "output", int((self._now() - self._began) * 1e6), data)

    def input(self, data: bytes) -> None:
        """The client has sent this, and the terminal shows it."""
        if self._number and self.with_input:
            self._data("input", data)

    def resized(self, columns: int, rows: int) -> None:
        """The terminal has this size from now on."""
        self._size = columns, rows
        if self._number and not self._missing and not self._feed.is_full:
            self._add("resize", messages.terminal_size(columns, rows))

    def ends(self, exit_: Exit | None) -> None:
        """The session is over; its process has ended with `exit_`, or goes on if that is None."""
        self._session_over = True
        if not self._number:
            return
        self._say_missing()
        if exit_ is not None:
            status = exit_.status if exit_.status is not None else _SIGNALLED + (exit_.signal or 0)
            self._add("exit", messages.count(status))
        self._add("end")
        self._feed.send()
        self._deadline = self._loop.call_later(ANSWER_SECONDS, self._over, UNANSWERED, None)

    def _data(self, what: What, data: bytes) -> None:
        if self._feed.is_full:
            self._missing += len(data)
            self._all_missing += len(data)
            return
        if self._missing:
            self._say_missing()
        if not self._file:
            self._unheard += len(data)
        self._add(what, data)

    def _say_missing(self) -> None:
        """What was dropped is missing here. The terminal's size may have changed meanwhile."""
        if self._missing:
            self._add("missing", messages.count(self._missing))
            self._add("resize", messages.terminal_size(*self._size))
            self._missing = 0

    def _add(self, what: What, data: bytes = b"") -> None:
        if not self._number:  # there is no recording 0: the recorder would have this process killed
            return
        self._feed.add(self._number, what, int((self._now() - self._began) * 1e6), data)

    # -- what the recorder does ---------------------------------------------------------------------------------------

    def answered(self, answer: FromRecorder) -> None:
        """The recorder says that this has begun, or has ended."""
        match answer:
            case Opened(file=file):
                self._file = file
                subject = self._subject
                self._publish(
                    RecordingStarted(
                        conn=subject.conn,
                        session=subject.session,
                        user=subject.user,
                        file=file,
                        input=self.with_input,
                    )
                )
            case Closed(reason=reason, recorded=recorded):
                self._over(reason, recorded)

    def lost(self, left: int) -> None:
        """The recorder has ended, while `left` bytes were on their way: go on with the next one, in a new part."""
        if not self._file:
            left = self._unheard
        self._all_missing += left
        if self._file or self._session_over:
            self._over(LOST, None)
        else:  # it had not heard of this
            self._tapes.leave(self._number)
            self._part -= 1
        if not self._session_over:
            self._missing += left
            self.begin()

    def _over(self, reason: str, recorded: int | None) -> None:
        """The part has ended: tell the log."""
        subject = self._subject
        self._tapes.leave(self._number)
        self._number = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._publish(
            RecordingEnded(
                conn=subject.conn,
                session=subject.session,
                user=subject.user,
                file=self._file,
                reason=reason,
                bytes=recorded,
                missing=self._all_missing,
                seconds=round(self._now() - self._began, 3),
            )
        )
        self._all_missing = 0
