"""How a session ends: a state machine that turns facts into due actions, and does no I/O itself.

A session ends as in sshd: when its process has been reaped and the process's output has been sent, with exit-status,
EOF, close. The facts come in any order: the exit comes from the spawner, the outputs' ends from the kernel, and the
client closes the channel, or says that it takes no more output, whenever it likes. `step` takes one fact and returns
the new state and the actions that are due now, in their order:

    state, due = step(state, fact)

Each fact is first recorded in the `State`; then the table in `_next` says what follows from everything known. Once the
channel is closed, by us or by the client, nothing is due on it any more, although every fact may still come.
"""

from enum import StrEnum, auto
from typing import assert_never

import msgspec
from msgspec.structs import replace

EOF_GRACE_SECONDS = 0.05
"""How long an EOF waits for the exit status, which arrives by another path and which some clients want first. If a
process closes its output and keeps running, its EOF is sent after this time."""

EXIT_GRACE_SECONDS = 0.05
"""How long the exit status waits for the end of output, so that clients usually get it last; sshd sends it at once. It
also waits while the client does not read its output."""

DRAIN_BYTES = 128 * 1024
"""How much is read from a pty after its process has ended. The kernel holds at most 64 KiB for a pty; what comes beyond
is a background process's, and sshd cuts that off, too."""

INPUT_SECONDS = 5.0
"""How long a process may take to read what the client sent before it closed the channel; sshd would wait for ever."""


class Channel(StrEnum):
    """The channel: open, closed by us, or (before that) closed by the client or with its connection."""

    OPEN = auto()
    CLOSED = auto()
    GONE = auto()


class Way(StrEnum):
    """The way to the client: free; busy (the network takes no more, but all output has left the channel); window full.

    Only in the last case does output wait in the channel.
    """

    FREE = auto()
    BUSY = auto()
    FULL = auto()


class Timer(StrEnum):
    """The timers: an EOF waits for the exit; the exit status waits for the end of output; silence after the exit."""

    EOF = auto()
    EXIT = auto()
    LINGER = auto()


class Ending(StrEnum):
    """Why a session has ended, for the log. `LEFT_OPEN`: its process has ended, but others held its output open.

    `KEY_REVOKED` is set by the session, not here; everything that runs in the session is ended, too.
    """

    EXITED = auto()
    LEFT_OPEN = auto()
    CHANNEL_CLOSED = auto()
    CONNECTION_LOST = auto()
    SERVER_STOPPED = auto()
    KEY_REVOKED = auto()


# -- facts ------------------------------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True):
    """The process was started, with a pty (`terminal`) or with pipes. The request is answered after this.

    `ended`: all its output is closed already, because the client has refused it. `linger` is how many seconds output
    that other processes hold open may be silent after the exit; None: for ever.
    """

    terminal: bool
    linger: float | None
    ended: bool = False


class NoProcess(msgspec.Struct, frozen=True):
    """There will be no process; `reason` is a text for the client."""

    reason: str


class Exited(msgspec.Struct, frozen=True):
    """The process has been reaped; perhaps before it was known to have started."""


class OutputEnded(msgspec.Struct, frozen=True):
    """An output has been read to its end; `all`: no other is open."""

    all: bool


class OutputRefused(msgspec.Struct, frozen=True):
    """The client refuses more standard output (eow@openssh.com), so it is closed. `ended`: no other output is open."""

    ended: bool


class Output(msgspec.Struct, frozen=True):
    """The process, or another one that holds its output, wrote something."""


class WayChanged(msgspec.Struct, frozen=True):
    """The way to the client has changed. It is reported for the first time when the session's request was answered."""

    way: Way


class Drained(msgspec.Struct, frozen=True):
    """A `Drain` is done: `size` bytes were read."""

    size: int


class TimeOver(msgspec.Struct, frozen=True):
    """The time of a `Wait` has passed."""

    timer: Timer


class Stopping(msgspec.Struct, frozen=True):
    """The server stops."""


class Gone(msgspec.Struct, frozen=True):
    """The channel is gone. `lost`: its connection failed with an error."""

    lost: bool


Answer = Started | NoProcess
Fact = Answer | Exited | OutputEnded | OutputRefused | Output | WayChanged | Drained | TimeOver | Stopping | Gone

# -- what is due ------------------------------------------------------------------------------------------------


