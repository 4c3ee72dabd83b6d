"""How a session ends: which facts make what due, as a state machine that does nothing itself.

A session ends as sshd's does: when its process has been reaped and what that wrote has been sent, with exit-status,
EOF, close. The facts come in any order: the exit comes from the spawner, the outputs' ends from the kernel, and the
client closes the channel, or says that it takes no more output, whenever it likes. `step` takes one fact and returns
the state from then on and what is due now, in the order in which it has to be done:

    state, due = step(state, fact)

Each fact is learnt first (`State`). Then `_next` is the table of what follows from all that is known. Once the channel
is closed, by us or by the client, nothing is due on it any more, and every fact may still come.
"""

from enum import StrEnum, auto
from typing import assert_never

import msgspec
from msgspec.structs import replace

EOF_GRACE_SECONDS = 0.05
"""How long an EOF waits for the exit status, which comes another way and some clients want first. A process that closes
its output and lives on is the exception; its EOF is passed on after this."""

EXIT_GRACE_SECONDS = 0.05
"""How long the exit waits for the output's end, so that clients usually hear of it last. sshd tells of it at once. It
also waits for a client that does not take what is there."""

DRAIN_BYTES = 128 * 1024
"""How much is read from a pty after its process has ended. The kernel holds at most 64 KiB for a pty; what comes beyond
is a background process's, and sshd cuts that off, too."""

INPUT_SECONDS = 5.0
"""How long a process may take to read what the client sent before it closed the channel; sshd would wait for ever."""


class Channel(StrEnum):
    """The channel: open, closed by us, or closed by the client or with its connection before we did."""

    OPEN = auto()
    CLOSED = auto()
    GONE = auto()


class Way(StrEnum):
    """The way to the client: free; the network takes no more, but all output has left the channel; its window is full.

    Only in the last case does output wait in the channel.
    """

    FREE = auto()
    BUSY = auto()
    FULL = auto()


class Timer(StrEnum):
    """What is waited for: the exit before an EOF, the outputs' end before the exit is told, silence after the exit."""

    EOF = auto()
    EXIT = auto()
    LINGER = auto()


class Ending(StrEnum):
    """Why a session has ended, for the log. `LEFT_OPEN`: its process has ended, and others had its output open.

    `KEY_REVOKED` is for the session to say, which is ended with all that runs in it.
    """

    EXITED = auto()
    LEFT_OPEN = auto()
    CHANNEL_CLOSED = auto()
    CONNECTION_LOST = auto()
    SERVER_STOPPED = auto()
    KEY_REVOKED = auto()


# -- facts ------------------------------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True):
    """The process is there, with a pty (`terminal`) or with pipes. Its request is answered after this.

    `ended`: all its output is closed already, because the client has refused it. `linger` is for how many seconds
    output that others have open may be silent after the exit; None: for ever.
    """

    terminal: bool
    linger: float | None
    ended: bool = False


class NoProcess(msgspec.Struct, frozen=True):
    """There will be no process, for `reason`, in words for the client."""

    reason: str


class Exited(msgspec.Struct, frozen=True):
    """The process has been reaped; perhaps before it was known to have started."""


class OutputEnded(msgspec.Struct, frozen=True):
    """An output has been read to its end; `all`: and no other is open."""

    all: bool


class OutputRefused(msgspec.Struct, frozen=True):
    """The client takes no more standard output, which is closed (eow@openssh.com). `ended`: no other output is open."""

    ended: bool


class Output(msgspec.Struct, frozen=True):
    """The process, or another one that has its output, wrote something."""


class WayChanged(msgspec.Struct, frozen=True):
    """The way to the client is like this now. The first time it is told when the session's request was answered."""

    way: Way


class Drained(msgspec.Struct, frozen=True):
    """What `Drain` asked for is done: so many bytes were read."""

    size: int


class TimeOver(msgspec.Struct, frozen=True):
    """The time of a `Wait` has passed."""

    timer: Timer


class Stopping(msgspec.Struct, frozen=True):
    """The server stops."""


