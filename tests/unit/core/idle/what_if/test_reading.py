"""core.idle.what_if.reading: the log as a history, whatever has happened to its lines."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.what_if import reading
from pyssh_gateway.core.idle.what_if.history import Awake, Connection, History, Kept
from pyssh_gateway.core.idle.what_if.reading import read
from pyssh_gateway.events import (
    ClientUsed,
    GatewayCrashed,
    HoldStarted,
    IdleTick,
    MachineResumed,
    ServerStarted,
    ServerStopping,
    SessionOpened,
    StopStep,
)
from tests.support.written_log import MONDAY, WrittenLog

HOUR = 3600
NOW = MONDAY + 24 * HOUR


def history_of(lines: list[bytes], since: float = 0.0) -> History:
    """What is read of the lines."""
    return read(lines, since=since, now=NOW)


def awake(history: History) -> list[tuple[float, float, str]]:
    """When the machine was awake, in seconds after midnight."""
    return [(one.begun - MONDAY, one.ended - MONDAY, one.end) for one in history.awake]


def day() -> WrittenLog:
    """Two starts: a connection with use, one without a login, work; then a kill, of which the log says nothing."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.come(20, "c2")
    log.go(21, "c2", user="", goodbye=False)
    log.use(500, "c1", (0, 100), (200, 400))
    log.go(HOUR, "c1", (900, 1000))
    log.work(HOUR + 15, 45)
    log.work(HOUR + 60, 0)
    log.stop(HOUR + 90)
    log.start(2 * HOUR)
    log.come(2 * HOUR, "c1", "joe")
    log.write(3 * HOUR, IdleTick(idle=5, remaining=55, message=""))
    log.start(4 * HOUR)
    log.write(5 * HOUR, IdleTick(idle=5, remaining=55, message=""))
    return log


def test_a_day_in_all_its_parts() -> None:
    """Connections, use, work and the times awake are what the log says, also around a kill."""
    history = history_of(day().lines)
    assert awake(history) == [(0, HOUR + 90, "idle"), (2 * HOUR, 3 * HOUR, "lost"), (4 * HOUR, 5 * HOUR, "open")]
    begun = MONDAY
    amos, stranger, joe = history.connections
    assert amos == Connection(
        begun + 10,
        begun + HOUR,
        "203.0.113.9",
        begun + 10,
        "dev",
        "SHA256:amos",
        goodbye=True,
        uses=((begun + 10, begun + 110), (begun + 210, begun + 410), (begun + 910, begun + 1010)),
    )
    assert stranger == Connection(begun + 20, begun + 21, "203.0.113.9")
    assert (joe.closed, joe.cut, joe.uses) == (begun + 3 * HOUR, True, None)
    assert history.kept == (Kept("work", begun + HOUR, begun + HOUR + 30),)
    assert (history.begun, history.ended) == (begun, begun + 5 * HOUR)
    assert (history.lines, history.damaged) == (len(day().lines), 0)


def test_what_belongs_to_no_connection_is_passed_over() -> None:
    """Sessions, ends and use of connections that the log does not know, and sessions of programs, change nothing."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.write(
        1,
        SessionOpened(conn="c1", session="s", user="dev", kind="exec", command="make", tty="", term="", pid=1),
    )
    log.terminal(1, "c9")
    log.use(2, "c9", (0, 1))
    log.go(3, "c9")
    log.go(4, "c1")
    (one,) = history_of(log.lines).connections
    assert (one.by_person, one.uses) == (False, None)


def test_a_clock_that_was_set_back_is_no_resume() -> None:
    """The event of a resume is also written when the clock was set; that ends no time awake."""
    log = WrittenLog()
    log.start(0)
    log.write(60, MachineResumed(seconds=-30))
    assert awake(history_of(log.lines)) == [(0, 60, "open")]


def test_holds_end_with_the_machine() -> None:
    """A hold that was open at a stop has held until then, and no longer."""
    log = WrittenLog()
    log.start(0)
    log.write(10, HoldStarted(hold="h1", user="dev", seconds=HOUR, reason="", pid=0))
    log.stop(60, reason="signal")
    assert history_of(log.lines).kept == (Kept("hold", MONDAY + 10, MONDAY + 60),)


def test_a_stop_without_a_last_word_is_what_it_was_to_be() -> None:
    """A machine that was gone before its last line had stopped for want of use all the same."""
    log = WrittenLog()
    log.start(0)
    log.write(60, ServerStopping(reason="idle", action="exit"))
    log.start(HOUR)
    log.write(HOUR + 60, ServerStopping(reason="signal"))
    log.start(2 * HOUR)
    log.write(2 * HOUR + 60, ServerStopping(reason="idle", action="suspend"))
    log.start(3 * HOUR)
    assert [end for _, _, end in awake(history_of(log.lines))] == ["idle", "signal", "suspend", "open"]


def test_more_than_fits_into_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory: connections beyond the bound are left out and counted, and so is use."""
    monkeypatch.setattr(reading, "MOST_CONNECTIONS", 1)
    monkeypatch.setattr(reading, "MOST_SPANS", 1)
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.come(1, "c2", "joe")
    log.go(5, "c1", (0, 1), (2, 3))
    history = history_of(log.lines)
    assert len(history.connections) == 1
    assert history.left_out == 1
    assert history.connections[0].uses is None