class Wait(msgspec.Struct, frozen=True):
    """Start the timer, or start it anew."""

    timer: Timer
    seconds: float


class StopWaiting(msgspec.Struct, frozen=True):
    """Cancel the timer."""

    timer: Timer


class Drain(msgspec.Struct, frozen=True):
    """Read up to `most` bytes of the pty, while there are some and the way is free. `Drained` reports how many.

    The process has ended, so only what is in the pty now counts, even if other processes hold it open (as in sshd).
    """

    most: int


class SayWhy(msgspec.Struct, frozen=True):
    """Answer the request, and say why there is no process."""

    reason: str


class TellExit(msgspec.Struct, frozen=True):
    """Send exit-status or exit-signal."""


class RefuseInput(msgspec.Struct, frozen=True):
    """Stop taking input, whatever happens to the output (as sshd: session.c, session_exit_message)."""


class SendEof(msgspec.Struct, frozen=True):
    """Send EOF."""


class Close(msgspec.Struct, frozen=True):
    """Close the channel."""


class HangUp(msgspec.Struct, frozen=True):
    """Send SIGHUP to the terminal's processes, as when its line is lost."""


class Release(msgspec.Struct, frozen=True):
    """Cancel the timers, close the descriptors and log the reason.

    `leave_outputs`: we end the session, and a process that keeps writing must not be killed by that (SIGPIPE). The
    process may read its pending input for `input_seconds` more.
    """

    ending: Ending
    input_seconds: float
    leave_outputs: bool


Due = Wait | StopWaiting | Drain | SayWhy | TellExit | RefuseInput | SendEof | Close | HangUp | Release

# -- the machine ------------------------------------------------------------------------------------------------


class State(msgspec.Struct, frozen=True):
    """The known facts of a session, and what was already made due. `unread` is how much of a pty may still be drained.

    The way counts as full until the session's request has been answered: nothing may be sent before that.
    """

    channel: Channel = Channel.OPEN
    started: Started | None = None
    exited: bool = False
    ended: bool = False
    refused: bool = False
    way: Way = Way.FULL
    stopping: bool = False
    left_open: bool = False
    exit_told: bool = False
    eof_sent: bool = False
    unread: int = DRAIN_BYTES
    drains: bool = False
    waits: frozenset[Timer] = frozenset()

    @property
    def exit_is_due(self) -> bool:
        """Whether the client waits only for the exit status: all output and EOF have been sent, or are refused.

        Refused output of a terminal does not count: its processes get SIGHUP when the client closes the channel.
        """
        if self.started is None or self.exited:
            return False
        return (self.refused and not self.started.terminal) or (self.ended and self.eof_sent)

    @property
    def lingers(self) -> bool:
        """Whether `Output` changes anything."""
        return Timer.LINGER in self.waits


Result = tuple[State, tuple[Due, ...]]


def step(state: State, fact: Fact) -> Result:
    """The state after `fact`, and what is due. An impossible fact, or one that comes too late, changes nothing."""
    if state.channel is Channel.CLOSED:
        return state, ()
    match fact:
        case Started() | NoProcess():
            return _answered(state, fact) if state.started is None else (state, ())
        case Gone():
            return _gone(state, fact)
        case Stopping():
            state = replace(state, stopping=True)
            is_on_terminal = state.started is not None and state.started.terminal and not state.exited
            return state, (HangUp(),) if is_on_terminal else ()
        case TimeOver():
            return _time_over(state, fact.timer)
        case Output():
            return _linger(state) if state.lingers else (state, ())
        case Drained():
            return _drained(state, fact.size)
        case Exited():
            return _next(replace(state, exited=True))
        case OutputEnded():
            return _next(replace(state, ended=state.ended or fact.all))
        case OutputRefused():
            return _next(replace(state, refused=True, ended=state.ended or fact.ended))
        case WayChanged():
            state = replace(state, way=fact.way)
            return _next(state) if fact.way is Way.FREE else (state, ())
    assert_never(fact)


def _answered(state: State, fact: Answer) -> Result:
    """Handle the answer whether there is a process. The client may have left meanwhile."""
    left = state.channel is Channel.GONE
    if isinstance(fact, Started):
        state = replace(state, started=fact, ended=fact.ended)
        return _release(state, Ending.CHANNEL_CLOSED) if left else (state, ())
    if left:
        return state, ()
    # As at the end of a process. There is nothing to release.
    state = replace(state, channel=Channel.CLOSED, exit_told=True, eof_sent=True)
    return state, (SayWhy(fact.reason), TellExit(), SendEof(), Close())