class Gone(msgspec.Struct, frozen=True):
    """The channel is gone. `lost`: with its connection, which had an error."""

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
    """Read `most` bytes of the pty, as long as there are some and the way is free. `Drained` says how many there were.

    Its process has ended, so what is in the pty is all that counts, whoever else may hold it (sshd agrees).
    """

    most: int


class SayWhy(msgspec.Struct, frozen=True):
    """Answer the request, and say why there is no process."""

    reason: str


class TellExit(msgspec.Struct, frozen=True):
    """Send exit-status or exit-signal."""


class RefuseInput(msgspec.Struct, frozen=True):
    """As sshd (session.c, session_exit_message): nobody takes input any more, whatever becomes of the output."""


class SendEof(msgspec.Struct, frozen=True):
    """Send EOF."""


class Close(msgspec.Struct, frozen=True):
    """Close the channel."""


class HangUp(msgspec.Struct, frozen=True):
    """Send SIGHUP to the terminal's processes, as when its line is lost."""


class Release(msgspec.Struct, frozen=True):
    """Cancel the timers, close the descriptors and write down why.

    `leave_outputs`: it is we who end it, and a process that writes on must not die of that. What has been sent to the
    process may be read for `input_seconds` more.
    """

    ending: Ending
    input_seconds: float
    leave_outputs: bool


Due = Wait | StopWaiting | Drain | SayWhy | TellExit | RefuseInput | SendEof | Close | HangUp | Release

# -- the machine ------------------------------------------------------------------------------------------------


class State(msgspec.Struct, frozen=True):
    """What is known of a session and what has been made due. `unread` is how much of a pty may still be drained.

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
        """Whether the client waits for nothing but the exit: all output has been sent, EOF as well, or is refused.

        A terminal's is not waited for: its processes are hung up when the client closes the channel.
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
    """The state after `fact`, and what is due. A fact that can't be, or comes too late, changes nothing."""
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
    """It is known whether there is a process. The client may have left meanwhile."""
    left = state.channel is Channel.GONE
    if isinstance(fact, Started):
        state = replace(state, started=fact, ended=fact.ended)
        return _release(state, Ending.CHANNEL_CLOSED) if left else (state, ())
    if left:
        return state, ()
    # As at the end of a process. Nothing is released, since nothing was there.
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
    """What follows from all that is known, whenever something has changed."""
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
            pass  # what is left to send comes first; having sent it leads back here
        case _, _, "terminal" if state.drains:
            pass  # `Drained` is still to come
        case _, _, "terminal" if state.unread > 0:
            state, more = replace(state, drains=True), (Drain(state.unread),)
        case _, _, "ended" | "terminal":
            state, more = _finish(state)
        case _:
            # The process has ended, but somebody has its output open.
            state, more = _linger(state)
    return state, stop + more


def _wait(state: State, timer: Timer, seconds: float) -> Result:
    return replace(state, waits=state.waits | {timer}), (Wait(timer, seconds),)


def _linger(state: State) -> Result:
    """Wait for the output's end, or until it is silent for long. Output makes the silence begin again."""
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
    """The end, unless output still waits in the channel: its having been sent leads back here."""
    if state.way is Way.FULL:
        return state, ()
    due: list[Due] = []
    if not state.exit_told:
        due.append(TellExit())
    if not state.refused and not state.eof_sent:  # a client that takes no more is not told that no more comes
        due.append(SendEof())
    state = replace(state, channel=Channel.CLOSED, exit_told=True, eof_sent=True)
    state, release = _release(state, Ending.LEFT_OPEN if state.left_open else Ending.EXITED)
    return state, (*due, Close(), *release)


def _release(state: State, cause: Ending) -> Result:
    """A pty's processes are hung up by the kernel when it is closed; others see their pipes closed."""
    is_terminal = state.started is not None and state.started.terminal
    release = Release(
        ending=Ending.SERVER_STOPPED if state.stopping and not state.exited else cause,
        input_seconds=INPUT_SECONDS if cause is Ending.CHANNEL_CLOSED else 0.0,
        leave_outputs=(state.left_open or state.stopping) and not is_terminal,
    )
    return replace(state, waits=frozenset()), (release,)
