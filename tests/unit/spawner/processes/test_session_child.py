"""A session's process before it is assigned. Its later state is tested in `test_process`, forked ahead and not."""

import os
import pwd
import signal

import pytest

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc.spawner import MAX_MESSAGE
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.process import SpawnError, start
from pyssh_gateway.spawner.processes.session_child import NAME, NOT_YET
from tests.support import leaks, processes
from tests.support.spawning import ended, have_one_ahead, ready, session_children

USER = pwd.getpwuid(os.geteuid())


def plan(*command: bytes) -> LaunchPlan:
    """The plan of a command of this account."""
    return LaunchPlan(USER.pw_name, command[0], command, {}, b"/", None, greet=False)


def test_one_that_waits_has_a_name_and_a_socket(capfd: pytest.CaptureFixture[str]) -> None:
    """A waiting process has a name for `ps`, and of the server's descriptors only the socket for its instructions."""
    with leaks.nothing_left_open():
        starts = session_children()
        pid = have_one_ahead(starts.ahead)
        found = processes.find(pid)
        assert found is not None
        assert (found.name, found.session) == (NAME, pid)
        kinds = sorted(target.partition(":")[0] for target in processes.descriptors(pid))
        assert kinds == ["/dev/null", "/dev/null", "/memfd", "socket"]
        starts.ahead.drop()
        assert ended(pid) == 0
        words = starts.ahead.ended(pid)
        assert words is not None
        assert words.take() == []
    assert capfd.readouterr() == ("", "")


def test_a_stop_that_comes_meanwhile_is_not_for_it() -> None:
    """Signals to all of the server's processes do not end a waiting one, and the session gets the defaults again."""
    with leaks.nothing_left_open():
        starts = session_children()
        pid = have_one_ahead(starts.ahead)
        for number in NOT_YET:
            os.kill(pid, number)
        child = ready(start(plan(b"/bin/cat", b"/proc/self/status", b"/proc/self/comm"), USER, starts.begin))
        assert child.pid == pid
        said = _all(child.descriptors)
        status = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
        ours = sum(1 << number - 1 for number in signal.valid_signals())
        assert [int(status[name], 16) & ours for name in ("SigBlk", "SigIgn")] == [0, 0]
        assert said.endswith("\ncat\n")
        assert ended(pid) == 0


def _all(descriptors: list[int]) -> str:
    """The output of a process; its descriptors are closed."""
    for number in (descriptors[0], descriptors[2]):
        os.close(number)
    with os.fdopen(descriptors[1], "rb") as output:
        return output.read().decode()


def test_a_bug_on_the_way_is_said_in_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug before the session's start ends it with a sentence, as a missing shell does, and closes its descriptors."""

    def fails(_uid: int) -> None:
        raise RuntimeError("a bug of the test's")

    monkeypatch.setattr(process, "claim_login", fails)
    with leaks.nothing_left_open():
        child = ready(start(plan(b"/bin/true"), USER, session_children().begin))
        for number in child.descriptors[:2]:
            os.close(number)
        with os.fdopen(child.descriptors[2], "rb") as errors:
            assert errors.read() == b"pyssh-gateway: can't start the session: a bug of the test's\n"
        assert ended(child.pid) == 1


def test_a_plan_that_is_too_large_is_refused() -> None:
    """A plan that fits no message is refused, without a process or a descriptor left."""
    with leaks.nothing_left_open(), pytest.raises(SpawnError, match="can't start a process: message of"):
        start(plan(b"/bin/true", bytes(MAX_MESSAGE)), USER, session_children().begin)


def test_the_next_signal_is_the_sessions() -> None:
    """After the start, SIGTERM ends a session's process like any other."""
    with leaks.nothing_left_open():
        starts = session_children()
        have_one_ahead(starts.ahead)
        child = ready(start(plan(b"/bin/sleep", b"1000"), USER, starts.begin))
        os.kill(child.pid, signal.SIGTERM)
        assert ended(child.pid) == -signal.SIGTERM
        for number in child.descriptors:
            os.close(number)
