"""A session's end: what is due after which facts, as a table, and properties for any order of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.session_end import (
    DRAIN_BYTES,
    EOF_GRACE_SECONDS,
    EXIT_GRACE_SECONDS,
    INPUT_SECONDS,
    Channel,
    Close,
    Drain,
    Drained,
    Due,
    Ending,
    Entry,
    Exited,
    Fact,
    Gone,
    HangUp,
    LogEnd,
    LogExit,
    Logged,
    NoProcess,
    Output,
    OutputEnded,
    OutputRefused,
    RefuseInput,
    Release,
    SayWhy,
    SendEof,
    Started,
    State,
    Stopping,
    StopWaiting,
    TellExit,
    TimeOver,
    Timer,
    Wait,
    Way,
    WayChanged,
    step,
)

LINGER = 3.0
PIPES = Started(terminal=False, linger=None)
LINGERING = Started(terminal=False, linger=LINGER)
TERMINAL = Started(terminal=True, linger=None)
FREE, BUSY, FULL = (WayChanged(way) for way in (Way.FREE, Way.BUSY, Way.FULL))
ENDED, ONE_ENDED = OutputEnded(all=True), OutputEnded(all=False)
REFUSED, ALL_REFUSED = OutputRefused(ended=False), OutputRefused(ended=True)
LEFT, LOST = Gone(lost=False), Gone(lost=True)

EOF_GRACE = Wait(Timer.EOF, EOF_GRACE_SECONDS)
EXIT_GRACE = Wait(Timer.EXIT, EXIT_GRACE_SECONDS)
SILENCE = Wait(Timer.LINGER, LINGER)


LOGGED, EXIT_LOGGED = Logged(Entry.END), Logged(Entry.EXIT)
LOG = LogEnd(Ending.EXITED)
"""The log gets the end of an ordinary session."""

END = (TellExit(), SendEof(), Close(), Release(0.0, leave_outputs=False))
"""What follows when the log has it, in the order that OpenSSH's clients expect."""


def lost(ending: Ending, *, input_seconds: float = 0.0, leave_outputs: bool = False) -> tuple[Due, ...]:
    """The client is gone."""
    return Release(input_seconds, leave_outputs), LogEnd(ending)


def after(*facts: Fact) -> tuple[State, tuple[Due, ...]]:
    """The state after these facts, and what is due after the last."""
    result: tuple[State, tuple[Due, ...]] = State(), ()
    for fact in facts:
        result = step(result[0], fact)
    return result


