"""A child that can't begin, or whose work fails, ends, and never runs the spawner's code again."""

import fcntl
import os
import pwd
import resource
import signal
import time
from collections.abc import Iterator

import pytest

from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from tests.support import leaks
from tests.support.spawning import ended
from tests.support.waiting import PATIENCE

IS_ROOT = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open, or changes the blocked signals."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with leaks.nothing_left_open():
        yield
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def broken(*_arguments: object) -> None:
    """A step that fails."""
    raise OSError("broken")


STEPS = {
    "signals": (signal, "set_wakeup_fd"),
    "session": (os, "setsid"),
    "copies": (fcntl, "fcntl"),
    "places": (os, "dup2"),
    "closing": (os, "closerange"),
    "limits": (resource, "setrlimit"),
    "mask": (os, "umask"),
    "directory": (os, "chdir"),
    "groups": (os, "initgroups"),
    "account": (child, "become"),
}


@pytest.mark.parametrize("step", [step for step in STEPS if IS_ROOT or step not in {"groups", "account"}])
def test_a_step_that_fails_ends_the_child(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If any step fails, the work is not begun, above all not as root, and the spawner does not run twice."""
    holder, name = STEPS[step]
    said: list[str] = []
    reader, writer = os.pipe()

    def complain(error: BaseException) -> None:
        said.append(str(error))
        os.write(writer, b"complained")

    setup = Setup(
        descriptors=(NULL, NULL, NULL),
        kept=frozenset({writer}),
        inherited=Inherited(resource.getrlimit(resource.RLIMIT_NOFILE)),
        account=USER,
        failed=42,
        complain=complain,
    )
    with monkeypatch.context() as patch:
        patch.setattr(holder, name, broken)
        pid = child.start(setup, lambda: os.write(writer, b"worked") and 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "complained"
    assert ended(pid) == 42
    assert said == []  # the complaint was made in the child


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), SystemExit(0), MemoryError()], ids=repr)
def test_work_that_raises_ends_the_child(error: BaseException) -> None:
    """Any exception in the work ends the child, with an exit code for failure."""

    def work() -> int:
        raise error

    assert ended(child.start(Setup(descriptors=(NULL, NULL, NULL), failed=7), work)) == 7


def test_a_complaint_that_fails_ends_the_child() -> None:
    """An error in the complaint, as when its output is closed, also ends the child."""
    setup = Setup(descriptors=(NULL, NULL, NULL), failed=9, complain=broken)
    assert ended(child.start(setup, lambda: int("x"))) == 9


def test_the_exit_code_is_the_works() -> None:
    """The work's return value is the exit code."""
    assert [ended(child.start(Setup(), lambda code=code: code)) for code in (0, 3, 255)] == [0, 3, 255]  # type: ignore[misc]


@pytest.mark.parametrize("ready", [False, True])
def test_without_room_for_a_process_nothing_is_left(ready: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the fork fails, the caller gets EAGAIN, no descriptor stays open, and signals are unblocked again."""

    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(OSError, match="temporarily unavailable"):
        (child.begin if ready else child.start)(Setup(), lambda: 0)


def test_a_traceback_is_whole_and_what_was_printed_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """The monitor's bugs can be found: a complete traceback and earlier output are in the server's output."""

    def work() -> int:
        os.write(1, b"printed\n")
        raise RuntimeError("a bug of the test's")

    assert ended(child.start(Setup(complain=child.with_traceback), work)) == 1
    out, err = capfd.readouterr()
    assert "printed\n" in out
    assert "in work" in err
    assert "RuntimeError: a bug of the test's" in err


def test_many_at_once_are_each_one_child() -> None:
    """Thirty children started at once all run, and each does its work once."""
    reader, writer = os.pipe()
    pids = [child.start(Setup(kept=frozenset({writer})), lambda: os.write(writer, b"x") and 0) for _ in range(30)]
    os.close(writer)
    deadline = time.monotonic() + PATIENCE
    assert [ended(pid) for pid in pids] == [0] * 30
    assert time.monotonic() < deadline
    with os.fdopen(reader) as answer:
        assert answer.read() == "x" * 30
