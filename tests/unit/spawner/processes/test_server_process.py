"""The server's own processes: their last words, and what is left when one can't be started."""

import errno
import os
import socket

import pytest

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes.server_process import WORDS_BYTES, LastWords
from tests.support import leaks
from tests.support.spawner_tables import USER, Spawner, spawner

__all__ = ["spawner"]


def test_last_words_are_printable_lines() -> None:
    """Last words of a compromised process are escaped, so that our terminal obeys none of them."""
    with leaks.nothing_left_open():
        words = LastWords()
        os.write(words.fileno(), b"one\n\x1b[2Jtwo\r\n\xff\n")
        assert words.take() == ["one", "\\x1b[2Jtwo", "\\ufffd"]


def test_there_is_a_bound_on_last_words() -> None:
    """Last words can't fill memory, whichever way they are written."""
    words = LastWords()
    os.write(words.fileno(), b"x" * WORDS_BYTES)
    with pytest.raises(PermissionError):
        os.write(words.fileno(), b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(words.fileno(), 2 * WORDS_BYTES)
    assert words.take() == ["x" * WORDS_BYTES]


def test_one_that_says_nothing_has_no_lines() -> None:
    """A process that says nothing, like most, has no lines."""
    assert LastWords().take() == []


@pytest.mark.parametrize("step", ["memfd_create", "socketpair", "fork"])
@pytest.mark.parametrize(
    "asked", [protocol.StartPreauth(1), protocol.StartPostauth(1, USER.pw_name)], ids=lambda each: type(each).__name__
)
def test_one_that_cannot_be_started_is_refused_and_leaves_nothing(
    asked: protocol.StartPreauth | protocol.StartPostauth, step: str, spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full process table, or no free descriptor, refuses the request; the next one succeeds when there is room."""

    def full(*_arguments: object, **_rest: object) -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with leaks.nothing_left_open():
        with monkeypatch.context() as patch:
            patch.setattr(socket if step == "socketpair" else os, step, full)
            spawner.monitor.answer(asked)
        assert spawner.reports == [
            protocol.Refused(1, "can't start a process: Resource temporarily unavailable"),
        ]
    assert not spawner.servers.running
    spawner.monitor.answer(asked)
    assert isinstance(spawner.reports[1], protocol.Spawned)
    spawner.monitor.answer(protocol.Kill(2, 1))
    spawner.until(lambda: len(spawner.reports) == 3, "its end")