ROWS: dict[str, tuple[tuple[Fact, ...], tuple[Due, ...]]] = {
    # before the process has started
    "the process is there": ((PIPES,), ()),
    "and its request has been answered": ((PIPES, FREE), ()),
    "an exit before the start waits for the start": ((Exited(),), ()),
    "and nothing is sent before the answer": ((Exited(), PIPES), ()),
    "and then it counts": ((Exited(), PIPES, FREE), (EXIT_GRACE,)),
    "a refusal before the start": ((REFUSED, PIPES, FREE), ()),
    "there is no process": ((NoProcess("why"),), (SayWhy("why"), TellExit(), SendEof(), Close())),
    "a client that refuses output is told so, too": (
        (REFUSED, NoProcess("why")),
        (SayWhy("why"), TellExit(), SendEof(), Close()),
    ),
    "there is no process, and nobody to be told": ((LEFT, NoProcess("why")), ()),
    "a process can't be missing any more": ((PIPES, NoProcess("why")), ()),
    "a process starts once": ((PIPES, TERMINAL), ()),
    # a process with pipes that runs
    "one output has ended": ((PIPES, FREE, ONE_ENDED), ()),
    "all outputs have ended": ((PIPES, FREE, ENDED), (EOF_GRACE,)),
    "and the process lives on": ((PIPES, FREE, ENDED, TimeOver(Timer.EOF)), (SendEof(),)),
    "and an EOF is sent once": ((PIPES, FREE, ENDED, TimeOver(Timer.EOF), FREE), ()),
    "the way becomes free while the EOF waits": ((PIPES, FREE, ENDED, FREE), (StopWaiting(Timer.EOF), EOF_GRACE)),
    "the way is full while the EOF waits": ((PIPES, FREE, ENDED, FULL), ()),
    "and the EOF is sent behind what waits": ((PIPES, FREE, ENDED, FULL, TimeOver(Timer.EOF)), (SendEof(),)),
    "output is refused while the EOF waits": ((PIPES, FREE, ENDED, ALL_REFUSED), (StopWaiting(Timer.EOF),)),
    "output is refused": ((PIPES, FREE, REFUSED), ()),
    "and errors end": ((PIPES, FREE, REFUSED, ENDED), ()),
    "output changes nothing": ((PIPES, FREE, Output()), ()),
    # a process with pipes that has exited
    "exit within the grace": ((PIPES, FREE, ENDED, Exited()), (StopWaiting(Timer.EOF), LOG)),
    "and the log has it": ((PIPES, FREE, ENDED, Exited(), LOGGED), END),
    "which counts once": ((PIPES, FREE, ENDED, Exited(), LOGGED, LOGGED), ()),
    "the way becomes free while the log is waited for": ((PIPES, FREE, ENDED, Exited(), BUSY, FREE), ()),
    "the client refuses output while the log is waited for": (
        (PIPES, FREE, ENDED, Exited(), ALL_REFUSED, LOGGED),
        (TellExit(), Close(), Release(0.0, leave_outputs=False)),
    ),
    "the log has it while something else waits": ((PIPES, FREE, ENDED, Exited(), FULL, LOGGED), ()),
    "and that has been sent": ((PIPES, FREE, ENDED, Exited(), FULL, LOGGED, FREE), END),
    "the client goes while the log is waited for": (
        (PIPES, FREE, ENDED, Exited(), LEFT),
        (Release(INPUT_SECONDS, leave_outputs=False),),
    ),
    "and then the log has it": ((PIPES, FREE, ENDED, Exited(), LEFT, LOGGED), ()),
    "what nobody has logged": ((PIPES, FREE, LOGGED), ()),
    "exit after the EOF": (
        (PIPES, FREE, ENDED, TimeOver(Timer.EOF), Exited(), LOGGED),
        (TellExit(), Close(), Release(0.0, leave_outputs=False)),
    ),
    "exit before the outputs' end": ((PIPES, FREE, Exited()), (EXIT_GRACE,)),
    "and one output ends": ((PIPES, FREE, Exited(), ONE_ENDED), ()),
    "and all end": ((PIPES, FREE, Exited(), ENDED), (StopWaiting(Timer.EXIT), LOG)),
    "the exit grace is over": ((PIPES, FREE, Exited(), TimeOver(Timer.EXIT)), (LogExit(),)),
    "and the log has the exit": (
        (PIPES, FREE, Exited(), TimeOver(Timer.EXIT), EXIT_LOGGED),
        (TellExit(), RefuseInput()),
    ),
    "one output ends while the log is waited for": ((PIPES, FREE, Exited(), TimeOver(Timer.EXIT), ONE_ENDED), ()),
    "and all end while the log is waited for": ((PIPES, FREE, Exited(), TimeOver(Timer.EXIT), ENDED), (LOG,)),
    "and the log has the exit, but not the end": (
        (PIPES, FREE, Exited(), TimeOver(Timer.EXIT), ENDED, EXIT_LOGGED),
        (),
    ),
    "and both": ((PIPES, FREE, Exited(), TimeOver(Timer.EXIT), ENDED, EXIT_LOGGED, LOGGED), END),
    "the client goes before the log has the exit": (
        (PIPES, FREE, Exited(), TimeOver(Timer.EXIT), LOST),
        lost(Ending.CONNECTION_LOST),
    ),
    "and the outputs end": (
        (PIPES, FREE, Exited(), TimeOver(Timer.EXIT), EXIT_LOGGED, ENDED, LOGGED),
        (SendEof(), Close(), Release(0.0, leave_outputs=False)),
    ),
    "the exit grace is over, but the client takes nothing": ((PIPES, FREE, Exited(), FULL, TimeOver(Timer.EXIT)), ()),
    "and takes something again": ((PIPES, FREE, Exited(), FULL, TimeOver(Timer.EXIT), FREE), (EXIT_GRACE,)),
    "exit while output waits": ((PIPES, FREE, FULL, ENDED, Exited()), (StopWaiting(Timer.EOF),)),
    "and it has been sent": ((PIPES, FREE, FULL, ENDED, Exited(), FREE), (LOG,)),
    "exit while the network is full": ((PIPES, FREE, BUSY, ENDED, Exited()), (StopWaiting(Timer.EOF),)),
    "and takes data again": ((PIPES, FREE, BUSY, ENDED, Exited(), FREE), (LOG,)),
    "exit after a refusal": (
        (PIPES, FREE, ALL_REFUSED, Exited(), LOGGED),
        (TellExit(), Close(), Release(0.0, leave_outputs=False)),
    ),
    "exit while errors are open": ((PIPES, FREE, REFUSED, Exited()), (EXIT_GRACE,)),
    "output is refused after the exit": (
        (PIPES, FREE, Exited(), ALL_REFUSED, LOGGED),
        (TellExit(), Close(), Release(0.0, leave_outputs=False)),
    ),
    # output that other processes keep open, with session.linger
    "linger": ((LINGERING, FREE, Exited()), (EXIT_GRACE, SILENCE)),
    "output after the exit": ((LINGERING, FREE, Exited(), Output()), (SILENCE,)),
    "output after the exit grace ended in vain": (
        (LINGERING, FREE, Exited(), FULL, TimeOver(Timer.EXIT), Output()),
        (EXIT_GRACE, SILENCE),
    ),
    "one output ends while others linger": (
        (LINGERING, FREE, Exited(), ONE_ENDED),
        (StopWaiting(Timer.LINGER), SILENCE),
    ),
    "silence": (
        (LINGERING, FREE, Exited(), TimeOver(Timer.LINGER)),
        (StopWaiting(Timer.EXIT), LogEnd(Ending.LEFT_OPEN)),
    ),
    "and the log has the silence": (
        (LINGERING, FREE, Exited(), TimeOver(Timer.LINGER), LOGGED),
        (TellExit(), SendEof(), Close(), Release(0.0, leave_outputs=True)),
    ),
    "silence after the exit was told": (
        (LINGERING, FREE, Exited(), TimeOver(Timer.EXIT), EXIT_LOGGED, TimeOver(Timer.LINGER), LOGGED),
        (SendEof(), Close(), Release(0.0, leave_outputs=True)),
    ),
    "silence while the network is full": (
        (LINGERING, FREE, Exited(), BUSY, TimeOver(Timer.LINGER), LOGGED),
        (TellExit(), SendEof(), Close(), Release(0.0, leave_outputs=True)),
    ),
    "silence while output waits": ((LINGERING, FREE, Exited(), FULL, TimeOver(Timer.LINGER)), ()),
    "and it has been sent after the silence": (
        (LINGERING, FREE, Exited(), FULL, TimeOver(Timer.LINGER), FREE),
        (SILENCE,),
    ),
    "time that nobody waits for": ((LINGERING, FREE, TimeOver(Timer.LINGER)), ()),
    # a terminal
    "a terminal's process exits": ((TERMINAL, FREE, Exited()), (Drain(DRAIN_BYTES),)),
    "and nothing was left in it": ((TERMINAL, FREE, Exited(), Drained(0)), (LOG,)),
    "the way becomes free while it is drained": ((TERMINAL, FREE, Exited(), BUSY, FREE), ()),
    "draining that nobody asked for": ((TERMINAL, FREE, Drained(1)), ()),
    "and all that was left was sent": ((TERMINAL, FREE, Exited(), Drained(100)), (LOG,)),
    "the way is full before all is read": ((TERMINAL, FREE, Exited(), FULL, Drained(100)), ()),
    "and the rest is read when it is free": (
        (TERMINAL, FREE, Exited(), FULL, Drained(100), FREE),
        (Drain(DRAIN_BYTES - 100),),
    ),
    "the network is full before all is read": ((TERMINAL, FREE, Exited(), BUSY, Drained(100)), ()),
    "a background process writes without end": ((TERMINAL, FREE, Exited(), BUSY, Drained(DRAIN_BYTES)), (LOG,)),
    "and the last of it waits": ((TERMINAL, FREE, Exited(), FULL, Drained(DRAIN_BYTES)), ()),
    "and nothing is read when that was sent": ((TERMINAL, FREE, Exited(), FULL, Drained(DRAIN_BYTES), FREE), (LOG,)),
    "the terminal's end is read while it is drained": ((TERMINAL, FREE, Exited(), ENDED), (LOG,)),
    "a terminal's end is in the log": ((TERMINAL, FREE, Exited(), Drained(0), LOGGED), END),
    "and the draining's own end changes nothing": ((TERMINAL, FREE, Exited(), ENDED, Drained(100)), ()),
    "the client goes while it is drained": ((TERMINAL, FREE, Exited(), LEFT, Drained(100)), ()),
    "everybody has left the terminal": ((TERMINAL, FREE, ENDED), (EOF_GRACE,)),
    "a terminal's output was refused before the start": (
        (REFUSED, Started(terminal=True, linger=None, ended=True), FREE, Exited(), LOGGED),
        (TellExit(), Close(), Release(0.0, leave_outputs=False)),
    ),
    # the client leaves
    "the client closes the channel": ((PIPES, FREE, LEFT), lost(Ending.CHANNEL_CLOSED, input_seconds=5.0)),
    "the connection is lost": ((PIPES, FREE, LOST), lost(Ending.CONNECTION_LOST)),
    "the client closes while output lingers": (
        (LINGERING, FREE, Exited(), LEFT),
        lost(Ending.CHANNEL_CLOSED, input_seconds=INPUT_SECONDS),
    ),
    "the client goes after silence that could not be the end": (
        (LINGERING, FREE, Exited(), FULL, TimeOver(Timer.LINGER), LOST),
        lost(Ending.CONNECTION_LOST, leave_outputs=True),
    ),
    "the client goes before the start": ((LOST,), ()),
    "and then the process is there": (
        (LOST, PIPES),
        lost(Ending.CHANNEL_CLOSED, input_seconds=INPUT_SECONDS),
    ),
    "a client goes once": ((PIPES, FREE, LEFT, LOST), ()),
    "a client that went is told no exit": ((PIPES, FREE, LEFT, Exited()), ()),
    "a client goes after the end": ((PIPES, FREE, ENDED, Exited(), LOGGED, LEFT), ()),
    # the server stops
    "a stop lets pipes be": ((PIPES, FREE, Stopping()), ()),
    "a stop hangs terminals up": ((TERMINAL, FREE, Stopping()), (HangUp(),)),
    "but none whose process has exited": ((TERMINAL, FREE, Exited(), FULL, Stopping()), ()),
    "a stop before the start": ((Stopping(),), ()),
    "a stop ends the connection": (
        (PIPES, FREE, Stopping(), LEFT),
        lost(Ending.SERVER_STOPPED, input_seconds=INPUT_SECONDS, leave_outputs=True),
    ),
    "a terminal's output is left to nobody": (
        (TERMINAL, FREE, Stopping(), LOST),
        lost(Ending.SERVER_STOPPED),
    ),
    "a stop comes while a process exits": (
        (PIPES, FREE, Stopping(), ENDED, Exited()),
        (StopWaiting(Timer.EOF), LOG),
    ),
    "and is told to the client": (
        (PIPES, FREE, Stopping(), ENDED, Exited(), LOGGED),
        (TellExit(), SendEof(), Close(), Release(0.0, leave_outputs=True)),
    ),
}