def _gone(state: State, fact: Gone) -> Result:
    if state.channel is Channel.GONE:
        return state, ()
    state = replace(state, channel=Channel.GONE)
    if state.started is None:
        return state, ()
    return _release(state, Ending.CONNECTION_LOST if fact.lost else Ending.CHANNEL_CLOSED)


def _next(state: State) -> Result:
    """What follows from all known facts. Called whenever one has changed."""
    started = state.started
    if started is None or state.channel is not Channel.OPEN:
        return state, ()
    stop = tuple(StopWaiting(timer) for timer in (Timer.EOF, Timer.LINGER) if timer in state.waits)
    state = replace(state, waits=state.waits - {Timer.EOF, Timer.LINGER})
    more: tuple[Due, ...] = ()
    output = "ended" if state.ended else "terminal" if started.terminal else "pipes"
    match "exited" if state.exited else "lives", state.way, output:
        case "lives", _, "ended" if not (state.refused or state.eof_sent):
            state, more = _wait(state, Timer.EOF, EOF_GRACE_SECONDS)
        case "lives", _, _:
            pass
        case _, Way.BUSY | Way.FULL, _:
            pass  # pending output is sent first; afterwards this is called again
        case _, _, "terminal" if state.drains:
            pass  # `Drained` is still to come
        case _, _, "terminal" if state.unread > 0:
            state, more = replace(state, drains=True), (Drain(state.unread),)
        case _, _, "ended" | "terminal":
            state, more = _finish(state)
        case _:
            # The process has ended, but another process holds its output open.
            state, more = _linger(state)
    return state, stop + more


def _wait(state: State, timer: Timer, seconds: float) -> Result:
    return replace(state, waits=state.waits | {timer}), (Wait(timer, seconds),)


def _linger(state: State) -> Result:
    """Wait for the end of output, or until it has been silent for `linger`. Output restarts that timer."""
    due: tuple[Due, ...] = ()
    if Timer.EXIT not in state.waits and not state.exit_told:
        state, due = _wait(state, Timer.EXIT, EXIT_GRACE_SECONDS)
    if state.started is not None and state.started.linger is not None:
        state, more = _wait(state, Timer.LINGER, state.started.linger)
        due += more
    return state, due


def _time_over(state: State, timer: Timer) -> Result:
    if timer not in state.waits:
        return state, ()
    state = replace(state, waits=state.waits - {timer})
    if timer is Timer.EOF:
        return replace(state, eof_sent=True), (SendEof(),)
    if timer is Timer.LINGER:
        return _finish(replace(state, left_open=True))
    if state.way is not Way.FREE:
        return state, ()  # the grace begins again when the way is free
    return replace(state, exit_told=True), (TellExit(), RefuseInput())


def _drained(state: State, size: int) -> Result:
    if not state.drains or state.channel is not Channel.OPEN:
        return state, ()
    state = replace(state, unread=state.unread - size, drains=False)
    return _finish(state) if state.way is Way.FREE or state.unread <= 0 else (state, ())


def _finish(state: State) -> Result:
    """End the session, unless output still waits in the channel: when it has been sent, this is called again."""
    if state.way is Way.FULL:
        return state, ()
    due: list[Due] = []
    if not state.exit_told:
        due.append(TellExit())
    if not state.refused and not state.eof_sent:  # no EOF for a client that has refused more output
        due.append(SendEof())
    state = replace(state, channel=Channel.CLOSED, exit_told=True, eof_sent=True)
    state, release = _release(state, Ending.LEFT_OPEN if state.left_open else Ending.EXITED)
    return state, (*due, Close(), *release)


def _release(state: State, cause: Ending) -> Result:
    """Release everything. The kernel sends SIGHUP when a pty is closed; other processes see their pipes closed."""
    is_terminal = state.started is not None and state.started.terminal
    release = Release(
        ending=Ending.SERVER_STOPPED if state.stopping and not state.exited else cause,
        input_seconds=INPUT_SECONDS if cause is Ending.CHANNEL_CLOSED else 0.0,
        leave_outputs=(state.left_open or state.stopping) and not is_terminal,
    )
    return replace(state, waits=frozenset()), (release,)
