"""What a gateway may have, whatever it asks: requests of any shape, and what becomes of processes on their way."""

import contextlib
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.event_queue import News
from pyssh_gateway.spawner.link import Link
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.reaping import next_ended
from pyssh_gateway.spawner.requests import (
    SAMPLES_WAITING,
    STARTING_PER_ACCOUNT,
    ForProcesses,
    Permissions,
    Requests,
)
from pyssh_gateway.spawner.sampling import Sampler
from tests.support import leaks, processes
from tests.support.spawning import INHERITED
from tests.support.waiting import until

USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


class Spawner:
    """Requests without a gateway: what would be reported is kept, with no descriptors."""

    def __init__(self) -> None:
        self.reports: list[protocol.Report] = []
        self.pids: set[int] = set()
        users = frozenset({USER.pw_name})
        sampler = Sampler(lambda _spawner: set(), lambda: Link.closed(News()))
        self.requests = Requests(
            Permissions(users, {}), INHERITED, report=self._report, say=pytest.fail, sampler=sampler
        )

    def _report(self, report: protocol.Report, descriptors: list[int]) -> None:
        protocol.encode(report)
        process.close(descriptors)
        self.reports.append(report)
        if isinstance(report, protocol.Spawned):
            self.pids.add(report.pid)

    def turn(self) -> None:
        """One turn of the loop, which does not sleep."""
        for request in self.requests.next_round():
            self.requests.do(request)
        for descriptor in self.requests.pending:
            if process_is_ready(descriptor):
                self.requests.ready(descriptor)
        self.requests.tick(time.monotonic())
        self.reap()

    def reap(self) -> None:
        """Take every child that has ended."""
        while (ended := next_ended(self.requests.signals, time.monotonic())) is not None:
            self.requests.reaped(*ended)

    def until(self, come: Callable[[], object], what: str) -> None:
        """Turn until something has come."""

        def look() -> object:
            self.turn()
            return come()

        until(look, what=what)

    def settle(self) -> None:
        """Let everything that was begun come to its end."""

        def settled() -> bool:
            self.turn()
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            gone = {report.id for report in self.reports if isinstance(report, protocol.Exited)}
            begun = {report.id for report in self.reports if isinstance(report, protocol.Spawned)}
            return not self.requests.pending and not self.requests.has_turns and begun <= gone

        until(settled, what="end of all processes")


def process_is_ready(descriptor: int) -> bool:
    """Whether the other end of a pipe has been closed."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """One that is left with nothing running and nothing open."""
    with leaks.nothing_left_open():
        one = Spawner()
        yield one
        one.settle()


def plan(script: bytes) -> LaunchPlan:
    """A shell script as `USER`."""
    return LaunchPlan(USER.pw_name, b"/bin/sh", (b"sh", b"-c", script), {b"PATH": b"/usr/bin:/bin"}, b"/", None, False)


# -- anything that may be asked --------------------------------------------------------------------------------------

numbers = st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 70) | st.sampled_from([0xFFFF, 0x10000, 2**31, 2**32])
texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from([USER.pw_name, "root", "\0", "a\0b", ""])
binaries = st.binary(max_size=8) | st.sampled_from([b"/bin/true", b"", b"\0", b"A=B", b"/dev/tty"])
leaves = st.none() | st.booleans() | numbers | texts | binaries | st.floats(allow_nan=False)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=4)


def nearly(good: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Mostly of the right type."""
    return st.one_of(good, good, good, good, anything)


terminals = st.fixed_dictionaries(
    {
        "term": nearly(texts),
        **{name: nearly(numbers) for name in ("columns", "rows", "width", "height")},
        "modes": nearly(st.lists(st.tuples(numbers, numbers), max_size=3)),
    }
)
plans = st.fixed_dictionaries(
    {
        "user": nearly(st.just(USER.pw_name)),
        "executable": nearly(binaries),
        "argv": nearly(st.lists(binaries, max_size=3)),
        "env": nearly(st.dictionaries(binaries, binaries, max_size=3)),
        "cwd": nearly(binaries),
        "terminal": nearly(st.none() | terminals),
        "greet": st.booleans(),
    },
    optional={
        "builtin": nearly(st.sampled_from(["", "sftp"])),
        "peer": nearly(texts),
        **{name: nearly(binaries) for name in ("xauth", "banner", "rc_input")},
        "user_rc": nearly(st.booleans()),
    },
)
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["spawn", "spawn", "signal", "read-keys", "make-sockets", "run-hook", "suspend"])},
    optional={
        "id": nearly(numbers),
        "plan": nearly(plans),
        "number": nearly(numbers),
        "path": nearly(texts),
        "user": nearly(texts),
        "index": nearly(numbers),
    },
)


@settings(max_examples=150)
@given(messages)
def test_whatever_is_asked_is_no_request_or_is_answered(message: dict[str, object]) -> None:
    """Protects the spawner from a gateway that was taken over: nothing raises but the decoding, in its one way."""
    try:
        request = protocol.decode_request(msgspec.msgpack.encode(message))
    except protocol.ProtocolError:
        return
    spawner = Spawner()
    assert isinstance(request, ForProcesses)  # the other kinds are not among the messages of this test
    spawner.requests.answer(request)
    spawner.settle()
    unasked = protocol.Exited | protocol.News | protocol.Reread
    answered = [report.id for report in spawner.reports if not isinstance(report, unasked)]
    assert answered == ([] if isinstance(request, protocol.Signal) else [request.id])