@pytest.mark.parametrize(("facts", "due"), ROWS.values(), ids=ROWS)
def test_what_follows(facts: tuple[Fact, ...], due: tuple[Due, ...]) -> None:
    """After these facts, in this order, these actions are due, in this order."""
    assert after(*facts)[1] == due


@pytest.mark.parametrize(
    ("facts", "waits"),
    [
        ((), False),
        ((PIPES, FREE), False),
        ((PIPES, FREE, ENDED), False),
        ((PIPES, FREE, ENDED, TimeOver(Timer.EOF)), True),
        ((PIPES, FREE, ENDED, TimeOver(Timer.EOF), FULL, Exited()), False),
        ((PIPES, FREE, ENDED, Exited()), True),
        ((PIPES, FREE, ENDED, Exited(), LOGGED), False),
        ((PIPES, FREE, Exited(), TimeOver(Timer.EXIT), EXIT_LOGGED, ENDED), False),
        ((PIPES, FREE, REFUSED), True),
        ((REFUSED,), False),
        ((TERMINAL, FREE, ALL_REFUSED), False),
        ((TERMINAL, FREE, ENDED, TimeOver(Timer.EOF)), True),
    ],
)
def test_a_client_that_closes_may_wait_for_the_exit(facts: tuple[Fact, ...], waits: bool) -> None:
    """A client's close waits for the exit status if EOF was sent, all output is refused, or only the log is missing."""
    assert after(*facts)[0].exit_is_due is waits


