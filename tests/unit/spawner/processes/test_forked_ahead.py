"""When a process is forked before it is known for whom, and when it goes again."""

import os
import socket
from collections.abc import Callable

import pytest

from pyssh_gateway.spawner.processes.forked_ahead import AGAIN_SECONDS, SPARE_SECONDS, Forked, ForkedAhead
from pyssh_gateway.spawner.processes.server_process import LastWords
from tests.support import leaks

NOW = 1000.0


class Forks:
    """Processes that are none: what matters is the end of their socket."""

    def __init__(self) -> None:
        self.theirs: list[socket.socket] = []
        self.error: OSError | None = None

    def __call__(self) -> Forked:
        """One more."""
        if self.error is not None:
            raise self.error
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        words = LastWords()
        words.close()
        return Forked(len(self.theirs), words, ours)

    def is_told_to_end(self, index: int) -> bool:
        """Whether the other end has closed."""
        return self.theirs[index].recv(1) == b""

    def close(self) -> None:
        """Have none any more."""
        for each in self.theirs:
            each.close()


@pytest.fixture
def forks() -> Forks:
    """None yet."""
    return Forks()


def checked(forks: Forks, test: Callable[[ForkedAhead], None]) -> None:
    """Run `test`, which leaves nothing open but what `forks` has."""
    with leaks.nothing_left_open():
        test(ForkedAhead(forks))
        forks.close()


def test_one_is_forked_for_the_first_stranger_and_taken_once(forks: Forks) -> None:
    """A first login finds a process, and no two logins find the same one."""

    def test(ahead: ForkedAhead) -> None:
        assert ahead.next_at() is None
        ahead.expect(NOW)
        assert ahead.next_at() == NOW
        forked = ahead.tick(NOW)
        assert forked is not None
        assert ahead.tick(NOW) is None
        assert ahead.take() is forked
        assert ahead.take() is None
        forked.link.close()

    checked(forks, test)


def test_there_is_one_at_a_time(forks: Forks) -> None:
    """A thousand scanners have one process forked."""

    def test(ahead: ForkedAhead) -> None:
        for number in range(1000):
            ahead.expect(NOW + number / 1000)
            ahead.tick(NOW + number / 1000)
        assert len(forks.theirs) == 1
        ahead.drop()

    checked(forks, test)


def test_it_goes_a_minute_after_the_last_stranger(forks: Forks) -> None:
    """A server that nobody comes to does not keep its memory."""

    def test(ahead: ForkedAhead) -> None:
        ahead.expect(NOW)
        ahead.tick(NOW)
        ahead.expect(NOW + 10)
        assert ahead.next_at() == NOW + 10 + SPARE_SECONDS
        ahead.tick(NOW + 9.9 + SPARE_SECONDS)
        ahead.expect(NOW + 20)
        ahead.tick(NOW + 20 + SPARE_SECONDS)
        assert forks.is_told_to_end(0)
        assert ahead.next_at() is None
        assert ahead.take() is None

    checked(forks, test)


def test_the_next_one_lets_the_login_go_first(forks: Forks) -> None:
    """What was taken is replaced, but not while the login that took it needs the processors."""

    def test(ahead: ForkedAhead) -> None:
        ahead.expect(NOW)
        first = ahead.tick(NOW)
        assert first is ahead.take()
        assert first is not None
        first.link.close()
        ahead.expect(NOW, AGAIN_SECONDS)
        assert ahead.tick(NOW + AGAIN_SECONDS / 2) is None
        assert ahead.tick(NOW + AGAIN_SECONDS) is not None
        ahead.drop()

    checked(forks, test)


def test_a_login_that_comes_too_early_is_alone(forks: Forks) -> None:
    """What takes none because there is none forks its own: a second fork beside that would make it wait."""

    def test(ahead: ForkedAhead) -> None:
        ahead.expect(NOW)
        assert ahead.take() is None
        assert ahead.tick(NOW) is None
        ahead.drop()

    checked(forks, test)


def test_one_that_has_ended_is_not_given_away(forks: Forks) -> None:
    """A login is not given to a process that was killed, say for want of memory."""

    def test(ahead: ForkedAhead) -> None:
        ahead.expect(NOW)
        forked = ahead.tick(NOW)
        assert forked is not None
        ahead.ended(forked.pid + 1)
        ahead.ended(forked.pid)
        assert ahead.take() is None

    checked(forks, test)


def test_a_machine_without_room_is_asked_once(forks: Forks) -> None:
    """The login itself says what is wrong; until then nothing turns in circles."""

    def test(ahead: ForkedAhead) -> None:
        forks.error = OSError(11, os.strerror(11))
        ahead.expect(NOW)
        assert ahead.tick(NOW) is None
        assert ahead.next_at() == NOW + SPARE_SECONDS
        ahead.drop()

    checked(forks, test)