def test_other_spellings_of_the_same_json_are_read() -> None:
    """A log that went through a collector, with spaces and another order of fields, gives the same history."""
    spelled = [json.dumps(dict(reversed(json.loads(line).items()))).encode() + b"\n" for line in day().lines]
    assert history_of(spelled) == history_of(day().lines)


def test_a_crash_of_the_monitor_ends_nothing() -> None:
    """Connections go on over a crash of the process that writes the log, and the time awake, too."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.write(10, GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=0))
    started = ServerStarted(
        version="", address="", port=0, pid=1, generation=2, host_keys=(), users=(), idle_timeout=None
    )
    log.write(11, started)
    log.go(60, "c1")
    history = history_of(log.lines)
    assert awake(history) == [(0, 60, "open")]
    assert [(one.closed, one.cut) for one in history.connections] == [(MONDAY + 60, False)]


def test_the_connection_that_woke_it_may_be_in_front_of_the_start() -> None:
    """The first lines of a start come before `server.started`; the numbers show that they belong to it."""
    log = WrittenLog()
    log.start(0)
    log.write(60, IdleTick(idle=5, remaining=55, message=""))
    woken = WrittenLog()
    woken.come(HOUR, "c1", "amos")
    started = ServerStarted(
        version="", address="", port=0, pid=1, generation=1, host_keys=(), users=(), idle_timeout=None
    )
    woken.write(HOUR + 1, started)
    woken.go(HOUR + 60, "c1")
    history = history_of(log.lines + woken.lines)
    assert awake(history) == [(0, 60, "lost"), (HOUR, HOUR + 60, "open")]
    assert history.connections[0].opened == MONDAY + HOUR


@pytest.mark.parametrize("result", ["failed", "called_off"])
def test_a_suspend_that_was_called_off_is_none(result: str) -> None:
    """The machine stays awake if its suspend fails or is called off."""
    log = WrittenLog()
    log.start(0)
    log.write(60, ServerStopping(reason="idle", action="suspend"))
    log.write(61, msgspec.convert({"step": "suspend", "outcome": "", "result": result, "seconds": 1}, StopStep))
    log.come(120, "c1", "amos")
    log.go(180, "c1")
    assert awake(history_of(log.lines)) == [(0, 180, "open")]
    assert not history_of(log.lines).connections[0].cut


def test_a_machine_that_its_platform_suspended_was_not_awake() -> None:
    """A gap that only the clock shows is no time awake; connections live through it."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.write(2 * HOUR, MachineResumed(seconds=HOUR))
    log.go(3 * HOUR, "c1")
    history = history_of(log.lines)
    assert awake(history) == [(0, HOUR, "lost"), (2 * HOUR, 3 * HOUR, "open")]
    assert not history.connections[0].cut


def test_work_that_is_seen_in_two_ways_is_one() -> None:
    """Protects builds from being counted twice: work beside a client, and the same work after that."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.seen(1500, (1200, 300), (200, 100))
    log.go(1600, "c1")
    log.work(1615, 45)
    log.work(1700, 0)
    assert history_of(log.lines).kept == (Kept("work", MONDAY + 300, MONDAY + 1660),)


def test_a_terminal_shows_a_person() -> None:
    """The replay has to know which connections are no program's that came back by itself."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.come(0, "c2", "amos")
    log.terminal(1, "c1")
    log.go(10, "c1")
    log.go(10, "c2")
    assert [one.by_person for one in history_of(log.lines).connections] == [True, False]