# -- processes on their way ------------------------------------------------------------------------------------------


def test_only_so_many_of_an_account_are_on_their_way(spawner: Spawner) -> None:
    """Protects others' turns: an account's next process is begun when one of those before it is ready."""
    for number in range(3 * STARTING_PER_ACCOUNT):
        spawner.requests.answer(protocol.Spawn(number, plan(b"exec sleep 1000")))
    while spawner.requests.has_turns:
        for request in spawner.requests.next_round():
            spawner.requests.do(request)
    assert len(spawner.requests.pending) == STARTING_PER_ACCOUNT
    spawner.until(lambda: len(spawner.pids) == 3 * STARTING_PER_ACCOUNT, "start of all")


def test_a_signal_waits_for_its_process(spawner: Spawner) -> None:
    """Protects signals that come at once: they are sent when the process leads its group and is the account."""
    spawner.requests.answer(protocol.Spawn(1, plan(b"exec sleep 1000")))
    spawner.requests.answer(protocol.Signal(1, signal.SIGTERM))
    spawner.until(lambda: len(spawner.reports) == 2, "end of the process")
    _, exited = spawner.reports
    assert exited == protocol.Exited(1, None, signal.SIGTERM, core_dumped=False)


def test_a_process_that_dies_on_its_way_has_been_there(spawner: Spawner) -> None:
    """Protects the session: its start is reported before its end, and its time to become ready is not waited for."""
    spawner.requests.answer(protocol.Spawn(1, plan(b"exec sleep 1000")))
    for request in spawner.requests.next_round():
        spawner.requests.do(request)
    (pid,) = {child.pid for child in children_of(os.getpid())}
    os.kill(pid, signal.SIGKILL)
    spawner.until(lambda: len(spawner.reports) == 2, "reports")
    assert isinstance(spawner.reports[0], protocol.Spawned)
    assert spawner.reports[1] == protocol.Exited(1, None, signal.SIGKILL, core_dumped=False)


def test_a_process_that_does_not_get_ready_counts_as_started(spawner: Spawner) -> None:
    """Protects the account's other sessions from one that hangs on its way: its place is free after a while."""
    spawner.requests.answer(protocol.Spawn(1, plan(b"exec sleep 1000")))
    for request in spawner.requests.next_round():
        spawner.requests.do(request)
    assert spawner.requests.pending
    spawner.requests.tick(time.monotonic() + process.READY_SECONDS)
    assert not spawner.requests.pending
    assert isinstance(spawner.reports[0], protocol.Spawned)


def test_without_a_gateway_nothing_on_its_way_is_kept(spawner: Spawner) -> None:
    """Protects descriptors: what a gateway that crashed had asked for finds its pipes closed."""
    spawner.requests.answer(protocol.Spawn(1, plan(b"cat")))
    for request in spawner.requests.next_round():
        spawner.requests.do(request)
    spawner.requests.forget(hang_up=True)
    assert spawner.requests.pending == []
    spawner.until(lambda: not children_of(os.getpid()), "end of the process")
    assert spawner.reports == []


@pytest.mark.skipif(os.geteuid() != 0, reason="others than root signal without a helper")
def test_a_leader_is_not_reaped_before_the_helper_that_signals_it(spawner: Spawner) -> None:
    """Protects other groups: as long as a helper may signal a number, the number is nobody else's."""
    spawner.requests.answer(protocol.Spawn(1, plan(b"exec sleep 1000")))
    spawner.until(lambda: spawner.pids, "start")
    (leader,) = spawner.pids
    signals = spawner.requests.signals

    def stopped() -> int:
        """A helper that was stopped, as its account may do, before it had done its work."""
        signals.send(leader, USER.pw_uid, signal.SIGWINCH, time.monotonic())
        (one,) = signals.helpers
        os.kill(one, signal.SIGSTOP)
        seen = os.waitid(os.P_PID, one, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if seen is not None and seen.si_code == os.CLD_STOPPED:
            return one
        spawner.reap()
        return 0

    helper = until(stopped, what="helper that is stopped")
    os.kill(leader, signal.SIGKILL)
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    assert next_ended(signals, time.monotonic()) is None  # and the helper is killed
    os.waitid(os.P_PID, helper, os.WEXITED | os.WNOWAIT)
    first = next_ended(signals, time.monotonic())
    assert first is not None
    assert first[0] == helper
    spawner.requests.reaped(*first)
    second = next_ended(signals, time.monotonic())
    assert second is not None
    assert second[0] == leader
    spawner.requests.reaped(*second)


def children_of(pid: int) -> list[processes.Process]:
    """The children of `pid`."""
    return [child for child in processes.descendants(pid) if child.parent == pid]


# -- samples ----------------------------------------------------------------------------------------------------------


def test_samples_asked_for_together_are_taken_one_after_the_other(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a build from a stop: what looks at the same moment for another reason must not cost it its sample."""
    taken: list[int] = []
    begin = Sampler.begin

    def noted(sampler: Sampler, number: int, now: float) -> None:
        assert not sampler.busy
        taken.append(number)
        begin(sampler, number, now)

    monkeypatch.setattr(Sampler, "begin", noted)
    for number in range(SAMPLES_WAITING + 1):
        spawner.requests.answer(protocol.SampleActivity(number))
    spawner.until(lambda: len(taken) == SAMPLES_WAITING, "all samples")
    assert taken == list(range(SAMPLES_WAITING))
    assert [report.id for report in spawner.reports if isinstance(report, protocol.Refused)] == [SAMPLES_WAITING]
