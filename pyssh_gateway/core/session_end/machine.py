"""The state machine: what is known, what was made due, and what follows from the next fact."""

from enum import StrEnum, auto
from typing import assert_never

import msgspec
from msgspec.structs import replace

from pyssh_gateway.core.session_end.due import (
    Close,
    Drain,
    Due,
    Ending,
    HangUp,
    LogEnd,
    LogExit,
    RefuseInput,
    Release,
    SayWhy,
    SendEof,
    StopWaiting,
    TellExit,
    Wait,
)
from pyssh_gateway.core.session_end.facts import (
    Answer,
    Drained,
    Entry,
    Exited,
    Fact,
    Gone,
    Logged,
    NoProcess,
    Output,
    OutputEnded,
    OutputRefused,
    Started,
    Stopping,
    TimeOver,
    Timer,
    Way,
    WayChanged,
)

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


class State(msgspec.Struct, frozen=True):
    """The known facts of a session, and what was already made due. `unread` is how much of a pty may still be drained.

    The way counts as full until the session's request has been answered: nothing may be sent before that. `logging` is
    the entry that is on its way to the log; once that is `Entry.END`, the session only waits to tell it to the client.
    """

    channel: Channel = Channel.OPEN
    started: Started | None = None
    exited: bool = False
    ended: bool = False
    refused: bool = False
    way: Way = Way.FULL
    stopping: bool = False
    left_open: bool = False
    logging: Entry | None = None
    logged: bool = False
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
        if self.logging is Entry.END:
            return not self.exit_told
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
        case Logged():
            return _logged(state, fact.entry)
        case Exited() | OutputEnded() | OutputRefused():
            return _next(_with(state, fact))
        case WayChanged():
            state = replace(state, way=fact.way)
            return _next(state) if fact.way is Way.FREE else (state, ())
    assert_never(fact)


def _with(state: State, fact: Exited | OutputEnded | OutputRefused) -> State:
    match fact:
        case Exited():
            return replace(state, exited=True)
        case OutputEnded():
            return replace(state, ended=state.ended or fact.all)
        case OutputRefused():
            return replace(state, refused=True, ended=state.ended or fact.ended)
    assert_never(fact)


def _answered(state: State, fact: Answer) -> Result:
    """Handle the answer whether there is a process. The client may have left meanwhile."""
    left = state.channel is Channel.GONE
    if isinstance(fact, Started):
        state = replace(state, started=fact, ended=fact.ended)
        return _lose(state, Ending.CHANNEL_CLOSED) if left else (state, ())
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
    return _lose(state, Ending.CONNECTION_LOST if fact.lost else Ending.CHANNEL_CLOSED)


def _next(state: State) -> Result:
    """What follows from all known facts. Called whenever one has changed."""
    started = state.started
    if started is None or state.channel is not Channel.OPEN:
        return state, ()
    if state.logging is Entry.END:
        return _finish(state)
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
    if Timer.EXIT not in state.waits and state.logging is None and not state.exit_told:
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
    return replace(state, logging=Entry.EXIT), (LogExit(),)


def _logged(state: State, entry: Entry) -> Result:
    if entry is not state.logging or state.logged or state.channel is not Channel.OPEN:
        return state, ()
    if entry is Entry.END:
        return _finish(replace(state, logged=True))
    return replace(state, logging=None, exit_told=True), (TellExit(), RefuseInput())


def _drained(state: State, size: int) -> Result:
    if not state.drains or state.channel is not Channel.OPEN:
        return state, ()
    state = replace(state, unread=state.unread - size, drains=False)
    return _finish(state) if state.way is Way.FREE or state.unread <= 0 else (state, ())


def _finish(state: State) -> Result:
    """End the session, unless output still waits in the channel: when it has been sent, this is called again."""
    if state.way is Way.FULL:
        return state, ()
    if state.logging is not Entry.END:
        ending = Ending.LEFT_OPEN if state.left_open else Ending.EXITED
        stop = tuple(StopWaiting(timer) for timer in Timer if timer in state.waits)
        return replace(state, logging=Entry.END, waits=frozenset()), (*stop, LogEnd(ending))
    if not state.logged:
        return state, ()
    due: list[Due] = []
    if not state.exit_told:
        due.append(TellExit())
    if not state.refused and not state.eof_sent:  # no EOF for a client that has refused more output
        due.append(SendEof())
    state = replace(state, channel=Channel.CLOSED, exit_told=True, eof_sent=True)
    return state, (*due, Close(), _release(state, input_seconds=0.0))


def _lose(state: State, cause: Ending) -> Result:
    """The client is gone: end the session, whatever happens to its process."""
    seconds = INPUT_SECONDS if cause is Ending.CHANNEL_CLOSED else 0.0
    release = _release(state, input_seconds=seconds)
    ending = Ending.SERVER_STOPPED if state.stopping and not state.exited else cause
    due = (release,) if state.logging is Entry.END else (release, LogEnd(ending))
    return replace(state, waits=frozenset()), due


def _release(state: State, input_seconds: float) -> Release:
    """The kernel sends SIGHUP when a pty is closed; other processes see their pipes closed."""
    is_terminal = state.started is not None and state.started.terminal
    return Release(input_seconds, leave_outputs=(state.left_open or state.stopping) and not is_terminal)