class Life:
    """A session with any behaviour of client, process and timers; each action must be possible when it is due."""

    def __init__(self) -> None:
        self.state = State()
        self.done: list[str] = []
        self.timers: set[Timer] = set()
        self.meanwhile: list[Fact] = []
        self.is_log_late = False
        self.to_log: list[Entry] = []

    def logged(self, entry: Entry) -> None:
        """The log gets it at once, or with `log_all`."""
        self.to_log.append(entry)
        if not self.is_log_late:
            self.log_all()

    def log_all(self) -> None:
        """The log has everything."""
        entries, self.to_log = self.to_log, []
        for entry in entries:
            self.learn(Logged(entry))

    def learn(self, fact: Fact) -> None:
        """Perform what is due after `fact`."""
        if isinstance(fact, TimeOver):
            self.timers.discard(fact.timer)
        self.state, due = step(self.state, fact)
        assert self.state.waits >= {one.timer for one in due if isinstance(one, Wait)}
        for one in due:
            self.do(one)

    def do(self, due: Due) -> None:
        """Perform one action, and check that it is allowed now, and happens only once."""
        name = type(due).__name__
        match due:
            case Wait(timer=timer, seconds=seconds):
                assert seconds > 0
                self.timers.add(timer)
            case StopWaiting(timer=timer):
                self.timers.remove(timer)
            case Drain(most=most):
                for fact in self.meanwhile:
                    self.learn(fact)
                self.learn(Drained(most))
            case HangUp():
                pass
            case Release():
                assert name not in self.done
                self.timers.clear()
                self.done.append(name)
            case LogEnd():
                assert name not in self.done
                self.done.append(name)
                self.logged(Entry.END)
            case LogExit():
                assert not {name, "LogEnd", "Release"} & set(self.done)
                self.done.append(name)
                self.logged(Entry.EXIT)
            case TellExit() if "SayWhy" not in self.done:
                assert {"LogEnd", "LogExit"} & set(self.done)
                assert not {name, "Close", "Release"} & set(self.done)
                self.done.append(name)
            case _:
                assert not {name, "Close", "Release"} & set(self.done)
                self.done.append(name)


