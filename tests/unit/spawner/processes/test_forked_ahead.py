"""When a process is forked before its use is known, and when it ends unused. The processes are real forks."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.spawner.processes.forked_ahead import SPARE_SECONDS, Forked, ForkedAhead
from pyssh_gateway.spawner.processes.server_process import LastWords
from tests.support import leaks, processes
from tests.support.spawning import ended, have_one_ahead
from tests.support.waiting import until

NOW = 1000.0


class Forks:
    """Starts processes that exit with the number that they are told, or with 99 if they are told nothing."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.error: OSError | None = None

    def __call__(self, link: socket.socket, words: LastWords) -> int:
        """Start a process."""
        if self.error is not None:
            raise self.error

        def work() -> int:
            packet, _ = protocol.receive(socket.socket(fileno=3))
            return int(packet or b"99")

        setup = Setup(descriptors=(NULL, NULL, words.fileno(), link.fileno()))
        self.pids.append(child.start(setup, work))
        return self.pids[-1]


@pytest.fixture
def forks() -> Iterator[Forks]:
    """Forks that are reaped at the end, with all descriptors closed."""
    with leaks.nothing_left_open():
        yield Forks()


def code_of(forked: Forked) -> int:
    """The exit code of a process that was told something."""
    forked.link.close()
    forked.words.close()
    return ended(forked.pid)


def reap(ahead: ForkedAhead) -> list[int]:
    """The exit codes of processes that were told nothing."""
    codes = []
    for pid in ahead.pids:
        codes.append(ended(pid))
        words = ahead.ended(pid)
        assert words is not None
        assert words.take() == []
    return codes


def test_one_is_forked_for_the_first_that_comes_and_told_once(forks: Forks) -> None:
    """Each use gets a process of its own, the first one the process that was forked ahead."""
    ahead = ForkedAhead(forks)
    assert ahead.next_at() is None
    ahead.expect(NOW)
    assert ahead.next_at() == NOW
    ahead.tick(NOW)
    ahead.tick(NOW)
    assert ahead.pids == set(forks.pids)
    first, second = ahead.tell(b"1", []), ahead.tell(b"2", [])
    assert ahead.pids == set()
    assert [first.pid, second.pid] == forks.pids
    assert (code_of(first), code_of(second)) == (1, 2)


def test_there_is_one_at_a_time(forks: Forks) -> None:
    """A thousand scanners cause one fork."""
    ahead = ForkedAhead(forks)
    for number in range(1000):
        ahead.expect(NOW + number / 1000)
        ahead.tick(NOW + number / 1000)
    assert len(forks.pids) == 1
    ahead.drop()
    assert reap(ahead) == [99]


def test_it_goes_a_minute_after_the_last_that_came(forks: Forks) -> None:
    """An unused process ends a minute after the last arrival, so that an idle server does not keep its memory."""
    ahead = ForkedAhead(forks)
    ahead.expect(NOW)
    ahead.tick(NOW)
    ahead.expect(NOW + 10)
    assert ahead.next_at() == NOW + 10 + SPARE_SECONDS
    ahead.tick(NOW + 9.9 + SPARE_SECONDS)
    assert processes.is_running(forks.pids[0])
    ahead.expect(NOW + 20)
    ahead.tick(NOW + 20 + SPARE_SECONDS)
    assert reap(ahead) == [99]
    assert ahead.next_at() is None


def test_the_next_one_lets_the_last_one_go_first(forks: Forks) -> None:
    """A used process is replaced, but later, so that the fork does not compete with it for processors."""
    ahead = ForkedAhead(forks)
    ahead.expect(NOW, 0.5)
    ahead.tick(NOW + 0.4)
    assert forks.pids == []
    ahead.tick(NOW + 0.5)
    assert len(forks.pids) == 1
    ahead.drop()
    assert reap(ahead) == [99]


def test_what_comes_too_early_is_alone(forks: Forks) -> None:
    """If no process is there, one is forked for the use, and no second one beside it, which would slow it down."""
    ahead = ForkedAhead(forks)
    ahead.expect(NOW)
    assert code_of(ahead.tell(b"1", [])) == 1
    ahead.tick(NOW)
    assert len(forks.pids) == 1


@pytest.mark.parametrize("is_known", [False, True])
def test_one_that_has_ended_is_told_nothing(forks: Forks, is_known: bool) -> None:
    """A login does not get a process that was killed, as for lack of memory, whether that is known or not."""
    ahead = ForkedAhead(forks)
    pid = have_one_ahead(ahead)
    os.kill(pid, signal.SIGKILL)
    if is_known:
        assert reap(ahead) == [-signal.SIGKILL]
    else:
        until(lambda: not processes.is_running(pid), what="its end")
    assert code_of(ahead.tell(b"1", [])) == 1
    if not is_known:
        assert reap(ahead) == [-signal.SIGKILL]
    assert ahead.pids == set()


def test_a_machine_without_room_is_asked_once(forks: Forks) -> None:
    """After a failed fork there is no retry for a while; a use in that time fails with the reason."""
    ahead = ForkedAhead(forks)
    forks.error = OSError(11, os.strerror(11))
    ahead.expect(NOW)
    ahead.tick(NOW)
    assert ahead.next_at() == NOW + SPARE_SECONDS
    with pytest.raises(OSError, match="temporarily unavailable"):
        ahead.tell(b"1", [])
    ahead.drop()


def test_descriptors_come_along(forks: Forks) -> None:
    """Descriptors reach the process, whether it was forked ahead or not."""

    def start(link: socket.socket, words: LastWords) -> int:
        def work() -> int:
            _, (number,) = protocol.receive(socket.socket(fileno=3))
            os.write(number, b"here")
            return 0

        return child.start(Setup(descriptors=(NULL, NULL, words.fileno(), link.fileno())), work)

    ahead = ForkedAhead(start)
    for is_ahead in (True, False):
        reader, writer = os.pipe()
        if is_ahead:
            have_one_ahead(ahead)
        forked = ahead.tell(b"x", [writer])
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            assert file.read() == b"here"
        assert code_of(forked) == 0


def test_those_that_do_nothing_any_more_are_killed_and_given_up(forks: Forks) -> None:
    """A stop does not wait for a process that its user has stopped: it is killed."""
    ahead = ForkedAhead(forks)
    pid = have_one_ahead(ahead)
    os.kill(pid, signal.SIGSTOP)
    ahead.kill()
    assert reap(ahead) == [-signal.SIGKILL]
    have_one_ahead(ahead)
    ahead.drop()
    left = ahead.pids
    ahead.give_up()
    assert ahead.pids == set()
    assert [ended(pid) for pid in left] == [99]