def test_only_the_time_that_is_asked_for_counts() -> None:
    """Lines from before `since` are passed over, and are no damage."""
    history = history_of(day().lines, since=MONDAY + 2 * HOUR)
    assert history.begun == MONDAY + 2 * HOUR
    assert len(history.connections) == 1
    assert history.damaged == 0


def test_a_clock_that_is_set_back_does_not_turn_time_back() -> None:
    """Times of a history never decrease, and an event from the far future is damage."""
    log = WrittenLog()
    log.start(100)
    log.come(50, "c1", "amos")
    log.go(60, "c1", (0, 10))
    log.come(100 * 24 * HOUR, "c2", "amos")
    history = history_of(log.lines)
    assert [(one.opened, one.closed) for one in history.connections] == [(MONDAY + 100, MONDAY + 100)]
    assert history.damaged == 2


def _is_sound(history: History) -> bool:
    spans = [(one.begun, one.ended) for one in history.awake]
    spans += [(one.begun, one.ended) for one in history.kept]
    spans += [(one.opened, one.closed) for one in history.connections]
    spans += [span for one in history.connections for span in one.uses or ()]
    in_order = all(one.ended <= other.begun for one, other in pairwise(history.awake))
    return in_order and all(begin <= end for begin, end in spans)


LINES = day().lines

mangled = st.one_of(
    st.sampled_from(LINES),
    st.builds(
        lambda line, place, data: line[:place] + data + line[place + len(data) :],
        st.sampled_from(LINES),
        st.integers(0, 200),
        st.binary(max_size=8),
    ),
    st.builds(lambda line, place: line[:place], st.sampled_from(LINES), st.integers(0, 200)),
    st.binary(max_size=100),
    st.builds(lambda depth: b"[" * depth, st.integers(0, 5000)),
    st.just(b'{"ts":"9999-99-99T99:99:99.999999Z","seq":1,"event":"idle.tick"}\n'),
    st.just(b'{"ts":"2026-01-05T00:00:00.000000Z","seq":2,"event":"client.use","conn":"c1","spans":[[5,1],[-1,2]]}\n'),
    st.just(b'{"ts":"2026-01-05T00:00:00.000000Z","seq":2,"event":"machine.resumed","seconds":1e9}\n'),
)


@given(st.lists(mangled, max_size=40))
def test_damaged_lines_are_passed_over(lines: list[bytes]) -> None:
    """Protects the answer from a log that was cut, mixed or forged: no line raises, and the history stays sound."""
    history = history_of(lines)
    assert history.lines == len(lines)
    assert history.damaged <= len(lines)
    assert _is_sound(history)


@given(st.lists(st.binary(max_size=60).map(lambda data: b"\x00" + data + b"\n"), max_size=5), st.integers(0, 100))
def test_what_is_not_ours_changes_nothing(foreign: list[bytes], place: int) -> None:
    """Lines that are no JSON are counted, and the history is the same as without them."""
    lines = [*LINES[:place], *foreign, *LINES[place:]]
    history = history_of(lines)
    assert history.damaged == len(foreign)
    assert msgspec.structs.replace(history, lines=0, damaged=0) == msgspec.structs.replace(history_of(LINES), lines=0)


def test_the_history_ends_what_is_open() -> None:
    """What has not ended at the end of the log ends there."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.work(30, HOUR)
    log.write(60, IdleTick(idle=5, remaining=55, message=""))
    history = history_of(log.lines)
    assert history.awake == (Awake(MONDAY, MONDAY + 60, "open"),)
    assert [(one.closed, one.cut) for one in history.connections] == [(MONDAY + 60, True)]
    assert history.kept == (Kept("work", MONDAY + 15, MONDAY + 60),)


def test_nothing_is_an_empty_history() -> None:
    """An empty log is no error here."""
    assert history_of([]) == History(0.0, 0.0, (), (), ())


def test_when_a_client_did_not_keep_the_machine_up() -> None:
    """It did not from `client.quiet` to `client.used`; events of clients that the log does not know change nothing."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.quiet(100, "c1", 50)
    log.quiet(110, "c1", 60)
    log.write(120, ClientUsed(conn="c1", user="dev"))
    log.write(130, ClientUsed(conn="c1", user="dev"))
    log.quiet(140, "c9", 60)
    log.write(150, ClientUsed(conn="c9", user="dev"))
    log.go(200, "c1")
    (one,) = history_of(log.lines).connections
    assert [(begun - MONDAY, ended - MONDAY) for begun, ended in one.unused] == [(100, 120)]