TIMES = st.sampled_from(Timer).map(TimeOver)
STARTS = st.builds(Started, terminal=st.booleans(), linger=st.sampled_from([None, LINGER]), ended=st.booleans())
FACTS = st.one_of(
    STARTS,
    TIMES,
    st.sampled_from(Way).map(WayChanged),
    st.builds(OutputEnded, all=st.booleans()),
    st.builds(OutputRefused, ended=st.booleans()),
    st.builds(Gone, lost=st.booleans()),
    st.sampled_from([Exited(), Output(), Stopping(), NoProcess("why")]),
)
STILL_THERE = FACTS.filter(lambda fact: not isinstance(fact, Gone))
MEANWHILE = st.lists(st.sampled_from([ENDED, ONE_ENDED, Output(), FULL, BUSY, FREE]), max_size=3)


@given(st.lists(FACTS), MEANWHILE, st.booleans())
def test_nothing_is_said_twice_or_too_late(facts: list[Fact], meanwhile: list[Fact], is_log_late: bool) -> None:
    """For any order of facts: exit, EOF and close happen at most once, in order, and nothing follows the close."""
    life = Life()
    life.meanwhile = meanwhile
    life.is_log_late = is_log_late
    for fact in facts:
        life.learn(fact)
        assert life.timers == life.state.waits  # no timer is left behind, and each that counts as running does run
        if "Close" in life.done:
            assert life.done.index("TellExit") < life.done.index("Close")
            assert life.state.channel is Channel.CLOSED
        if life.state.channel is not Channel.OPEN:
            assert not life.timers


@given(st.lists(STILL_THERE), STARTS, MEANWHILE, st.booleans())
def test_the_end_is_always_reached(facts: list[Fact], start: Started, meanwhile: list[Fact], is_log_late: bool) -> None:
    """After any facts: once the process has exited, its output was sent, and the log has it, the session ends."""
    life = Life()
    life.meanwhile = meanwhile
    life.is_log_late = is_log_late
    for fact in (*facts, start, Exited(), ENDED, FREE):
        life.learn(fact)
    assert "TellExit" not in life.done or not is_log_late or "SayWhy" in life.done
    life.log_all()
    assert life.done.count("Close") == 1
    assert life.done.count("Release") == (0 if "SayWhy" in life.done else 1)


@given(st.lists(STILL_THERE))
def test_lingering_output_does_not_keep_a_session(facts: list[Fact]) -> None:
    """A session whose output others keep open for ever ends as well, once that was silent for long enough."""
    life = Life()
    for fact in (LINGERING, *facts, Exited(), FREE, TimeOver(Timer.EXIT), TimeOver(Timer.LINGER)):
        life.learn(fact)
    assert life.done.count("Close") == life.done.count("Release") == 1


@given(st.lists(FACTS), STARTS)
def test_what_was_started_is_released(facts: list[Fact], start: Started) -> None:
    """Protects descriptors: when the client is gone they are closed, after any facts and whichever end closed first."""
    life = Life()
    for fact in (*facts, start, LOST):
        life.learn(fact)
    assert life.done.count("Release") == life.done.count("LogEnd") == (0 if "SayWhy" in life.done else 1)
    assert not life.timers
